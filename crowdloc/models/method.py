"""What a method is: one file with one class, and one line of the registry.

A method looks at frames at fixed offsets from the keyframe, encodes each of them once, and decodes a window of encoded
frames into a prediction. Training, inference, evidence and tables know no more of it than this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from crowdloc.datasets.base import ClipDataset

Maps = tuple[Tensor, ...]  # what a frame is encoded into, e.g. one map for each stride
YIELDS = ("points", "count")


class Sample(NamedTuple):
    """A training batch, a pure function of (seed, step). T frames, in the order of the method's offsets.

    Either `images` or, behind a frozen backbone whose maps are kept, `maps` is given. Points and boxes lie in pixels of
    the crop and are those inside it: `points[b][t]` is (n, 2), `boxes[b][t]` (n, 4) of the same heads.
    """

    images: Tensor | None  # (B, T, 3, h, w), normalised
    maps: Maps | None  # each (B, T, C, H, W): what `encode` gives
    points: list[list[Tensor]]
    boxes: list[list[Tensor]] | None
    size: tuple[int, int]  # h, w of the crop in pixels


class Held:
    """A sample inside something that no library looks into."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample


@dataclass(frozen=True)
class Prediction:
    """What a method says of one image, in its pixels.

    `points` (n, 2) and `scores` (n,) in falling order of the scores; `count` where the method counts without locating.
    """

    points: NDArray[np.float64] | None = None
    scores: NDArray[np.float64] | None = None
    count: float | None = None


class Method(nn.Module):
    """Base of all methods.

    Attributes:
        offsets: frames that the method looks at, relative to the keyframe, in time; (-1, 0, 1) is the paper's clip.
        yields: "points", "count" or both: which evidence is kept and in which tables the method stands.
        statistics_until: share of a training's steps after which batch norms use their running statistics. While they
            use those of a batch, a sum over its maps is nearly the same whatever its images hold: networks that count
            by a sum need an end of the training without.
        keeps_maps: whether what a frozen backbone makes of the frames is kept on disk; else it runs when asked for.
        run_seed: every random draw of the network is a function of it, a module's name and the training step.
    """

    offsets: tuple[int, ...] = (0,)
    yields: ClassVar[tuple[str, ...]] = ("points",)
    statistics_until: ClassVar[float] = 1.0
    keeps_maps: ClassVar[bool] = True
    run_seed: int = 0

    @property
    def keyframe(self) -> int:
        """Place of the keyframe in a window."""
        return self.offsets.index(0)

    def prepare(self, dataset: ClipDataset) -> None:
        """Called once before training, after initialisation: what depends on the training data (priors, biases)."""

    def loss(self, sample: Sample, step: int) -> dict[str, Tensor]:
        """The terms of the loss, each a scalar; their sum is minimised, each is logged."""
        raise NotImplementedError

    def step_loss(self, held: Held, step: int) -> dict[str, Tensor]:
        """`loss` of a sample that is handed over unseen: Fabric would round its points to the training's precision."""
        return self.loss(held.sample, step)

    def encode(self, images: Tensor) -> Maps:
        """What is computed once for each frame: normalised images (n, 3, h, w) -> maps, each (n, C, H, W)."""
        raise NotImplementedError

    def decode(self, window: Sequence[Maps], size: tuple[int, int]) -> Prediction:
        """Encoded frames (each map (C, H, W)) at `offsets` from a keyframe of height and width `size` -> prediction."""
        raise NotImplementedError

    def features(self, sample: Sample) -> Maps:
        """Encoded frames of a batch, each map (B, T, C, H, W): kept ones, or `encode` of the images."""
        if sample.maps is not None:
            return sample.maps
        if sample.images is None:
            raise ValueError("a sample holds either images or maps")
        shape = sample.images.shape[:2]
        return tuple(maps.unflatten(0, shape) for maps in self.encode(sample.images.flatten(0, 1)))

"""What every localization network on a map shares: backbone per frame, head on one feature map, loss and peaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crowdloc.attention import module_seed
from crowdloc.datasets.base import ClipDataset
from crowdloc.models.decoding import find_peaks
from crowdloc.models.method import Maps, Method, Prediction, Sample
from crowdloc.models.parts.frontend import VGG16Frontend
from crowdloc.models.parts.head import LocalizationHead
from crowdloc.models.parts.layers import pad_to_multiple
from crowdloc.models.targets import CROSS_PIXELS, POSITIVE_WEIGHT, cross_target, localization_loss


class Localizer(Method):
    """A network from a window of frames to the localization map of its keyframe.

    Subclasses say which frames they look at and turn their features into the input of the head.

    Args:
        width: share of the paper's channels, in the backbone.
        feature_width, head_width: the same for the backbone's last convolution and in the head; None: as `width`.
        norm: "none" as in the paper, or "batch" after every convolution and at the head's input.
        positive_weight: weight of head pixels in the loss (paper §IV-C: 50).
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        feature_width: float | None = None,
        head_width: float | None = None,
        norm: str = "none",
        positive_weight: float = POSITIVE_WEIGHT,
    ) -> None:
        super().__init__()
        self.positive_weight = positive_weight
        self.backbone = VGG16Frontend(width=width, feature_width=feature_width, norm=norm)
        self.channels = self.backbone.out_channels
        self.head = LocalizationHead(self.channels, width=width if head_width is None else head_width, norm=norm)

    def prepare(self, dataset: ClipDataset) -> None:
        """Start the head at the best constant answer for the data."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(module_seed(self.run_seed, "head.last", None))
            self.head.reset_last(head_share(dataset), self.positive_weight)

    def encode(self, images: Tensor) -> Maps:
        """Normalised frames (n, 3, h, w) -> one map (n, C, ceil(h/8), ceil(w/8))."""
        return self.backbone(pad_to_multiple(images))

    def aggregate(self, features: Tensor, step: int | None) -> Tensor:
        """Features of the window (B, T, C, H, W) -> input of the head (B, C, H, W)."""
        raise NotImplementedError

    def localize(self, features: Tensor, *, step: int | None = None) -> Tensor:
        """Features (B, T, C, H, W) -> logits (B, 1, 8H, 8W). `step` is the training step, None when testing."""
        return self.head(self.aggregate(features, step))

    def forward(self, clips: Tensor, *, step: int | None = None) -> Tensor:
        """Normalised clips (B, T, 3, h, w) -> logits (B, 1, h, w) of the keyframe, at the size of the input."""
        batch, frames, _, height, width = clips.shape
        if frames != len(self.offsets):
            raise ValueError(f"clips have {frames} frames but {type(self).__name__} looks at {len(self.offsets)}")
        features = self.encode(clips.flatten(0, 1))[0].unflatten(0, (batch, frames))  # (B, T, C, H, W)
        return self.localize(features, step=step)[..., :height, :width]

    def loss(self, sample: Sample, step: int) -> dict[str, Tensor]:
        """Weighted cross entropy of the keyframe's map (paper §IV-C), mean over pixels and batch."""
        height, width = sample.size
        logits = self.localize(self.features(sample)[0], step=step)[..., :height, :width]
        heads = [frames[self.keyframe].numpy() for frames in sample.points]
        target = torch.from_numpy(np.stack([cross_target(points, height, width) for points in heads]))
        target = target.to(logits.device)
        return {"localization": localization_loss(logits.float(), target, positive_weight=self.positive_weight)}

    def probability(self, window: Sequence[Maps], size: tuple[int, int]) -> NDArray[np.float32]:
        """Localization map (h, w) of the keyframe of a window of encoded frames, values in [0, 1]."""
        height, width = size
        logits = self.localize(torch.stack([maps[0] for maps in window])[None])
        return torch.sigmoid(logits[0, 0, :height, :width].float()).cpu().numpy()

    def decode(self, window: Sequence[Maps], size: tuple[int, int]) -> Prediction:
        """Peaks of the localization map."""
        points, scores = find_peaks(self.probability(window, size))
        return Prediction(points, scores)

    def extra_repr(self) -> str:
        return f"offsets={self.offsets}"


def head_share(dataset: ClipDataset) -> float:
    """Share of the pixels that the targets mark as heads, from the number of heads and the size of the first image."""
    height, width = dataset.image(0).shape[:2]
    heads = max(1, sum(len(frame.points) for frame in dataset.frames))
    return min(0.5, CROSS_PIXELS * heads / (len(dataset) * height * width))


def parameter_count(model: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def initialise(model: nn.Module, seed: int) -> None:
    """PyTorch's default initialisation as a function of the seed alone; the head starts at its constant answer.

    Every module draws from its own generator, so adding a module to a network leaves the others' weights as they are.
    """
    for name, module in model.named_modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is None:
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(module_seed(seed, name, None))
            reset()
    for name, module in model.named_modules():
        if isinstance(module, LocalizationHead):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(module_seed(seed, f"{name}.last", None))
                module.reset_last()

"""What every network that counts on a density map shares: targets, start of the last layer, loss, and the sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crowdloc.attention import module_seed
from crowdloc.datasets.base import ClipDataset
from crowdloc.models.density import cells, density_map
from crowdloc.models.method import Maps, Method, Prediction, Sample
from crowdloc.models.parts.frontend import VGG16Frontend
from crowdloc.models.parts.layers import pad_to_multiple, scaled

_PLAN = (512, 512, 512, 256, 128, 64)


class DensityCounter(Method):
    """A network from a window of frames to the density map of its keyframe, whose sum is the count.

    Subclasses set `stride` (pixels per cell) and `output` (their last convolution, which `heads` applies), and turn
    encoded frames into maps. Shared deviations from the published networks: what the last convolution gives is in
    units of the data's mean density (published codes take hundredths of a head), and so are errors, whose mean over
    cells is minimised where most take the sum. Densities are a thousandth of a head: without the unit one step of Adam
    would move the map by more than there is to learn, and some gradients would be smaller than its ε. Targets are made
    from the heads inside the crop.

    Attributes:
        unit: heads per cell for which `output` gives 1; saved with the weights.

    Args:
        sigma: standard deviation of the target's Gaussians, in pixels of the input; None: geometry-adaptive.
    """

    yields: ClassVar[tuple[str, ...]] = ("count",)
    statistics_until: ClassVar[float] = 0.5
    stride: ClassVar[int] = 8
    output: nn.Conv2d
    unit: Tensor

    def __init__(self, *, sigma: float | None) -> None:
        super().__init__()
        self.sigma = sigma
        self.register_buffer("unit", torch.ones(()))

    def prepare(self, dataset: ClipDataset) -> None:
        """Start the last convolution at the best constant answer for the data."""
        height, width = dataset.image(0).shape[:2]
        heads = sum(len(frame.points) for frame in dataset.frames)
        self.reset_output(heads / (len(dataset) * int(np.prod(cells((height, width), self.stride)))))

    def reset_output(self, density: float) -> None:
        """Make `density` heads per cell the unit (if there are any) and start near such a map: weights N(0, 0.01).

        Channels of the output share it. A network that starts far from it spends its first hundreds of steps on getting
        there.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(module_seed(self.run_seed, "output", None))
            nn.init.normal_(self.output.weight, std=0.01)
        self.unit.fill_(density or 1.0)
        nn.init.constant_(self.output.bias, (1.0 if density else 0.0) / self.output.out_channels)  # type: ignore[arg-type]

    def heads(self, features: Tensor) -> Tensor:
        """The last convolution, in heads per cell: (n, C, H, W) -> (n, out channels, H, W), float32."""
        return self.output(features).float() * self.unit

    def error(self, found: Tensor, target: Tensor) -> Tensor:
        """Squared error of maps (…, H, W) in squared units, mean over cells and clips."""
        return squared_error(found, target.to(found.device)) / self.unit.square()

    def density(self, features: Tensor) -> Tensor:
        """Encoded frames (B, T, C, H, W) -> heads per cell (B, H, W) in the keyframe."""
        raise NotImplementedError

    def loss(self, sample: Sample, step: int) -> dict[str, Tensor]:
        """Squared error of the keyframe's map, mean over cells and clips."""
        found = self.density(self.features(sample)[0])
        return {"density": self.error(found, self.target(sample, self.keyframe))}

    def target(self, sample: Sample, frame: int) -> Tensor:
        """Density maps (B, H, W) of the frames at one place of the windows."""
        heads = [frames[frame].cpu().numpy() for frames in sample.points]
        maps = [density_map(points, sample.size, stride=self.stride, sigma=self.sigma) for points in heads]
        return torch.from_numpy(np.stack(maps))

    def keyframe_density(self, window: Sequence[Maps], size: tuple[int, int]) -> NDArray[np.float32]:
        """Heads per cell (H, W) in the keyframe of a window of encoded frames."""
        rows, columns = cells(size, self.stride)
        found = self.density(torch.stack([maps[0] for maps in window])[None])
        return found[0, :rows, :columns].detach().float().cpu().numpy()

    def decode(self, window: Sequence[Maps], size: tuple[int, int]) -> Prediction:
        """The sum of the density map."""
        return Prediction(count=float(self.keyframe_density(window, size).sum(dtype=np.float64)))

    def extra_repr(self) -> str:
        return f"offsets={self.offsets}, sigma={self.sigma}"


class DensityBackEnd(nn.Module):
    """CSRNet's six convolutions behind VGG16, which LSTN and EPF took over: (n, C, H, W) -> (n, 64·width, H, W).

    Args:
        dilation: 2 in CSRNet and EPF, 1 in LSTN.
        bias: of the convolutions; None: where no batch norm follows. EPF has both.
    """

    def __init__(
        self, in_channels: int, *, width: float = 1.0, dilation: int = 1, norm: str = "none", bias: bool | None = None
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for planned in _PLAN:
            channels = scaled(planned, width)
            bias_here = norm == "none" if bias is None else bias
            layers.append(nn.Conv2d(in_channels, channels, 3, padding=dilation, dilation=dilation, bias=bias_here))
            layers.extend([nn.BatchNorm2d(channels)] if norm == "batch" else [])
            layers.append(nn.ReLU(inplace=True))
            in_channels = channels
        self.layers = nn.Sequential(*layers)
        self.out_channels = in_channels

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


def squared_error(found: Tensor, target: Tensor) -> Tensor:
    """Squared error of maps (…, H, W), mean over cells and clips, in float32."""
    return (found.float() - target.float()).square().mean()


class FrontendCounter(DensityCounter):
    """A density counter behind VGG16's ten convolutions, encoded once for each frame.

    Args:
        width, feature_width, norm: of the front-end.
        head_width: share of the channels in what follows, for subclasses; None: as `width`.
        sigma: see `DensityCounter`.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        feature_width: float | None = None,
        head_width: float | None = None,
        norm: str = "none",
        sigma: float | None = None,
    ) -> None:
        super().__init__(sigma=sigma)
        self.norm, self.head_width = norm, width if head_width is None else head_width
        self.backbone = VGG16Frontend(width=width, feature_width=feature_width, norm=norm)

    def encode(self, images: Tensor) -> Maps:
        """Normalised frames (n, 3, h, w) -> (n, C, ceil(h/8), ceil(w/8))."""
        return self.backbone(pad_to_multiple(images, self.stride))

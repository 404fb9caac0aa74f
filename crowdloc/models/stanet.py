"""STANet (paper ref. [25]): density and localization maps of two frames, from their summed features at three scales.

The layers are those of the authors' code, without its tracking branch. Deviations:
- The pair is the keyframe and the frame before it, in training and in testing (theirs: five frames apart in testing).
- Points come from the merged localization map by the rule that all methods share (their script feeds the density map
  to its own rule, which is the option `peaks="window"`). They lie at the centre of their cell of 2×2 pixels; twice
  the cell's number, as in their code, is half a pixel off.
- σ of the localization target is 5 cells of half a 1080p image. At other heights it is scaled along, unless given, and
  so are the two losses, whose balance would change with the number of pixels under a Gaussian.
- Coarser targets are sums over cells, not bicubic samples × 4 and × 16, which miss small heads. Densities are those of
  `density.density_map`, which keeps every head's mass inside the image, and of the heads inside the crop.
- The loss is theirs times 10⁴ / pixels, so that it has the size of a mean, as other methods' have; the merged map's
  weight stays 2 (theirs rises to 4 after 30 of 50 epochs).
- Batch norms use running statistics in the second half of a training: with those of a batch the sum of a density map
  hardly depends on who is there.
- With `norm="batch"` hidden convolutions start at PyTorch's default instead of N(0, 0.01).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, pad

from crowdloc.attention import module_seed
from crowdloc.datasets.base import ClipDataset
from crowdloc.models.decoding import find_peaks
from crowdloc.models.density import cells, density_map
from crowdloc.models.method import Maps, Method, Prediction, Sample
from crowdloc.models.parts.deformable import ModulatedDeformableConv
from crowdloc.models.parts.frontend import VGG16Frontend
from crowdloc.models.parts.layers import pad_to_multiple, scaled
from crowdloc.models.parts.scales import SCALES, Fusion, MapBranch, SpatialGate, activation
from crowdloc.models.peaks import peak_map, window_peaks

SIGMA, HEIGHT = 5.0, 1080
WEIGHTS = (2.0, 0.5, 0.05, 2.0)  # squared errors at strides 2, 4, 8 and of the merged map
DENSITY_WEIGHT = 1e4  # the authors weigh localization by 1e-4 instead


class Join(nn.Module):
    """Features of all frames of a window, concatenated, and a 1×1 convolution: (B, T, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(frames * channels, channels, 1, bias=False)

    def begin_as_sum(self) -> None:
        """Give each channel the sum of its own over the frames."""
        channels = self.mix.out_channels
        identity = torch.eye(channels).repeat(1, self.mix.in_channels // channels)
        with torch.no_grad():
            self.mix.weight.copy_(identity[:, :, None, None])

    def forward(self, features: Tensor) -> Tensor:
        return self.mix(features.flatten(1, 2))


class STANet(Method):
    """Feature sums at three scales, deformable convolution, fusion from coarse to fine, gates, two branches of maps.

    Args:
        width, feature_width, norm: as in `Localizer`, for all channels.
        sigma: of the localization target, in cells of 2 pixels; None: 5 at 1080 rows, in proportion at others.
        peaks: "shared", the rule of all methods, or "window", the authors'.
        join: how the features of the two frames become one map: "sum", the authors', which is the same in either order;
            or, ours, "concat", a 1×1 convolution of both that begins as their sum and can learn which is the keyframe.
    """

    offsets = (-1, 0)
    yields = ("points", "count")
    statistics_until = 0.5
    keeps_maps = False  # of stride 2: thirteen times as large as those of stride 8; a short training asks for fewer

    def __init__(
        self,
        *,
        width: float = 1.0,
        feature_width: float | None = None,
        norm: str = "none",
        sigma: float | None = None,
        peaks: str = "shared",
        join: str = "sum",
    ) -> None:
        super().__init__()
        if join not in ("sum", "concat"):
            raise ValueError(f"join must be sum or concat, got {join!r}")
        if peaks not in ("shared", "window"):
            raise ValueError(f"peaks must be shared or window, got {peaks!r}")
        self.sigma, self._given, self.peaks, self.norm = sigma or SIGMA, sigma is not None, peaks, norm
        self.backbone = VGG16Frontend(width=width, feature_width=feature_width, norm=norm, taps=SCALES)
        channels = fine, middle, coarse = scaled(128, width), scaled(256, width), self.backbone.out_channels
        joins = (Join(count, len(self.offsets)) for count in channels)
        self.join: nn.ModuleList | None = nn.ModuleList(joins) if join == "concat" else None
        deformable = ModulatedDeformableConv(coarse, coarse, groups_of_offsets=2, bias=norm == "none")
        self.refine = nn.Sequential(deformable, *activation(coarse, norm))
        self.to_middle = Fusion(coarse, middle, norm=norm)
        self.to_fine = Fusion(middle, fine, norm=norm)
        self.gates = nn.ModuleList(SpatialGate() for _ in channels)
        self.localization = MapBranch(channels, kernel=3)
        self.density = MapBranch(channels, kernel=1)

    def prepare(self, dataset: ClipDataset) -> None:
        """The authors' initialisation, and σ for the height of the images; "concat" begins as the sum."""
        if not self._given:
            self.sigma = SIGMA * dataset.image(0).shape[0] / HEIGHT
        for name, module in self.named_modules():
            if isinstance(module, Join):
                module.begin_as_sum()
            added = isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and not name.startswith(("backbone.", "join."))
            if not added or (module.bias is None and self.norm == "batch"):
                continue
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(module_seed(self.run_seed, name, None))
                nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def encode(self, images: Tensor) -> Maps:
        """Normalised frames (n, 3, h, w) -> maps of strides 2, 4 and 8 of the frames, padded to a multiple of 8."""
        return self.backbone(pad_to_multiple(images))

    def forward(self, features: Maps) -> dict[str, list[Tensor]]:
        """Features, each (B, T, C, H, W) -> for each branch maps (B, T, H, W) of strides 2, 4, 8 and the merged one."""
        if self.join is None:
            fine, middle, coarse = (stage.sum(dim=1) for stage in features)
        else:
            fine, middle, coarse = (join(stage) for join, stage in zip(self.join, features, strict=True))
        coarse = self.refine(coarse)
        middle = self.to_middle(coarse, middle)
        fine = self.to_fine(middle, fine)
        gated = [gate(stage) for gate, stage in zip(self.gates, (fine, middle, coarse), strict=True)]
        return {"localization": self.localization(gated), "density": self.density(gated)}

    def loss(self, sample: Sample, step: int) -> dict[str, Tensor]:
        """Weighted squared errors of all maps, mean over clips and frames."""
        found, (height, width) = self(self.features(sample)), sample.size
        area, pixels = (self.sigma / SIGMA) ** 2, height * width
        weights = {"localization": 1 / (area * pixels), "density": DENSITY_WEIGHT * area / pixels}
        targets = self.targets(sample, tuple(found["density"][0].shape[-2:]))
        return {name: weights[name] * _squared_errors(found[name], target) for name, target in targets.items()}

    def targets(self, sample: Sample, shape: tuple[int, int]) -> dict[str, Tensor]:
        """Maps (B, T, H, W) of stride 2 that the branches learn; what `encode` padded stays empty."""
        clips = [[points.cpu().numpy() for points in frames] for frames in sample.points]
        size = rows, columns = cells(sample.size, 2)
        peaks = [[peak_map(np.floor((p + 0.5) / 2), self.sigma, size) for p in frames] for frames in clips]
        densities = [[density_map(p, sample.size, stride=2) for p in frames] for frames in clips]
        missing = (0, shape[1] - columns, 0, shape[0] - rows)
        made = {"localization": peaks, "density": densities}
        return {name: pad(torch.from_numpy(np.array(maps)), missing) for name, maps in made.items()}

    def decode(self, window: Sequence[Maps], size: tuple[int, int]) -> Prediction:
        """Peaks of the merged localization map of the keyframe and the sum of its merged density map."""
        found = self(tuple(torch.stack(frames)[None] for frames in zip(*window, strict=True)))
        rows, columns = cells(size, 2)
        located, density = (
            found[branch][-1][0, self.keyframe, :rows, :columns].float().cpu().numpy()
            for branch in ("localization", "density")
        )
        points, scores = window_peaks(located) if self.peaks == "window" else find_peaks(located)
        points = np.clip(2 * points + 0.5, 0, (size[1] - 1, size[0] - 1))
        return Prediction(points, scores.clip(0, 1), float(np.maximum(density.sum(dtype=np.float64), 0)))

    def extra_repr(self) -> str:
        return f"offsets={self.offsets}, sigma={self.sigma:.4g}, peaks={self.peaks}"


def _squared_errors(maps: Sequence[Tensor], target: Tensor) -> Tensor:
    """Weighted squared errors of four maps, sums over cells and means over clips and frames (B, T)."""
    target = target.to(maps[0].device)
    total = torch.zeros((), device=target.device)
    for found, weight, power in zip(maps, WEIGHTS, (0, 1, 2, 0), strict=True):
        height, width = found.shape[-2:]
        wanted = adaptive_avg_pool2d(target, (height, width)) * 4**power
        total = total + weight * (found.float() - wanted).square().sum(dim=(2, 3)).mean()
    return total

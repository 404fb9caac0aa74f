"""Counting with the Bayesian loss (Table VI, row "Bayesian"): VGG19 and a small regression head, no density target.

Known from its authors' code. The expected count of each head, under the probability that a cell belongs to it, shall be
1, and that of the background 0. Deviations: the side that scales the background is the shorter one of the crop, not of
the original image; heads count where their point lies inside the crop (the authors weigh a box around the head, or ask
for half of it on ShanghaiTech); images without heads are trained on, all their cells being background.

The authors begin with ImageNet's VGG19. In `mini` there is none of that width, and the backbone of stage 1 is a VGG16:
nothing stands in, it begins with random weights, where CSRNet has a trained backbone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crowdloc.models.counter import DensityCounter
from crowdloc.models.density import cells
from crowdloc.models.method import Maps, Sample
from crowdloc.models.parts.layers import conv_block, pad_to_multiple, scaled

_VGG19 = (64, 64, "pool", 128, 128, "pool", *4 * (256,), "pool", *4 * (512,), "pool", *4 * (512,))
_ENCODED_STRIDE = 16


class VGG19(nn.Module):
    """The sixteen convolutions of VGG19: normalised RGB (n, 3, h, w) -> (n, C, h/16, w/16), torchvision's names."""

    def __init__(self, *, width: float = 1.0, norm: str = "none") -> None:
        super().__init__()
        self.features = _convolutions(3, _VGG19, width, norm)
        self.out_channels = scaled(512, width)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.features(images),)


class Bayesian(DensityCounter):
    """VGG19 without its last pooling, twice the size, two convolutions, 1×1, absolute value: a map at stride 8.

    It cannot stand on the maps of a VGG16: it always trains whole.

    Args:
        width, norm: of all convolutions.
        head_width: share of the channels in the regression head; None: as `width`.
        sigma: of the probability that a cell belongs to a head, in pixels.
        background: share of the crop's shorter side (the authors: 1, on ShanghaiTech A 0.1). At d pixels from the
            nearest head the background counts as being share · side / d pixels away, so from √(share · side) pixels
            on a cell is more likely background (an earlier version of the authors' code has that border elsewhere);
            0 leaves the background out.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        head_width: float | None = None,
        norm: str = "none",
        sigma: float = 8.0,
        background: float = 1.0,
    ) -> None:
        super().__init__(sigma=sigma)
        self.background = background
        self.backbone = VGG19(width=width, norm=norm)
        plan = tuple(scaled(channels, width if head_width is None else head_width) for channels in (256, 128))
        self.regression = _convolutions(self.backbone.out_channels, plan, 1.0, norm)
        self.output = nn.Conv2d(plan[-1], 1, 1)

    def encode(self, images: Tensor) -> Maps:
        """Normalised frames (n, 3, h, w) -> (n, C, ceil(h/16), ceil(w/16))."""
        return self.backbone(pad_to_multiple(images, _ENCODED_STRIDE))

    def density(self, features: Tensor) -> Tensor:
        finer = nn.functional.interpolate(
            features[:, self.keyframe], scale_factor=2, mode="bilinear", align_corners=True
        )
        return self.heads(self.regression(finer))[:, 0].abs()

    def loss(self, sample: Sample, step: int) -> dict[str, Tensor]:
        """Absolute errors of the expected counts, summed over heads and background, mean over the batch."""
        rows, columns = cells(sample.size, self.stride)
        maps = self.density(self.features(sample)[0])[:, :rows, :columns].float()
        errors = []
        for density, frames in zip(maps, sample.points, strict=True):
            points = frames[self.keyframe].to(maps.device, torch.float32)
            errors.append(self.count_errors(density, points, min(sample.size)).sum())
        return {"counts": torch.stack(errors).mean()}

    def count_errors(self, density: Tensor, points: Tensor, side: int) -> Tensor:
        """|expected count - 1| of every head and the count of the background last: (n + 1,), or (n,) without it."""
        assert self.sigma is not None
        reach = self.background * side if self.background else None
        shares = posterior(points, density.shape, stride=self.stride, sigma=self.sigma, background=reach)
        target = torch.ones(len(shares), device=density.device)
        target[len(points) :] = 0
        return (target - (shares * density).sum(dim=(1, 2))).abs()


def posterior(points: Tensor, shape: Sequence[int], *, stride: int, sigma: float, background: float | None) -> Tensor:
    """Probability (n, H, W) that a cell belongs to each of the heads (n, 2); with `background` (n + 1, H, W).

    Heads have likelihood exp(-d²/2σ²) at distance d. The background's is that of a head at the distance background²/d,
    d to the nearest head: small where heads are near, large where there are none. Without heads, all is background.
    """
    rows, columns = shape
    y, x = (stride * (torch.arange(n, device=points.device) + 0.5) - 0.5 for n in (rows, columns))
    squared = (y - points[:, 1:]).square()[:, :, None] + (x - points[:, :1]).square()[:, None, :]  # (n, H, W)
    if background is not None:
        nearest = squared.amin(dim=0) if len(points) else torch.full((rows, columns), torch.inf, device=points.device)
        squared = torch.cat([squared, (background**2 / (nearest + 1e-5))[None]])
    return torch.softmax(-squared / (2 * sigma**2), dim=0)


def _convolutions(channels: int, plan: Sequence[int | str], width: float, norm: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for item in plan:
        if isinstance(item, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers.extend(conv_block(channels, scaled(item, width), norm=norm))
        channels = scaled(item, width)
    return nn.Sequential(*layers)

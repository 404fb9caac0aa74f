"""MCNN (Table VI): three columns of convolutions with large, medium and small kernels, a density map at stride 4.

Known from a public re-implementation; the authors' code was not at hand. The targets are that code's, σ = 4 pixels, not
cut off at 15×15; the original paper's geometry-adaptive ones are `sigma=None`. Deviations: no ReLU after the last
convolution, which that code has: a map that falls below zero everywhere would have no gradient and stay there; the grey
image is normalised. The network is so small that it has no reduced width: it is the same in every preset.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crowdloc.models.counter import DensityCounter
from crowdloc.models.method import Maps
from crowdloc.models.parts.frontend import IMAGENET_MEAN, IMAGENET_STD
from crowdloc.models.parts.layers import conv_block, pad_to_multiple

# (kernel, channels) of the four convolutions; the first two are followed by a pooling.
_COLUMNS = (
    ((9, 16), (7, 32), (7, 16), (7, 8)),
    ((7, 20), (5, 40), (5, 20), (5, 10)),
    ((5, 24), (3, 48), (3, 24), (3, 12)),
)
_LUMINANCE = (0.299, 0.587, 0.114)
_GREY_MEAN, _GREY_STD = 0.449, 0.226


class MCNN(DensityCounter):
    """Three columns, concatenated, 1×1.

    Args:
        grey: see grey images, as published; otherwise RGB.
        norm: "none" as published, or "batch".
        sigma: see `DensityCounter`.
    """

    stride = 4

    def __init__(self, *, grey: bool = True, norm: str = "none", sigma: float | None = 4.0) -> None:
        super().__init__(sigma=sigma)
        self.grey = grey
        self.columns = nn.ModuleList(_column(1 if grey else 3, plan, norm) for plan in _COLUMNS)
        self.output = nn.Conv2d(sum(plan[-1][1] for plan in _COLUMNS), 1, 1)

    def encode(self, images: Tensor) -> Maps:
        """Normalised frames (n, 3, h, w) -> heads per cell (n, 1, ceil(h/4), ceil(w/4))."""
        seen = pad_to_multiple(to_grey(images) if self.grey else images, self.stride)
        return (self.heads(torch.cat([column(seen) for column in self.columns], dim=1)),)

    def density(self, features: Tensor) -> Tensor:
        return features[:, self.keyframe, 0]


def to_grey(images: Tensor) -> Tensor:
    """Normalised RGB (n, 3, h, w) -> normalised luminance (n, 1, h, w)."""
    mean, std, share = (images.new_tensor(c).view(3, 1, 1) for c in (IMAGENET_MEAN, IMAGENET_STD, _LUMINANCE))
    luminance = ((images * std + mean) * share).sum(dim=1, keepdim=True)
    return (luminance - _GREY_MEAN) / _GREY_STD


def _column(channels: int, plan: tuple[tuple[int, int], ...], norm: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number, (kernel, out) in enumerate(plan):
        layers.extend(conv_block(channels, out, kernel=kernel, norm=norm))
        layers.extend([nn.MaxPool2d(2)] if number < 2 else [])
        channels = out
    return nn.Sequential(*layers)

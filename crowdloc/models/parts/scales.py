"""Maps of several scales: gated, fused from coarse to fine, turned into output maps (STANet, detectors)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from crowdloc.models.parts.layers import conv_block

SCALES = ("conv2_2", "conv3_3", "conv4_3")  # strides 2, 4, 8


class SpatialGate(nn.Module):
    """Every place times sigmoid(7×7 convolution of its channels' maximum and mean): (B, C, H, W), the same out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        summary = torch.stack([maps.amax(dim=1), maps.mean(dim=1)], dim=1)  # (B, 2, H, W)
        return maps * torch.sigmoid(self.conv(summary))


class ChannelGate(nn.Module):
    """Every channel times sigmoid(ReLU(linear(means of all channels))), so in [0.5, 1): (B, C, H, W), the same out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        return maps * torch.sigmoid(torch.relu(self.linear(maps.mean(dim=(2, 3)))))[..., None, None]


class Fusion(nn.Module):
    """A coarse map, enlarged by a dilated deconvolution, joins the next finer one, whose shape comes out."""

    def __init__(self, coarse: int, fine: int, *, norm: str = "none") -> None:
        super().__init__()
        enlarging = nn.ConvTranspose2d(
            coarse, fine, 3, stride=2, padding=1, output_padding=1, dilation=2, bias=norm == "none"
        )
        self.enlarge = nn.Sequential(enlarging, *activation(fine, norm))
        self.join = nn.Sequential(*conv_block(2 * fine, fine, kernel=1, norm=norm), *conv_block(fine, fine, norm=norm))

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        return self.join(torch.cat([resized(self.enlarge(coarse), fine), fine], dim=1))


class MapBranch(nn.Module):
    """Two maps at each scale, from fine to coarse, and their merger at the finest one.

    Every cell of a map stands for the sum over what it covers, so coarser maps are divided by 4 and 16 before merging.
    """

    def __init__(self, channels: Sequence[int], *, kernel: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(n, 2, kernel, padding=kernel // 2) for n in channels)
        inputs = 2 * len(channels)
        self.merge = nn.Sequential(ChannelGate(inputs), SpatialGate(), nn.Conv2d(inputs, 2, 3, padding=1))

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, 2, H, W) of every scale, then the merged one."""
        maps = [head(stage) for head, stage in zip(self.heads, stages, strict=True)]
        enlarged = [resized(coarser, maps[0]) / 4**level for level, coarser in enumerate(maps)]
        return [*maps, self.merge(torch.cat(enlarged, dim=1))]


class MergedMap(nn.Module):
    """Two maps of strides 4 and 8, named by their order, become one of stride 4 called "0": {"0": (B, C, H, W)}.

    The lowest level of a feature pyramid: 1×1 convolutions, the coarse map repeated and added, 3×3 convolution.
    """

    def __init__(self, inputs: Sequence[int], channels: int, *, norm: str = "none") -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Sequential(*conv_block(n, channels, kernel=1, norm=norm)) for n in inputs)
        self.last = nn.Sequential(*conv_block(channels, channels, norm=norm))

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        fine, coarse = (lateral(stage) for lateral, stage in zip(self.lateral, maps.values(), strict=True))
        return {"0": self.last(fine + interpolate(coarse, size=fine.shape[-2:]))}


def activation(channels: int, norm: str) -> list[nn.Module]:
    """Optional batch norm, ReLU."""
    return [*([nn.BatchNorm2d(channels)] if norm == "batch" else []), nn.ReLU(inplace=True)]


def resized(maps: Tensor, like: Tensor) -> Tensor:
    """Bilinear, corners on corners, to the size of another map."""
    return interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=True)

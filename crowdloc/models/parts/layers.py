"""Convolution blocks shared by every localization network."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

NORMS = ("none", "batch")


def conv_block(
    in_channels: int, out_channels: int, *, kernel: int = 3, dilation: int = 1, norm: str = "none"
) -> Iterator[nn.Module]:
    """Size-preserving convolution, optional batch norm, ReLU."""
    padding = dilation * (kernel - 1) // 2
    yield nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=norm == "none")
    if norm == "batch":
        yield nn.BatchNorm2d(out_channels)
    yield nn.ReLU(inplace=True)


def upsample_block(in_channels: int, out_channels: int, *, norm: str = "none") -> Iterator[nn.Module]:
    """Deconvolution that doubles the size (4×4, stride 2, padding 1), optional batch norm, ReLU."""
    yield nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=norm == "none")
    if norm == "batch":
        yield nn.BatchNorm2d(out_channels)
    yield nn.ReLU(inplace=True)


def scaled(channels: int, width: float) -> int:
    """Number of channels at a fraction `width` of the paper's, an integer of at least 1."""
    return max(1, round(channels * width))


def pad_to_multiple(images: Tensor, multiple: int = 8) -> Tensor:
    """Repeat the last row and column until height and width are multiples: (..., h, w) -> (..., h', w')."""
    height, width = images.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not bottom and not right:
        return images
    flat = images.reshape(-1, *images.shape[-3:])
    flat = nn.functional.pad(flat, (0, right, 0, bottom), mode="replicate")
    return flat.reshape(*images.shape[:-2], height + bottom, width + right)

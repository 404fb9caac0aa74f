"""Modulated deformable convolution (DCNv2), by torchvision's operator."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ModulatedDeformableConv(nn.Conv2d):
    """3×3 convolution that samples where it wants to and weighs every sample: (B, C, H, W) -> (B, C', H, W).

    Offsets and weights in (0, 1) come from a 3×3 convolution on the input, for `groups_of_offsets` groups of channels
    separately.
    """

    def __init__(self, in_channels: int, out_channels: int, *, groups_of_offsets: int = 1, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)
        self.samples = 9 * groups_of_offsets
        self.where = nn.Conv2d(in_channels, 3 * self.samples, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        from torchvision.ops import deform_conv2d  # not at import: `import crowdloc.models` needs no torchvision

        offsets, weights = self.where(input).float().split((2 * self.samples, self.samples), dim=1)
        with torch.autocast(input.device.type, enabled=False):  # the operator wants one type, and offsets exact ones
            return deform_conv2d(input.float(), offsets, self.weight, self.bias, padding=1, mask=torch.sigmoid(weights))

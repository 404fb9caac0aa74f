"""What it takes to use torchvision's detectors on maps that come from outside of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Absent(nn.Module):
    """In the place of a detector's backbone: its maps come from outside, only their number of channels is asked for."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels


def in_float32(module: nn.Module, _: Any, output: Any) -> Any:
    """Hook: boxes and scores are computed in float32 under autocast too; at test they must be finite.

    In bfloat16 places beyond 256 pixels are multiples of 2. A score that is not a number would only be no detection.
    """
    if isinstance(output, Tensor):
        if not module.training and not torch.isfinite(output).all():
            raise ValueError("the maps hold NaN: the network diverged or its input was not finite")
        return output.float()
    if isinstance(output, dict):
        return type(output)((key, in_float32(module, _, value)) for key, value in output.items())
    return type(output)(in_float32(module, _, value) for value in output)

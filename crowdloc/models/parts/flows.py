"""People flows between the cells of two frames, as EPF counts them: ten channels, conserved except at the border."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEPS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))  # where the people of channels 0 … 8 go, in cells
CHANNELS = len(STEPS) + 1


def arriving(flows: Tensor) -> Tensor:
    """Channels 0 … 8 of flows (B, 10, H, W), each where its people arrive (B, 9, H, W), or gone."""
    height, width = flows.shape[-2:]
    padded = nn.functional.pad(flows[:, : len(STEPS)], (1, 1, 1, 1))
    moved = [padded[:, k, 1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width] for k, (dy, dx) in enumerate(STEPS)]
    return torch.stack(moved, dim=1)


def outgoing(flows: Tensor) -> Tensor:
    """Flows (B, 10, H, W) -> heads per cell (B, H, W) in the frame that they start from."""
    return flows[:, : len(STEPS)].sum(dim=1) + _through_border(flows)


def incoming(flows: Tensor) -> Tensor:
    """Flows (B, 10, H, W) -> heads per cell (B, H, W) in the frame that they lead to."""
    return arriving(flows).sum(dim=1) + _through_border(flows)


def cycle_error(flows: Tensor, back: Tensor) -> Tensor:
    """Nine squared errors, summed: who goes from cell to cell comes from there when time runs backward."""
    inside = arriving(torch.ones_like(flows[:1]))
    error = inside * (arriving(flows) - back[:, : len(STEPS)].flip(1))
    return error.square().sum(dim=1).mean()


def _through_border(flows: Tensor) -> Tensor:
    border = torch.ones_like(flows[:1, -1])
    border[:, 1:-1, 1:-1] = 0
    return flows[:, -1] * border

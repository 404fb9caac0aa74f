"""EPF (Table VII): counting by people flows between the cells of two frames.

Known from its authors' code. A map of ten channels says how many people go from each cell to its eight neighbours or
stay (0 … 8, row by row: 0 up and left, 4 stay, 8 down and right), and how many enter or leave the image there (9, which
counts only in the outermost cells). What leaves all cells is the density before, what arrives the density after.
Deviations: the four passes of a step (before -> key -> after, and back) share batch statistics; targets are made at the
map's stride; frames are neighbours at the data's own rate (the authors: 5 frames apart at 30 frames per second), so
where people move by more than a cell, no flow can follow them; the last ReLU passes a tenth of the gradient where it is
zero, else channels that go below zero in the first steps never return and people can only go where others are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crowdloc.models.counter import DensityBackEnd, FrontendCounter
from crowdloc.models.method import Maps, Sample
from crowdloc.models.parts.flows import CHANNELS, cycle_error, incoming, outgoing

_POOLED = (1, 2, 3, 6)


def rectified(flows: Tensor) -> Tensor:
    """ReLU forward, leaky ReLU backward."""
    leaky = nn.functional.leaky_relu(flows, 0.1)
    return leaky + (flows.relu() - leaky).detach()


class Context(nn.Module):
    """Features beside their averages over several scales, weighted by how they differ: (n, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in _POOLED)
        self.weight = nn.Conv2d(channels, channels, 1)
        self.join = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        total, weights = torch.zeros_like(features), torch.zeros_like(features)
        for side, scale in zip(_POOLED, self.scales, strict=True):
            pooled = scale(nn.functional.adaptive_avg_pool2d(features, side))
            pooled = nn.functional.interpolate(pooled, features.shape[-2:], mode="bilinear", align_corners=False)
            weight = self.weight(features - pooled).sigmoid()
            total, weights = total + pooled * weight, weights + weight
        return self.join(torch.cat([total / weights, features], dim=1)).relu()


class EPF(FrontendCounter):
    """Front-end and context of two frames, concatenated, CSRNet's back-end with batch norm, ten flows (ReLU).

    Training looks at the frames before and after the keyframe; the prediction, as the authors', only at the one before:
    the mean of what arrives from there and of what would leave to it.

    Args:
        width, feature_width, head_width, norm: as in `FrontendCounter`; the back-end has batch norm in any case.
        sigma: see `DensityCounter` (the authors: 3 pixels at 640×360).
    """

    offsets = (-1, 0, 1)

    def __init__(self, *, sigma: float | None = 3.0, **options: Any) -> None:
        super().__init__(sigma=sigma, **options)
        channels = self.backbone.out_channels
        self.context = Context(channels)
        self.back_end = DensityBackEnd(2 * channels, width=self.head_width, dilation=2, norm="batch", bias=True)
        self.output = nn.Conv2d(self.back_end.out_channels, CHANNELS, 1)

    def flows(self, features: Tensor, pairs: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Features (B, T, C, H, W) -> for each pair of places in the window the flows (B, 10, H, W) between them."""
        batch, frames = features.shape[:2]
        seen = self.context(features.flatten(0, 1)).unflatten(0, (batch, frames))
        both = torch.cat([torch.cat([seen[:, a], seen[:, b]], dim=1) for a, b in pairs])
        return list(rectified(self.heads(self.back_end(both))).chunk(len(pairs)))

    def density(self, features: Tensor) -> Tensor:
        there, back = self.flows(features[:, :2], [(0, 1), (1, 0)])
        return (incoming(there) + outgoing(back)) / 2

    def loss(self, sample: Sample, step: int) -> dict[str, Tensor]:
        """Six squared errors of reconstructed densities, eighteen of flows against time, each a mean over cells."""
        first, key, last = (self.target(sample, frame) for frame in range(3))
        there, back, on, return_ = self.flows(self.features(sample)[0], [(0, 1), (1, 0), (1, 2), (2, 1)])
        reconstructed = [
            (incoming(there), key), (outgoing(back), key), (outgoing(on), key), (incoming(return_), key),
            (outgoing(there), first), (incoming(on), last),
        ]  # fmt: skip
        errors = [self.error(found, target) for found, target in reconstructed]
        cycle = (cycle_error(there, back) + cycle_error(on, return_)) / self.unit.square()
        return {"density": torch.stack(errors).sum(), "cycle": cycle}

    def flow_field(self, window: Sequence[Maps]) -> NDArray[np.float32]:
        """Flows (10, H, W) to the keyframe of a window of encoded frames from the frame before, in people."""
        features = torch.stack([maps[0] for maps in window[:2]])[None]
        return self.flows(features, [(0, 1)])[0][0].detach().cpu().numpy()

"""Bidirectional ConvLSTM (Table VII): a re-implementation from the abstract.

Weak evidence: of Xiong et al. 2017 only the abstract was at hand, which gives no layers, and one public network of its
name. From there: four ConvLSTM layers of 128, 64, 64, 64 channels, 3×3, no peepholes. Chosen here: input reduced to a
quarter (full-size states of a 1080p clip do not fit into memory), as many layers backward in time, both concatenated
and convolved (1×1) to a density map for each frame; squared error in every frame; fixed Gaussians of 4 pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crowdloc.models.counter import DensityCounter
from crowdloc.models.method import Maps, Sample
from crowdloc.models.parts.layers import pad_to_multiple, scaled

_HIDDEN = (128, 64, 64, 64)


class Cell(nn.Module):
    """One ConvLSTM layer at one frame; states are kept in float32."""

    def __init__(self, in_channels: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(in_channels + hidden, 4 * hidden, kernel, padding=kernel // 2)

    def forward(self, seen: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Input (B, C, H, W) and (output, memory) before -> after, each (B, hidden, H, W)."""
        output, memory = state
        gates = self.gates(torch.cat([seen, output], dim=1)).float()
        take, keep, show, content = gates.chunk(4, dim=1)
        memory = keep.sigmoid() * memory + take.sigmoid() * content.tanh()
        return show.sigmoid() * memory.tanh(), memory


class Direction(nn.Module):
    """Layers on top of each other along a sequence: (B, T, C, H, W) -> (B, T, hidden, H, W)."""

    def __init__(self, in_channels: int, hidden: tuple[int, ...], kernel: int) -> None:
        super().__init__()
        self.hidden = hidden
        sizes = zip((in_channels, *hidden[:-1]), hidden, strict=True)
        self.cells = nn.ModuleList(Cell(before, after, kernel) for before, after in sizes)

    def forward(self, frames: Tensor) -> Tensor:
        batch, _, _, height, width = frames.shape
        empty = [frames.new_zeros(batch, hidden, height, width) for hidden in self.hidden]
        states = list(zip(empty, empty, strict=True))
        found = []
        for seen in frames.unbind(dim=1):
            for number, cell in enumerate(self.cells):
                states[number] = cell(seen, states[number])
                seen = states[number][0]
            found.append(seen)
        return torch.stack(found, dim=1)


class ConvLSTM(DensityCounter):
    """Two directions of four ConvLSTM layers on frames of a quarter of the size, and 1×1.

    Args:
        width: share of the channels.
        kernel: of all gates.
        sigma: see `DensityCounter`.
    """

    stride = 4
    offsets = (-1, 0, 1)

    def __init__(self, *, width: float = 1.0, kernel: int = 3, sigma: float | None = 4.0) -> None:
        super().__init__(sigma=sigma)
        hidden = tuple(scaled(channels, width) for channels in _HIDDEN)
        self.onward, self.back = Direction(3, hidden, kernel), Direction(3, hidden, kernel)
        self.output = nn.Conv2d(2 * hidden[-1], 1, 1)

    def encode(self, images: Tensor) -> Maps:
        """Normalised frames (n, 3, h, w) -> the same, reduced (n, 3, ceil(h/4), ceil(w/4))."""
        return (nn.functional.avg_pool2d(pad_to_multiple(images, self.stride), self.stride),)

    def densities(self, frames: Tensor) -> Tensor:
        """Reduced frames (B, T, 3, H, W) -> heads per cell (B, T, H, W) in every frame."""
        states = torch.cat([self.onward(frames), self.back(frames.flip(1)).flip(1)], dim=2)
        return self.heads(states.flatten(0, 1)).unflatten(0, frames.shape[:2])[:, :, 0]

    def density(self, features: Tensor) -> Tensor:
        return self.densities(features)[:, self.keyframe]

    def loss(self, sample: Sample, step: int) -> dict[str, Tensor]:
        """Squared error of the maps of all frames, mean over cells, frames and clips."""
        found = self.densities(self.features(sample)[0])
        target = torch.stack([self.target(sample, frame) for frame in range(len(self.offsets))], dim=1)
        return {"density": self.error(found, target)}

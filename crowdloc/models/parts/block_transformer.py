"""LSTN's transformer: the blocks of a density map, each moved by an affine transformation that it finds itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

_KERNELS, _CHANNELS, _HIDDEN = (7, 5), (8, 10), 32
Block = tuple[slice, slice]


class IdentityAffine(nn.Linear):
    """Features -> the six numbers of an affine transformation, at first the identity."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        with torch.no_grad():
            self.bias.copy_(self.bias.new_tensor([1, 0, 0, 0, 1, 0]))


class BlockTransformer(nn.Module):
    """One affine transformation per block of a density map: (B, H, W) -> (B, H, W).

    Args:
        blocks: rows and columns of blocks (the authors: 1×2 on Mall, 2×2 on UCSD).
        block_size: what blocks are resized to before their transformation is found; 90×80 is 1×2 blocks of 360×640.
    """

    def __init__(self, *, blocks: tuple[int, int] = (2, 2), block_size: tuple[int, int] = (90, 80)) -> None:
        super().__init__()
        self.blocks, self.block_size = tuple(blocks), tuple(block_size)
        layers: list[nn.Module] = []
        before, (height, width) = 1, block_size
        for kernel, channels in zip(_KERNELS, _CHANNELS, strict=True):
            layers.extend([nn.Conv2d(before, channels, kernel), nn.MaxPool2d(2), nn.ReLU()])
            before, height, width = channels, (height - kernel + 1) // 2, (width - kernel + 1) // 2
        layers.extend([nn.Flatten(), nn.Linear(before * height * width, _HIDDEN), nn.ReLU()])
        self.locate = nn.Sequential(*layers, IdentityAffine(_HIDDEN, 6))

    def forward(self, density: Tensor) -> Tensor:
        rows = []
        for row in self.divide(*density.shape[-2:]):
            rows.append(torch.cat([self._move(density[:, *block][:, None])[:, 0] for block in row], dim=-1))
        return torch.cat(rows, dim=-2)

    def divide(self, height: int, width: int) -> Iterator[list[Block]]:
        """Rows of blocks of a map; never more blocks than cells along an axis."""
        down, across = _parts(height, self.blocks[0]), _parts(width, self.blocks[1])
        yield from ([(part, other) for other in across] for part in down)

    def _move(self, block: Tensor) -> Tensor:
        """(B, 1, h, w) -> the same block, transformed; nothing comes in from outside of it."""
        resized = nn.functional.interpolate(block, self.block_size, mode="bilinear", align_corners=False)
        theta = self.locate(resized).float().view(-1, 2, 3)
        grid = nn.functional.affine_grid(theta, list(block.shape), align_corners=False)
        return nn.functional.grid_sample(block.float(), grid, align_corners=False)


def _parts(length: int, number: int) -> list[slice]:
    number = min(number, length)
    borders = [i * length // number for i in range(number + 1)]
    return [slice(a, b) for a, b in pairwise(borders)]

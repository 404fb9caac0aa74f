"""Where a query looks: the exact, counter-based definition of the neighbours that every backend repeats bit for bit.

Draws come from Philox 4×32-10 (Salmon et al., 2011). The key is the 64-bit seed (low word, high word), the counter
is (y + y0, x + x0, focus << 16 | sampling, frame << 16 | point), all modulo 2³². So a draw depends neither on the
size of the map nor on how many other draws there are, and a tile with its `origin` draws what the whole map draws.
Word 0 gives the step along x, word 1 the step along y.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crowdloc.attention.tables import thresholds

MASK = 0xFFFFFFFF
Word = Tensor | int


class Neighborhood(NamedTuple):
    """Where queries look; its fields are also arguments of the registered operators, in this order.

    `kind` is "independent" or "qmc" (Gaussian around the query), "random" (uniform over the map) or "window"
    (a square of `num_points` = k² cells around the query). `gamma` has one entry per focus.
    """

    kind: str
    gamma: Sequence[float]
    num_points: int
    num_samples: int
    masked: bool
    y0: int
    x0: int

    @property
    def sets(self) -> int:
        """Softmax sets per query: foci times samplings."""
        return len(self.gamma) * self.num_samples


def neighbor_cells(where: Neighborhood, frames: int, height: int, width: int, seed: Tensor) -> Tensor:
    """Cells that each query names: int64 (N, F·S, T·P) into T·H·W, −1 for a draw dropped by the border rule."""
    device = seed.device
    y, x, sampling, frame, point = torch.meshgrid(
        *(torch.arange(n, device=device) for n in (height, width, where.num_samples, frames, where.num_points)),
        indexing="ij",
    )  # each (H, W, S, T, P)
    foci = []
    for focus, gamma in enumerate(where.gamma):
        if where.kind == "window":
            size = round(where.num_points**0.5)
            to_x, to_y = x + point % size - size // 2, y + point // size - size // 2
        else:
            counter = (y + where.y0, x + where.x0, focus << 16 | sampling, frame << 16)
            bits_x, bits_y = _bits(where.kind, counter, point, seed)
            if where.kind == "random":
                to_x, to_y = bits_x * width >> 32, bits_y * height >> 32
            else:
                table = torch.tensor(thresholds(gamma), dtype=torch.int64, device=device)
                to_x = x + torch.searchsorted(table, bits_x, right=True) - len(table) // 2
                to_y = y + torch.searchsorted(table, bits_y, right=True) - len(table) // 2
        inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height)
        cell = (frame * height + to_y.clamp(0, height - 1)) * width + to_x.clamp(0, width - 1)
        if where.masked:
            # a set that lost all its draws looks at the query's own cell, once in every frame
            empty = ~inside.any(dim=(3, 4), keepdim=True)
            own = (frame * height + y) * width + x
            cell = torch.where(inside, cell, torch.where(empty & (point == 0), own, -1))
        foci.append(cell)
    cells = torch.stack(foci, dim=2)  # (H, W, F, S, T, P)
    return cells.reshape(height * width, where.sets, frames * where.num_points)


def _bits(kind: str, counter: tuple[Word, Word, Word, Word], point: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
    """Two uniform 32-bit words per draw, for x and y, as int64."""
    c0, c1, c2, c3 = counter
    if kind != "qmc":
        return philox((c0, c1, c2, c3 | point), seed)[:2]
    # one Philox draw scrambles a whole Sobol set: it is keyed with point 0
    scramble_x, scramble_y, _, _ = philox((c0, c1, c2, c3), seed)
    return owen_scramble(point, scramble_x), owen_scramble(sobol_second(point), scramble_y)


def philox(counter: tuple[Word, Word, Word, Word], seed: Word) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox 4×32-10: four uniform 32-bit words (int64 tensors) for a counter of four words and a 64-bit key."""
    c0, c1, c2, c3 = (word & MASK for word in counter)
    k0, k1 = seed & MASK, seed >> 32 & MASK
    for _ in range(10):
        # a product of two 32-bit words wraps in int64, but all its 64 bits are there
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = p1 >> 32 & MASK ^ c1 ^ k0, p1 & MASK, p0 >> 32 & MASK ^ c3 ^ k1, p0 & MASK
        k0, k1 = k0 + 0x9E3779B9 & MASK, k1 + 0xBB67AE85 & MASK
    return c0, c1, c2, c3  # type: ignore[return-value]


def sobol_second(point: Tensor) -> Tensor:
    """Second Sobol dimension of points 0, 1, …, its 32 bits reversed (the first dimension reversed is the index).

    Its reversed generator matrix is Pascal's triangle modulo 2, so it is a sum over supersets of bit positions.
    """
    for shift, bits in ((1, 0xAAAAAAAA), (2, 0xCCCCCCCC), (4, 0xF0F0F0F0), (8, 0xFF00FF00), (16, 0xFFFF0000)):
        point = point ^ (point & bits) >> shift
    return point


def owen_scramble(reversed_bits: Tensor, key: Tensor) -> Tensor:
    """Nested uniform scramble by the hash of Laine and Karras (2011); takes reversed bits, gives them in order."""
    x = reversed_bits + key & MASK
    for factor in (0x6C50B47C, 0xB82F1E52, 0xC7AFE638, 0x8D22F6E6):
        x = x ^ x * factor & MASK
    for shift, bits in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF), (16, 0x0000FFFF)):
        x = (x & bits) << shift | x >> shift & bits
    return x

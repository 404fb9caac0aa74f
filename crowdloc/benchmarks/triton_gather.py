"""The ceiling of the GPU kernel: read the same rows, do nothing with them but sum."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from crowdloc.attention.triton_backend import TILE


@triton.jit
def _gather(rows, cells, out, draws, C: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK: tl.constexpr):
    """out[n] = Σ_i rows[cells[n, i]]. Grid: (N,), one program per query."""
    n = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    total = tl.zeros([BLOCK_C], tl.float32)
    for start in range(0, draws, BLOCK):
        draw = start + tl.arange(0, BLOCK)
        cell = tl.load(cells + n * draws + draw, mask=draw < draws, other=0).to(tl.int64)
        here = (draw < draws)[:, None] & (c < C)[None, :]
        total += tl.sum(tl.load(rows + cell[:, None] * C + c[None, :], mask=here, other=0.0).to(tl.float32), axis=0)
    tl.store(out + n * C + c, total, mask=c < C)


def gather(rows: Tensor, cells: Tensor, out: Tensor) -> None:
    """rows (T·N, C), cells int32 (N, draws), out float32 (N, C)."""
    channels, draws = rows.shape[1], cells.shape[1]
    block_c = triton.next_power_of_2(channels)
    block = max(1, min(triton.next_power_of_2(draws), 128, TILE // block_c))
    with torch.cuda.device_of(rows):
        _gather[(len(cells),)](
            rows, cells, out, draws, C=channels, BLOCK_C=block_c, BLOCK=block,
            num_warps=min(8, max(1, block * block_c // 2048)),
        )  # fmt: skip

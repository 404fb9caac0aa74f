"""What the machine could do at best: copy, multiply matrices, and read the rows that an attention reads.

GNA does 4·C operations for a row of C elements, one per byte in float32, so memory and caches bound it. The
honest ceiling is a kernel that reads the same rows in the same order and only sums them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from crowdloc.attention import sample_neighbors


def copy_bandwidth(milliseconds: Callable[[Callable[[], Any]], float], device: str) -> float:
    """GB/s of copying 256 MiB, read and written bytes together."""
    a = torch.zeros(2**26, device=device)
    b = torch.empty_like(a)
    return 2 * a.nbytes / min(milliseconds(lambda: b.copy_(a)) for _ in range(5)) / 1e6


def matrix_rate(milliseconds: Callable[[Callable[[], Any]], float], device: str, dtype: torch.dtype) -> float:
    """GFLOP/s of a square matrix product."""
    n = 8192 if device == "cuda" else 3072
    a = torch.randn(n, n, device=device).to(dtype)
    return 2 * n**3 / min(milliseconds(lambda: a @ a) for _ in range(5)) / 1e6


def gather_call(
    key: Tensor, *, backend: str, gamma: tuple[float, ...], num_points: int, num_samples: int
) -> tuple[Callable[[], Tensor], int]:
    """A call that reads the rows of GNA with these arguments and sums them, and the number of rows it reads.

    `key` is (1, T, C, H, W). Both backends read the row of every draw, and so do their ceilings. Returns sums (N, C).
    """
    frames, channels, height, width = key.shape[1:]
    rows = key[0].permute(0, 2, 3, 1).reshape(-1, channels).contiguous()  # (T·N, C)
    cells = sample_neighbors(
        height, width, num_frames=frames, gamma=gamma, num_points=num_points, num_samples=num_samples, seed=0
    ).flatten(1)  # (N, F·S·T·P)
    out = torch.empty(height * width, channels, device=key.device)
    if backend == "triton":
        from crowdloc.benchmarks.triton_gather import gather

        cells = cells.int().to(key.device)

        def on_gpu() -> Tensor:
            gather(rows, cells, out)
            return out

        return on_gpu, cells.numel()
    from crowdloc.attention.numba_backend import LANES, gather_rows

    rows, cells = F.pad(rows, (0, -channels % LANES)), cells.int()
    out = torch.empty(height * width, rows.shape[1])

    def on_cpu() -> Tensor:
        gather_rows(rows, cells, out)
        return out[:, :channels]

    return on_cpu, cells.numel()

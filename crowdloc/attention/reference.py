"""The definition of sampled attention in plain PyTorch: gathers keys and values, differentiable, any float type.

Paper §IV-A, eq. (2), with one softmax over the union of the points of all frames, and the mean over foci (γ) and
repeated samplings. Slow and obviously right; the fused backends are tested against it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crowdloc.attention.sampling import Neighborhood, neighbor_cells


def attend(query: Tensor, key: Tensor, value: Tensor | None, seed: Tensor, where: Neighborhood) -> Tensor:
    """Rows in, rows out: query (B, H, W, C), key and value (B, T, H, W, C), `value` None for K = V -> (B, H, W, C).

    Half precision is widened to float32 and the result rounded once.
    """
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    frames, height, width, channels = key.shape[1:]
    cells = neighbor_cells(where, frames, height, width, seed.to(query.device))  # (N, F·S, T·P)
    queries = query.to(wide).flatten(1, 2)  # (B, N, C)
    keys = key.to(wide).flatten(1, 3)  # (B, T·N, C)
    values = None if value is None else value.to(wide).flatten(1, 3)
    total = torch.zeros_like(queries)
    for cell in cells.unbind(1):  # (N, T·P)
        chosen = keys[:, cell.clamp(min=0)]  # (B, N, T·P, C)
        score = torch.einsum("bnc,bnpc->bnp", queries, chosen) / math.sqrt(channels)
        weight = score.masked_fill(cell < 0, -math.inf).softmax(-1)
        carried = chosen if values is None else values[:, cell.clamp(min=0)]
        total = total + torch.einsum("bnp,bnpc->bnc", weight, carried)
    return (total / where.sets).to(query.dtype).reshape(query.shape)

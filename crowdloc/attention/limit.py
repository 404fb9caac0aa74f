"""Gaussian neighbour attention without randomness: its limit for infinitely many draws.

With P -> ∞ the draws of one focus cover every cell in proportion to its Gaussian mass, so eq. (2) of the paper
becomes softmax(q·k/√C + log mass): dense attention with a Gaussian bias, here beyond the paper. The mass of a cell is
the product of two axis masses, Φ((d + ½)/γ) − Φ((d − ½)/γ), the same for every frame; the border cells of "clamp" hold
the tails too. Everything is smooth in γ, which can therefore be learned.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from crowdloc.attention.checks import check_boundary, check_gamma, to_map, to_rows
from crowdloc.attention.ops import transformed

TILE = 32  # queries are worked on in squares of this side, which bounds memory on large maps


def gaussian_limit_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    gamma: float | Iterable[float] | Tensor,
    boundary: str = "clamp",
) -> Tensor:
    """What `gaussian_neighbor_attention` tends to as `num_points` grows; exact up to rounding, no draws.

    Args:
        query: (B, C, H, W). key, value: (B, T, C, H, W), or (B, C, H, W) for one frame.
        gamma: standard deviations in feature cells, one per focus; a tensor may require a gradient. Values below
            0.001 act as 0.001, where a query sees itself only.
        boundary: "clamp" or "mask", as in `gaussian_neighbor_attention`.

    Returns:
        (B, C, H, W), the dtype of the query, differentiable in query, key, value and gamma.

    Raises:
        ValueError, TypeError: an argument is out of range or does not fit the others; the message names it.
    """
    check_boundary(boundary)
    rows, keys, values = to_rows(query, key, value)
    if isinstance(gamma, Tensor):
        if torch._C._functorch.is_batchedtensor(gamma):
            raise ValueError("gamma cannot be a dimension of vmap: its values are checked; loop over it")
        check_gamma(gamma.detach())
        gammas = gamma.reshape(-1).to(query.device, torch.float64).clamp(min=1e-3)
    else:
        gammas = torch.tensor(check_gamma(gamma), dtype=torch.float64, device=query.device).clamp(min=1e-3)
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    q, k = rows.to(wide) / math.sqrt(query.shape[1]), keys.to(wide)
    v = k if values is None else values.to(wide)
    height, width = q.shape[1:3]
    masses = [tuple(log_mass(g, n, boundary).to(wide) for n in (height, width)) for g in gammas]
    # what depends on values cannot be asked inside a transform of torch.func: there nothing is cut off
    reach = max(height, width) if transformed(q, k, v, gammas) else _reach(q.detach(), k.detach(), gammas.detach())
    bands = []
    for y in range(0, height, TILE):
        ys, near_y = slice(y, y + TILE), slice(max(y - reach, 0), y + TILE + reach)
        tiles = []
        for x in range(0, width, TILE):
            xs, near_x = slice(x, x + TILE), slice(max(x - reach, 0), x + TILE + reach)
            bias = [my[ys, None, near_y, None] + mx[None, xs, None, near_x] for my, mx in masses]
            tiles.append(_tile(q[:, ys, xs], k[:, :, near_y, near_x], v[:, :, near_y, near_x], bias))
        bands.append(torch.cat(tiles, dim=2))
    return to_map(torch.cat(bands, dim=1).to(query.dtype), query)


def _tile(q: Tensor, k: Tensor, v: Tensor, biases: list[Tensor]) -> Tensor:
    """Attention of a tile of queries (B, h, w, C) to the keys in reach (B, T, h', w', C), averaged over foci."""
    score = torch.einsum("bijc,btuvc->bijtuv", q, k)
    weight = sum((score + bias.unsqueeze(2)).flatten(3).softmax(-1) for bias in biases) / len(biases)
    return torch.einsum("bijn,bnc->bijc", weight, v.flatten(1, 3))


def _reach(q: Tensor, k: Tensor, gammas: Tensor) -> int:
    """Cells per direction beyond which all keys together weigh less than rounding.

    A far cell can outweigh a near one by exp(score range), so the range counts, bounded by Cauchy and Schwarz:
    weight beyond R ≤ 4 Q((R + ½)/γ) exp(range) / kept mass, with Q(z) ≤ ½ exp(−z²/2) and a kept mass above ⅛.
    """
    score_range = 2 * float(q.norm(dim=-1).max() * k.norm(dim=-1).max())
    if not math.isfinite(score_range):
        return max(k.shape[2:4])
    rounding = torch.finfo(q.dtype).eps / 16
    return math.ceil(float(gammas.max()) * math.sqrt(2 * (math.log(16 / rounding) + score_range)))


def log_mass(gamma: Tensor, size: int, boundary: str) -> Tensor:
    """log P(cell p' | query p) along one axis, (size, size) indexed [p, p'], float64, differentiable in `gamma`.

    Stable however far p' is: tails are written with the scaled function erfcx(x) = exp(x²) erfc(x).
    """
    cell = torch.arange(size, device=gamma.device)
    distance = (cell - cell[:, None]).abs().to(torch.float64)
    at_border = ((cell == 0) | (cell == size - 1)).expand(size, size)
    if boundary == "mask":
        at_border = torch.zeros_like(at_border)
    far = distance.clamp(min=1)
    near_edge, far_edge = (far - 0.5) / gamma, (far + 0.5) / gamma
    beyond = torch.where(at_border, 0.0, torch.exp(-far / gamma**2) * torch.special.erfcx(far_edge / math.sqrt(2)))
    elsewhere = (torch.special.erfcx(near_edge / math.sqrt(2)) - beyond).log() - near_edge**2 / 2 - math.log(2)
    half_cell = 0.5 / (gamma * math.sqrt(2))
    own = torch.where(at_border, torch.log1p(-torch.erfc(half_cell) / 2), torch.erf(half_cell).log())
    if size == 1 and boundary == "clamp":
        return torch.zeros_like(own)  # everything is clamped to the one cell
    return torch.where(distance == 0, own, elsewhere)

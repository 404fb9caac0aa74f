"""Argument checks of the public attention functions, and the step from maps to channel-last rows and back."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from crowdloc.attention.sampling import Neighborhood
from crowdloc.attention.tables import MAX_GAMMA


def check_gamma(gamma: float | Iterable[float]) -> tuple[float, ...]:
    """Standard deviations in cells, one per focus, as a tuple."""
    gammas = (float(gamma),) if isinstance(gamma, (int, float)) else tuple(float(g) for g in gamma)
    if not gammas:
        raise ValueError("gamma must have at least one value")
    for g in gammas:
        if not 0 <= g <= MAX_GAMMA:
            raise ValueError(f"gamma must be between 0 and {MAX_GAMMA:g} cells, not {g}")
    return gammas


def check_boundary(boundary: str) -> None:
    if boundary not in ("clamp", "mask"):
        raise ValueError(f'boundary must be "clamp" or "mask", not {boundary!r}')


def check_count(name: str, value: int) -> None:
    """Counts share a 32-bit counter word in pairs, so they have 16 bits each."""
    if not 1 <= value <= 65535:
        raise ValueError(f"{name} must be between 1 and 65535, not {value}")


def neighborhood(
    kind: str,
    gamma: float | Iterable[float],
    num_points: int,
    num_samples: int,
    boundary: str,
    origin: tuple[int, int],
) -> Neighborhood:
    """The checked description of where queries look."""
    gammas = check_gamma(gamma)
    check_count("the number of gamma values", len(gammas))
    check_count("num_points", num_points)
    check_count("num_samples", num_samples)
    if kind not in ("independent", "qmc", "random", "window"):
        raise ValueError(f'sampling must be "independent" or "qmc", not {kind!r}')
    if kind == "qmc" and num_points & (num_points - 1):
        raise ValueError(f'num_points must be a power of two for sampling="qmc", not {num_points}')
    check_boundary(boundary)
    y0, x0 = origin
    return Neighborhood(kind, gammas, num_points, num_samples, boundary == "mask", y0, x0)


def seed_tensor(seed: int | Tensor) -> Tensor:
    """The seed as a 0-dim int64 tensor; integers beyond 64 bits are taken modulo 2⁶⁴."""
    if isinstance(seed, Tensor):
        if seed.dim() or seed.dtype.is_floating_point:
            raise TypeError(f"seed must be an int or a 0-dim integer tensor, not {seed.dtype} {tuple(seed.shape)}")
        return seed.long()
    if isinstance(seed, float):
        raise TypeError(f"seed must be an int or a 0-dim integer tensor, not {seed}")
    if not -(2**63) <= seed < 2**63:
        seed = (seed + 2**63) % 2**64 - 2**63
    return torch.tensor(seed, dtype=torch.int64)


def to_rows(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Checked rows (B, H, W, C), (B, T, H, W, C) and (B, T, H, W, C), or None when key and value are one tensor."""
    for name, x, dims in (("query", query, (4,)), ("key", key, (4, 5)), ("value", value, (4, 5))):
        if x.dim() not in dims:
            raise ValueError(f"{name} must have {' or '.join(map(str, dims))} dimensions, not shape {tuple(x.shape)}")
        if x.dtype != query.dtype or not x.dtype.is_floating_point:
            raise TypeError(f"{name} must be floating point and of the query's dtype, not {x.dtype} with {query.dtype}")
        if x.device != query.device:
            raise ValueError(f"{name} must be on the query's device {query.device}, not on {x.device}")
        if x.numel() == 0:
            raise ValueError(f"{name} must not be empty, not shape {tuple(x.shape)}")
    if key.shape[0] != query.shape[0] or key.shape[-3:] != query.shape[-3:]:
        raise ValueError(f"key must agree with query in B, C, H, W, not {tuple(key.shape)} with {tuple(query.shape)}")
    if value.shape != key.shape:
        raise ValueError(f"value must have the shape of key, not {tuple(value.shape)} with {tuple(key.shape)}")
    rows = query.permute(0, 2, 3, 1).contiguous()
    keys = rows.unsqueeze(1) if key is query else _frames(key)
    return rows, keys, None if value is key else _frames(value)


def _frames(x: Tensor) -> Tensor:
    return (x.unsqueeze(1) if x.dim() == 4 else x).permute(0, 1, 3, 4, 2).contiguous()


def to_map(rows: Tensor, like: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, C, H, W), contiguous if `like` is, else channels last."""
    out = rows.permute(0, 3, 1, 2)
    return out.contiguous() if like.is_contiguous() else out

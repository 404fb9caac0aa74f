"""Argument checks of the public attention functions, and the step from maps to channel-last rows and back."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence, Set

import numpy as np
import torch
from torch import Tensor

from crowdloc.attention.sampling import Neighborhood
from crowdloc.attention.tables import MAX_GAMMA

BACKENDS = ("reference", "numba", "triton")
# looked up once, without importing them; Triton's backend is a file of this package that Triton itself must serve
INSTALLED = {
    "reference": True,
    "numba": importlib.util.find_spec("numba") is not None,
    "triton": all(importlib.util.find_spec(name) for name in ("triton", "crowdloc.attention.triton_backend")),
}


def check_integer(name: str, value: object) -> int:
    """An int, also NumPy's; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    return int(value)


def check_count(name: str, value: object, most: int = 65535) -> int:
    """Draws share a 32-bit counter word in pairs, so counts have 16 bits each."""
    count = check_integer(name, value)
    if not 1 <= count <= most:
        raise ValueError(f"{name} must be between 1 and {most}, not {count}")
    return count


def check_gamma(gamma: float | Iterable[float] | Tensor) -> tuple[float, ...]:
    """Standard deviations in cells, one per focus, as a tuple."""
    if isinstance(gamma, (Tensor, np.ndarray)):
        if gamma.ndim > 1:
            raise ValueError(f"gamma must have one dimension, one value per focus, not shape {tuple(gamma.shape)}")
        gamma = gamma.tolist()
    # a text is a sequence of digits, and a set has no first focus
    if isinstance(gamma, (str, bytes, Mapping, Set)) or not isinstance(gamma, (int, float, np.number, Iterable)):
        raise TypeError(f"gamma must be a number or a sequence of numbers, not {gamma!r}")
    gammas = []
    for g in gamma if isinstance(gamma, Iterable) else (gamma,):
        if isinstance(g, Tensor) and g.ndim == 0:
            g = g.item()
        if isinstance(g, bool) or not isinstance(g, (int, float, np.integer, np.floating)):
            raise TypeError(f"gamma must be a number or a sequence of numbers, not {g!r}")
        if not 0 <= g <= MAX_GAMMA:
            raise ValueError(f"gamma must be between 0 and {MAX_GAMMA:g} cells, not {g}")
        gammas.append(float(g))
    if not gammas:
        raise ValueError("gamma must have at least one value")
    return tuple(gammas)


def check_boundary(boundary: str) -> None:
    if boundary not in ("clamp", "mask"):
        raise ValueError(f'boundary must be "clamp" or "mask", not {boundary!r}')


def check_backend(backend: str | None) -> None:
    """A backend that is installed, or None; whether it fits a tensor is known when there is one."""
    if backend is None:
        return
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)} or None, not {backend!r}")
    if not INSTALLED[backend]:
        raise ValueError(f"backend {backend!r} is not installed: pip install {backend}, or backend='reference'")


def neighborhood(
    kind: str,
    gamma: float | Iterable[float],
    num_points: int,
    num_samples: int,
    boundary: str,
    origin: tuple[int, int],
) -> Neighborhood:
    """The checked description of where queries look."""
    if isinstance(gamma, Tensor) and gamma.requires_grad:
        raise ValueError("gamma must not require a gradient: draws have none in gamma, gaussian_limit_attention has")
    gammas = check_gamma(gamma)
    check_count("the number of gamma values", len(gammas))
    points, samples = check_count("num_points", num_points), check_count("num_samples", num_samples)
    if kind == "qmc" and points & (points - 1):
        raise ValueError(f'num_points must be a power of two for sampling="qmc", not {points}')
    check_boundary(boundary)
    if not isinstance(origin, Sequence) or isinstance(origin, str) or len(origin) != 2:
        raise ValueError(f"origin must be two integers (y0, x0), not {origin!r}")
    y0, x0 = (check_integer("origin", part) for part in origin)
    if max(abs(y0), abs(x0)) >= 2**62:
        raise ValueError(f"origin must be smaller than 2**62, not {origin!r}")
    return Neighborhood(kind, gammas, points, samples, boundary == "mask", y0, x0)


def gaussian_neighborhood(
    sampling: str,
    gamma: float | Iterable[float],
    num_points: int,
    num_samples: int,
    boundary: str,
    origin: tuple[int, int] = (0, 0),
) -> Neighborhood:
    """The same for draws around the query."""
    if sampling not in ("independent", "qmc"):
        raise ValueError(f'sampling must be "independent" or "qmc", not {sampling!r}')
    return neighborhood(sampling, gamma, num_points, num_samples, boundary, origin)


def seed_tensor(seed: int | Tensor) -> Tensor:
    """The seed as a 0-dim int64 tensor; integers beyond 64 bits are taken modulo 2⁶⁴."""
    if isinstance(seed, Tensor):
        if seed.dim() or seed.dtype.is_floating_point or seed.dtype.is_complex or seed.dtype == torch.bool:
            raise TypeError(f"seed must be an int or a 0-dim integer tensor, not {seed.dtype} {tuple(seed.shape)}")
        return seed.long()
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed must be an int or a 0-dim integer tensor, not {seed!r}")
    seed = int(seed)
    if not -(2**63) <= seed < 2**63:
        seed = (seed + 2**63) % 2**64 - 2**63
    return torch.tensor(seed, dtype=torch.int64)


def to_rows(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Checked rows (B, H, W, C), (B, T, H, W, C) and (B, T, H, W, C), or None when key and value are one tensor."""
    for name, x, dims in (("query", query, (4,)), ("key", key, (4, 5)), ("value", value, (4, 5))):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a tensor, not {type(x).__name__}")
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

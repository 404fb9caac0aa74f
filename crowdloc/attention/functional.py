"""The public functions: they check their arguments, choose a backend and call it."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from crowdloc.attention import ops, reference
from crowdloc.attention.sampling import Neighborhood, neighbor_cells
from crowdloc.attention.tables import MAX_GAMMA

BACKENDS = ("reference", "numba", "triton")
# looked up once, without importing them; Triton's backend is a file of this package that Triton itself must serve
_NUMBA = importlib.util.find_spec("numba") is not None
_TRITON = all(importlib.util.find_spec(name) for name in ("triton", "crowdloc.attention.triton_backend"))
_INTERPRET = os.environ.get("TRITON_INTERPRET") == "1"


def available_backends() -> list[str]:
    """Backends usable on this machine, e.g. ["reference", "numba", "triton"].

    "triton" needs a CUDA device, or `TRITON_INTERPRET=1` set before the import (slow, for tests).
    """
    usable = {"reference": True, "numba": _NUMBA, "triton": _TRITON and (_INTERPRET or torch.cuda.is_available())}
    return [name for name in BACKENDS if usable[name]]


def gaussian_neighbor_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    gamma: float | Iterable[float] = (3.0, 5.0, 10.0),
    num_points: int = 32,
    num_samples: int = 1,
    seed: int | Tensor = 0,
    boundary: str = "clamp",
    origin: tuple[int, int] = (0, 0),
    sampling: str = "independent",
    backend: str | None = None,
) -> Tensor:
    """Multi-focus Gaussian neighbour attention (paper §IV-A, eq. 2).

    For each query cell p and each γ, `num_points` cells per frame are drawn from N(p, γ²I) and rounded to cells; one
    softmax of q·k/√C runs over the union of all frames' draws; outputs are averaged over foci and samplings. Draws
    are with replacement and duplicates count, and all entries of a batch share their neighbours.

    Args:
        query: (B, C, H, W), float32, bfloat16, float16, or float64 (reference only).
        key, value: (B, T, C, H, W), or (B, C, H, W) for one frame. Give the same tensor for K = V: it is read once.
        gamma: standard deviations in feature cells, one per focus, 0 to 1024.
        num_points: draws per query, focus, sampling and frame.
        num_samples: repeated samplings to average (the paper's multi-sample test).
        seed: 64-bit integer (others are taken modulo 2⁶⁴) or 0-dim int64 tensor; see `module_seed`.
        boundary: "clamp" moves draws outside the map to its border; "mask" drops them, and a set that loses all of
            its draws looks at the query's own cell in every frame.
        origin: (y0, x0), position of this map's cell (0, 0) in a larger map, so that tiles draw what the whole draws.
        sampling: "independent", or "qmc": scrambled Sobol points (`num_points` a power of two) of less variance.
        backend: "reference", "numba" or "triton"; None picks by device and dtype.

    Returns:
        (B, C, H, W), the dtype of the query.

    Raises:
        ValueError, TypeError: an argument is out of range or does not fit the others; the message names it.
    """
    if sampling not in ("independent", "qmc"):
        raise ValueError(f'sampling must be "independent" or "qmc", not {sampling!r}')
    where = _neighborhood(sampling, gamma, num_points, num_samples, boundary, origin)
    return _attend(query, key, value, seed, where, backend)


def random_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    num_points: int = 32,
    num_samples: int = 1,
    seed: int | Tensor = 0,
    backend: str | None = None,
) -> Tensor:
    """Random attention (paper Table IX, RANet): each query looks at cells drawn uniformly from the whole map.

    Arguments, shapes and errors as in `gaussian_neighbor_attention`.
    """
    where = _neighborhood("random", 0.0, num_points, num_samples, "clamp", (0, 0))
    return _attend(query, key, value, seed, where, backend)


def local_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    window: int = 7,
    boundary: str = "mask",
    backend: str | None = None,
) -> Tensor:
    """Local attention (paper Table IX, LANet): each query looks at the `window` × `window` cells around it.

    Cells outside the map are left out ("mask") or stand for the nearest border cell ("clamp"). `window` is odd.
    Shapes and errors as in `gaussian_neighbor_attention`.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be a positive odd number, not {window}")
    where = _neighborhood("window", 0.0, window * window, 1, boundary, (0, 0))
    return _attend(query, key, value, 0, where, backend)


def full_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Full attention (paper eq. 1): each query looks at every cell of every frame once. Shapes as above.

    Nothing is sampled, so this is torch's own `scaled_dot_product_attention`.
    """
    q, k, v = _to_rows(query, key, value)
    k = k.flatten(1, 3)
    out = F.scaled_dot_product_attention(q.flatten(1, 2), k, k if v is None else v.flatten(1, 3))
    return _to_map(out.view(q.shape), query)


def sample_neighbors(
    height: int,
    width: int,
    *,
    num_frames: int = 1,
    gamma: float | Iterable[float],
    num_points: int,
    num_samples: int = 1,
    seed: int | Tensor,
    boundary: str = "clamp",
    origin: tuple[int, int] = (0, 0),
    sampling: str = "independent",
) -> Tensor:
    """The cells that `gaussian_neighbor_attention` reads with the same arguments.

    Returns int64 (N, F·S, T·P): flat indices into T·H·W, frame-major along the last axis; −1 where boundary="mask"
    dropped a draw.
    """
    if sampling not in ("independent", "qmc"):
        raise ValueError(f'sampling must be "independent" or "qmc", not {sampling!r}')
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, not {height} and {width}")
    where = _neighborhood(sampling, gamma, num_points, num_samples, boundary, origin)
    _check_count("num_frames", num_frames)
    return neighbor_cells(where, num_frames, height, width, _seed_tensor(seed))


def _neighborhood(
    kind: str,
    gamma: float | Iterable[float],
    num_points: int,
    num_samples: int,
    boundary: str,
    origin: tuple[int, int],
) -> Neighborhood:
    gammas = (float(gamma),) if isinstance(gamma, (int, float)) else tuple(float(g) for g in gamma)
    if not gammas:
        raise ValueError("gamma must have at least one value")
    for g in gammas:
        if not 0 <= g <= MAX_GAMMA:
            raise ValueError(f"gamma must be between 0 and {MAX_GAMMA:g} cells, not {g}")
    _check_count("the number of gamma values", len(gammas))
    _check_count("num_points", num_points)
    _check_count("num_samples", num_samples)
    if kind == "qmc" and num_points & (num_points - 1):
        raise ValueError(f'num_points must be a power of two for sampling="qmc", not {num_points}')
    if boundary not in ("clamp", "mask"):
        raise ValueError(f'boundary must be "clamp" or "mask", not {boundary!r}')
    y0, x0 = origin
    return Neighborhood(kind, gammas, num_points, num_samples, boundary == "mask", y0, x0)


def _check_count(name: str, value: int) -> None:
    if not 1 <= value <= 65535:
        raise ValueError(f"{name} must be between 1 and 65535, not {value}")


def _seed_tensor(seed: int | Tensor) -> Tensor:
    if isinstance(seed, Tensor):
        if seed.dim() or seed.dtype.is_floating_point:
            raise TypeError(f"seed must be an int or a 0-dim integer tensor, not {seed.dtype} of shape {tuple(seed.shape)}")
        return seed.long()
    if not -(2**63) <= seed < 2**63:
        seed = (seed + 2**63) % 2**64 - 2**63
    return torch.tensor(seed, dtype=torch.int64)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, seed: int | Tensor, where: Neighborhood, backend: str | None
) -> Tensor:
    q, k, v = _to_rows(query, key, value)
    chosen = _choose(query, backend)
    if chosen == "reference":
        out = reference.attend(q, k, v, _seed_tensor(seed), where)
    else:
        out = ops.neighbor_attention(q, k, v, _seed_tensor(seed), chosen, *where)
    return _to_map(out, query)


def _choose(query: Tensor, backend: str | None) -> str:
    if backend is None:
        if query.dtype == torch.float64:
            return "reference"
        if query.is_cuda:
            return "triton" if _TRITON else "reference"
        return "numba" if _NUMBA and query.device.type == "cpu" else "reference"
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)} or None, not {backend!r}")
    if backend == "numba" and not _NUMBA:
        raise ValueError("backend 'numba' is not installed: pip install numba, or backend='reference'")
    if backend == "triton" and not _TRITON:
        raise ValueError("backend 'triton' is not installed: pip install triton, or another backend")
    if backend == "triton" and not (query.is_cuda or _INTERPRET):
        raise ValueError("backend 'triton' needs CUDA tensors; query is on the CPU (TRITON_INTERPRET=1 allows it in tests)")
    if backend == "numba" and query.device.type != "cpu":
        raise ValueError(f"backend 'numba' needs CPU tensors; query is on {query.device}")
    if backend != "reference" and query.dtype == torch.float64:
        raise ValueError(f"backend {backend!r} does not compute in float64: use backend='reference'")
    return backend


def _to_rows(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Channel-last rows (B, H, W, C), (B, T, H, W, C) and (B, T, H, W, C), or None when key and value are one tensor."""
    for name, x, dims in (("query", query, (4,)), ("key", key, (4, 5)), ("value", value, (4, 5))):
        if x.dim() not in dims:
            raise ValueError(f"{name} must have {' or '.join(map(str, dims))} dimensions, not shape {tuple(x.shape)}")
        if x.dtype != query.dtype or not x.dtype.is_floating_point:
            raise TypeError(f"{name} must be floating point and of the query's dtype, not {x.dtype} with {query.dtype}")
        if x.device != query.device:
            raise ValueError(f"{name} must be on the query's device {query.device}, not on {x.device}")
    if 0 in query.shape or 0 in key.shape:
        raise ValueError(f"query and key must not be empty, not {tuple(query.shape)} and {tuple(key.shape)}")
    if key.shape[0] != query.shape[0] or key.shape[-3:] != query.shape[-3:]:
        raise ValueError(f"key must agree with query in B, C, H, W, not {tuple(key.shape)} with {tuple(query.shape)}")
    if value.shape != key.shape:
        raise ValueError(f"value must have the shape of key, not {tuple(value.shape)} with {tuple(key.shape)}")
    rows = query.permute(0, 2, 3, 1).contiguous()
    if key is query:
        keys = rows.unsqueeze(1)
    else:
        keys = (key.unsqueeze(1) if key.dim() == 4 else key).permute(0, 1, 3, 4, 2).contiguous()
    if value is key:
        return rows, keys, None
    return rows, keys, (value.unsqueeze(1) if value.dim() == 4 else value).permute(0, 1, 3, 4, 2).contiguous()


def _to_map(rows: Tensor, like: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, C, H, W) in the memory format of the query."""
    out = rows.permute(0, 3, 1, 2)
    return out.contiguous() if like.is_contiguous() else out

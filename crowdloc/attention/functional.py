"""The public functions: they check their arguments, choose a backend and call it."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from crowdloc.attention import ops, reference
from crowdloc.attention.checks import (
    BACKENDS,
    INSTALLED,
    check_backend,
    check_count,
    gaussian_neighborhood,
    neighborhood,
    seed_tensor,
    to_map,
    to_rows,
)
from crowdloc.attention.sampling import Neighborhood, neighbor_cells

_INTERPRET = os.environ.get("TRITON_INTERPRET") == "1"


def available_backends() -> list[str]:
    """Backends usable on this machine, e.g. ["reference", "numba", "triton"].

    "triton" needs a CUDA device, or `TRITON_INTERPRET=1` set before the import (slow, for tests).
    """
    usable = INSTALLED | {"triton": INSTALLED["triton"] and (_INTERPRET or torch.cuda.is_available())}
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

    Differentiable to any order and under `torch.func`; beyond plain gradients with the reference's time and memory.

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
    where = gaussian_neighborhood(sampling, gamma, num_points, num_samples, boundary, origin)
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
    where = neighborhood("random", 0.0, num_points, num_samples, "clamp", (0, 0))
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
    if check_count("window", window, 255) % 2 == 0:
        raise ValueError(f"window must be odd, not {window}")
    where = neighborhood("window", 0.0, window * window, 1, boundary, (0, 0))
    return _attend(query, key, value, 0, where, backend)


def full_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Full attention (paper eq. 1): each query looks at every cell of every frame once. Shapes as above.

    Nothing is sampled, so this is torch's own `scaled_dot_product_attention`.
    """
    q, k, v = to_rows(query, key, value)
    k = k.flatten(1, 3)
    rows = (q.flatten(1, 2), k, k if v is None else v.flatten(1, 3))
    if not torch.compiler.is_compiling() and ops.transformed(*rows):
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels know no forward mode
            out = F.scaled_dot_product_attention(*rows)
    else:
        out = F.scaled_dot_product_attention(*rows)
    return to_map(out.view(q.shape), query)


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
    height, width = check_count("height", height), check_count("width", width)
    where = gaussian_neighborhood(sampling, gamma, num_points, num_samples, boundary, origin)
    return neighbor_cells(where, check_count("num_frames", num_frames), height, width, seed_tensor(seed))


def _attend(
    query: Tensor, key: Tensor, value: Tensor, seed: int | Tensor, where: Neighborhood, backend: str | None
) -> Tensor:
    q, k, v = to_rows(query, key, value)
    chosen = _choose(query, backend)
    if chosen == "reference":
        out = reference.attend(q, k, v, seed_tensor(seed), where)
    else:
        out = ops.attend(q, k, v, seed_tensor(seed), chosen, *where)
    return to_map(out, query)


def _choose(query: Tensor, backend: str | None) -> str:
    check_backend(backend)
    if backend is None:
        if query.dtype == torch.float64:
            return "reference"
        if query.is_cuda:
            return "triton" if INSTALLED["triton"] else "reference"
        return "numba" if INSTALLED["numba"] and query.device.type == "cpu" else "reference"
    if backend == "triton" and not (query.is_cuda or _INTERPRET):
        raise ValueError("backend 'triton' needs a CUDA query, not one on the CPU (tests: TRITON_INTERPRET=1)")
    if backend == "numba" and query.device.type != "cpu":
        raise ValueError(f"backend 'numba' needs CPU tensors; query is on {query.device}")
    if backend != "reference" and query.dtype == torch.float64:
        raise ValueError(f"backend {backend!r} does not compute in float64: use backend='reference'")
    return backend

"""Sampled attention on the GPU: one program per query draws, gathers and reduces; nothing per draw is stored.

out[b, n] = 1/(F·S) Σ_sets Σ_draws softmax(q·k/√C) v, with an online softmax in base 2 over the draws of all frames
(Dao et al., 2022). Cost per query: F·S·T·P rows of C elements, read once if K = V and twice if not, and 4·F·S·T·P·C
FLOPs, so it is bound by the gather. Neither the gathered rows, nor the scores, nor the drawn cells reach memory.
Neighbouring queries are neighbouring programs, which share rows in the caches.

The backward pass draws again and goes over each set twice (softmax statistics, then gradients). The gradients of
keys and values are summed by float32 atomics, whose order, and so whose last bits, change between runs. Under
`torch.use_deterministic_algorithms(True)` it instead stores cell and two coefficients per draw, sorts the draws by
cell and lets each key gather its queries in that fixed order: repeatable, but 12 bytes per draw more, and the sort.

Proven without a GPU: the logic and the masks (Triton's interpreter), and that the kernels compile. Speed, occupancy
and precision modes need a GPU run; none of the block sizes below has been tuned.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from crowdloc.attention.sampling import MASK, Neighborhood
from crowdloc.attention.tables import thresholds
from crowdloc.attention.triton_draws import KINDS, cells, lost_all

LOG2E = tl.constexpr(1.4426950408889634)
# elements of the (draws, channels) tile of a program: 64 registers of float32 in each of 128 threads
TILE = 8192


@triton.jit
def _rows(base, row, counts, C: tl.constexpr, BLOCK_C: tl.constexpr):
    """Rows (BLOCK, BLOCK_C) in float32; zero where a draw does not count and beyond channel C."""
    c = tl.arange(0, BLOCK_C)
    return tl.load(base + row[:, None] * C + c[None, :], mask=counts[:, None] & (c < C)[None, :], other=0.0).to(
        tl.float32
    )


@triton.jit
def _row(base, row, C: tl.constexpr, BLOCK_C: tl.constexpr):
    c = tl.arange(0, BLOCK_C)
    return tl.load(base + row * C + c, mask=c < C, other=0.0).to(tl.float32)


@triton.jit
def _online(score, top, mass):
    """One step of the online softmax: weights relative to the new maximum, the old sum's factor, and both updated."""
    higher = tl.maximum(top, tl.max(score, axis=0))
    # no draw so far counts: any finite number will do
    shift = tl.where(higher == float("-inf"), 0.0, higher)
    weight, fade = tl.exp2(score - shift), tl.exp2(top - shift)
    return weight, fade, higher, mass * fade + tl.sum(weight, axis=0)


@triton.jit
def _forward(
    query, key, value, out, seed, table, queries, frames, height, width, y0, x0, scale, SETS: tl.constexpr,
    C: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK: tl.constexpr, SAME: tl.constexpr, POINTS: tl.constexpr,
    MASKED: tl.constexpr, KIND: tl.constexpr, SAMPLES: tl.constexpr, SIDE: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """query, out (B, N, C); key, value (B, T·N, C), one and the same if SAME: then each row is loaded once.

    Grid: (B · N,), one program per query, all of one batch entry before the next.
    """
    at = tl.program_id(0).to(tl.int64)
    b, n = at // queries, at % queries
    s = tl.load(seed)
    q = _row(query, at, C, BLOCK_C) * (scale * LOG2E)
    total = tl.zeros([BLOCK_C], tl.float32)
    for row in range(SETS):
        lost = lost_all(
            n, row, s, table, frames, height, width, y0, x0, POINTS, BLOCK, MASKED, KIND, SAMPLES, SIDE, STEPS
        )
        top, mass, sum_v = float("-inf"), 0.0, tl.zeros([BLOCK_C], tl.float32)
        for start in range(0, frames * POINTS, BLOCK):
            draw = start + tl.arange(0, BLOCK).to(tl.int64)
            cell, counts = cells(
                n, row, draw, lost, s, table, frames, height, width, y0, x0, POINTS, MASKED, KIND, SAMPLES, SIDE, STEPS
            )
            cell += b * frames * queries
            k = _rows(key, cell, counts, C, BLOCK_C)  # (BLOCK, BLOCK_C)
            score = tl.where(counts, tl.sum(k * q[None, :], axis=1), float("-inf"))  # (BLOCK,)
            weight, fade, top, mass = _online(score, top, mass)
            if SAME:
                v = k
            else:
                v = _rows(value, cell, counts, C, BLOCK_C)
            sum_v = sum_v * fade + tl.sum(weight[:, None] * v, axis=0)
        total += sum_v / mass
    c = tl.arange(0, BLOCK_C)
    tl.store(out + at * C + c, (total / SETS).to(out.dtype.element_ty), mask=c < C)


@triton.jit
def _backward_query(
    query, key, value, grad, grad_query, grad_key, grad_value, named, of_query, of_grad, seed, table,
    queries, frames, height, width, y0, x0, scale, SETS: tl.constexpr, STORE: tl.constexpr,
    C: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK: tl.constexpr, SAME: tl.constexpr, POINTS: tl.constexpr,
    MASKED: tl.constexpr, KIND: tl.constexpr, SAMPLES: tl.constexpr, SIDE: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Gradient of each query, and what its draws add to the gradients of keys and values.

    A draw adds a · q to its key's gradient and w · g to its value's. Without STORE both are added to float32
    `grad_key` and `grad_value` (B, T·N, C) by atomics. With STORE the draw's cell goes to `named` (N, F·S·T·P), and
    a and w go to `of_query` and `of_grad` (B, N, F·S·T·P), for `_backward_key`.

    Grid: (B · N,), one program per query, all of one batch entry before the next.
    """
    at = tl.program_id(0).to(tl.int64)
    b, n = at // queries, at % queries
    s = tl.load(seed)
    c = tl.arange(0, BLOCK_C)
    q = _row(query, at, C, BLOCK_C)
    g = _row(grad, at, C, BLOCK_C) / SETS
    sum_q = tl.zeros([BLOCK_C], tl.float32)
    draws = frames * POINTS
    for row in range(SETS):
        lost = lost_all(
            n, row, s, table, frames, height, width, y0, x0, POINTS, BLOCK, MASKED, KIND, SAMPLES, SIDE, STEPS
        )
        top, mass, mean = float("-inf"), 0.0, 0.0
        for start in range(0, draws, BLOCK):
            draw = start + tl.arange(0, BLOCK).to(tl.int64)
            cell, counts = cells(
                n, row, draw, lost, s, table, frames, height, width, y0, x0, POINTS, MASKED, KIND, SAMPLES, SIDE, STEPS
            )
            cell += b * frames * queries
            k = _rows(key, cell, counts, C, BLOCK_C)  # (BLOCK, BLOCK_C)
            score = tl.where(counts, tl.sum(k * q[None, :], axis=1) * (scale * LOG2E), float("-inf"))  # (BLOCK,)
            weight, fade, top, mass = _online(score, top, mass)
            if SAME:
                v = k
            else:
                v = _rows(value, cell, counts, C, BLOCK_C)
            slope = tl.sum(v * g[None, :], axis=1)  # (BLOCK,)
            mean = mean * fade + tl.sum(weight * slope, axis=0)
        mean /= mass
        for start in range(0, draws, BLOCK):
            draw = start + tl.arange(0, BLOCK).to(tl.int64)
            cell, counts = cells(
                n, row, draw, lost, s, table, frames, height, width, y0, x0, POINTS, MASKED, KIND, SAMPLES, SIDE, STEPS
            )
            whole = cell + b * frames * queries
            k = _rows(key, whole, counts, C, BLOCK_C)
            score = tl.where(counts, tl.sum(k * q[None, :], axis=1) * (scale * LOG2E), float("-inf"))
            if SAME:
                v = k
            else:
                v = _rows(value, whole, counts, C, BLOCK_C)
            w = tl.exp2(score - top) / mass
            a = w * (tl.sum(v * g[None, :], axis=1) - mean) * scale
            sum_q += tl.sum(a[:, None] * k, axis=0)
            if STORE:
                place, there = (n * SETS + row) * draws + draw, draw < draws
                # every batch entry writes the same cells; a draw that does not count sorts behind all cells
                tl.store(named + place, tl.where(counts, cell, frames * queries).to(tl.int32), mask=there)
                place += b * queries * SETS * draws
                tl.store(of_query + place, a, mask=there)
                tl.store(of_grad + place, w / SETS, mask=there)
            else:
                to, mask = whole[:, None] * C + c[None, :], counts[:, None] & (c < C)[None, :]
                to_key, to_value = a[:, None] * q[None, :], w[:, None] * g[None, :]
                if SAME:
                    tl.atomic_add(grad_key + to, to_key + to_value, mask=mask, sem="relaxed")
                else:
                    tl.atomic_add(grad_key + to, to_key, mask=mask, sem="relaxed")
                    tl.atomic_add(grad_value + to, to_value, mask=mask, sem="relaxed")
    tl.store(grad_query + at * C + c, sum_q.to(grad_query.dtype.element_ty), mask=c < C)


@triton.jit
def _backward_key(
    query, grad, grad_key, grad_value, order, begins, of_query, of_grad, queries, total, draws,
    C: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK: tl.constexpr, SAME: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values (B, T·N, C), each summed over the draws that name it, in the order of the draws.

    `order` (N·F·S·T·P,) holds draws sorted by cell, those of cell j from begins[j] to begins[j + 1] − 1; `total` is
    T·N and `draws` F·S·T·P.

    Grid: (B · T·N,), one program per key.
    """
    at = tl.program_id(0).to(tl.int64)
    b, cell = at // total, at % total
    sum_k, sum_v = tl.zeros([BLOCK_C], tl.float32), tl.zeros([BLOCK_C], tl.float32)
    first, last = tl.load(begins + cell), tl.load(begins + cell + 1)
    for start in range(first, last, BLOCK):
        place = start + tl.arange(0, BLOCK).to(tl.int64)
        counts = place < last
        draw = tl.load(order + place, mask=counts, other=0)
        row, factor = b * queries + draw // draws, b * queries * draws + draw
        a = tl.load(of_query + factor, mask=counts, other=0.0)
        w = tl.load(of_grad + factor, mask=counts, other=0.0)
        sum_k += tl.sum(a[:, None] * _rows(query, row, counts, C, BLOCK_C), axis=0)
        sum_v += tl.sum(w[:, None] * _rows(grad, row, counts, C, BLOCK_C), axis=0)
    c = tl.arange(0, BLOCK_C)
    if SAME:
        sum_k += sum_v
    else:
        tl.store(grad_value + at * C + c, sum_v.to(grad_value.dtype.element_ty), mask=c < C)
    tl.store(grad_key + at * C + c, sum_k.to(grad_key.dtype.element_ty), mask=c < C)


@triton.jit
def _sample(
    named, seed, table, frames, height, width, y0, x0, SETS: tl.constexpr, BLOCK: tl.constexpr, POINTS: tl.constexpr,
    MASKED: tl.constexpr, KIND: tl.constexpr, SAMPLES: tl.constexpr, SIDE: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """The drawn cells, int64 (N, F·S, T·P), −1 for dropped draws; for tests.

    Grid: (N · F·S,), one program per set.
    """
    at = tl.program_id(0).to(tl.int64)
    n, row = at // SETS, at % SETS
    s = tl.load(seed)
    lost = lost_all(n, row, s, table, frames, height, width, y0, x0, POINTS, BLOCK, MASKED, KIND, SAMPLES, SIDE, STEPS)
    for start in range(0, frames * POINTS, BLOCK):
        draw = start + tl.arange(0, BLOCK).to(tl.int64)
        cell, counts = cells(
            n, row, draw, lost, s, table, frames, height, width, y0, x0, POINTS, MASKED, KIND, SAMPLES, SIDE, STEPS
        )
        tl.store(named + at * frames * POINTS + draw, tl.where(counts, cell, -1), mask=draw < frames * POINTS)


def forward(query: Tensor, key: Tensor, value: Tensor | None, seed: Tensor, where: Neighborhood) -> Tensor:
    """Same contract as `reference.attend`."""
    q, k = query.contiguous(), key.contiguous()
    v = k if value is None else value.contiguous()
    out = torch.empty_like(q)
    with torch.cuda.device_of(q):
        _forward[(q[..., 0].numel(),)](q, k, v, out, **_place(where, k, seed), **_blocks(where, k), SAME=value is None)
    return out


def backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor | None, seed: Tensor, where: Neighborhood
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of query, key and value (None when K = V: then the key's holds both).

    Deterministic if `torch.are_deterministic_algorithms_enabled()`, else summed by atomics.
    """
    q, k, g = query.contiguous(), key.contiguous(), grad.contiguous()
    v = k if value is None else value.contiguous()
    place, blocks = _place(where, k, seed), _blocks(where, k)
    grad_query = torch.empty_like(q)
    programs, shared = q[..., 0].numel(), value is None
    if not torch.are_deterministic_algorithms_enabled():
        grad_key = torch.zeros_like(k, dtype=torch.float32)
        grad_value = grad_key if shared else torch.zeros_like(grad_key)
        with torch.cuda.device_of(q):
            _backward_query[(programs,)](
                q, k, v, g, grad_query, grad_key, grad_value, None, None, None,
                **place, **blocks, STORE=False, SAME=shared,
            )  # fmt: skip
        return grad_query, grad_key.to(k.dtype), None if shared else grad_value.to(k.dtype)
    draws, total = where.sets * k.shape[1] * where.num_points, k[0, ..., 0].numel()
    named = torch.empty(place["queries"] * draws, dtype=torch.int32, device=q.device)
    of_query, of_grad = torch.empty(2, len(q), len(named), dtype=torch.float32, device=q.device)
    grad_key = torch.empty_like(k)
    grad_value = grad_key if shared else torch.empty_like(v)
    with torch.cuda.device_of(q):
        _backward_query[(programs,)](
            q, k, v, g, grad_query, None, None, named, of_query, of_grad, **place, **blocks, STORE=True, SAME=shared
        )
        ordered, order = named.sort(stable=True)
        begins = torch.searchsorted(ordered, torch.arange(total + 1, dtype=torch.int32, device=q.device))
        _backward_key[(len(k) * total,)](
            q, g, grad_key, grad_value, order, begins, of_query, of_grad, place["queries"], total, draws,
            **blocks, SAME=shared,
        )  # fmt: skip
    return grad_query, grad_key, None if shared else grad_value


def sample(where: Neighborhood, frames: int, height: int, width: int, seed: Tensor) -> Tensor:
    """The kernels' own draws, for comparison with `sampling.neighbor_cells`; on the device of the seed."""
    named = torch.empty(height * width, where.sets, frames * where.num_points, dtype=torch.int64, device=seed.device)
    place = _place(where, torch.empty(1, frames, height, width, 1, device=seed.device), seed)
    del place["queries"], place["scale"]
    block = triton.next_power_of_2(min(frames * where.num_points, 128))
    with torch.cuda.device_of(named):
        _sample[(named.shape[0] * where.sets,)](named, **place, BLOCK=block)
    return named


def _place(where: Neighborhood, key: Tensor, seed: Tensor) -> dict[str, Any]:
    """The arguments that say where queries look."""
    frames, height, width, channels = key.shape[1:]
    table, steps = _tables(tuple(where.gamma), key.device)
    return {
        "seed": seed.to(key.device), "table": table, "queries": height * width,
        "frames": frames, "height": height, "width": width, "y0": where.y0 & MASK, "x0": where.x0 & MASK,
        "scale": 1 / math.sqrt(channels), "SETS": where.sets, "POINTS": where.num_points, "MASKED": where.masked,
        "KIND": KINDS.index(where.kind), "SAMPLES": where.num_samples, "SIDE": math.isqrt(where.num_points),
        "STEPS": steps,
    }  # fmt: skip


def _blocks(where: Neighborhood, key: Tensor) -> dict[str, int]:
    """Whole rows, any number of channels, and as many draws as fit the tile beside them."""
    channels, draws = key.shape[-1], key.shape[1] * where.num_points
    block_c = triton.next_power_of_2(channels)
    block = max(1, min(triton.next_power_of_2(draws), 128, TILE // block_c))
    return {"C": channels, "BLOCK_C": block_c, "BLOCK": block, "num_warps": min(8, max(1, block * block_c // 2048))}


@lru_cache(maxsize=64)
def _tables(gammas: tuple[float, ...], device: torch.device) -> tuple[Tensor, int]:
    """Threshold tables (F, 2^steps) and steps: each padded with 2³², its last entry half the number of thresholds."""
    lists = [thresholds(gamma) for gamma in gammas]
    steps = max(map(len, lists)).bit_length()
    rows = [[*values, *[2**32] * (2**steps - 1 - len(values)), len(values) // 2] for values in lists]
    return torch.tensor(rows, dtype=torch.int64, device=device), steps

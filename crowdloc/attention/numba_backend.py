"""Sampled attention on the CPU: compiled loops that draw neighbours where they need them.

Per query: draw the cells of all foci, samplings and frames, keep each distinct cell once (a key is read once however
often it was drawn), score the distinct cells, one softmax per (focus, sampling), and one weighted sum for all of
them. Extra memory: channel-last copies of the maps, and in the backward pass two coefficients per distinct cell of a
query; never gathered keys.

Threads split the queries, and for the gradients of keys and values the cells, which collect from the queries that name
them: every sum is made by one thread in one order, and results do not depend on the number of threads. The compiler may
reassociate the float32 sums, once and for all at compile time (error as of any dot product, about 1e-6 relative).
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from crowdloc.attention.sampling import Neighborhood
from crowdloc.attention.tables import thresholds

_fast = njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "arcp", "nsz"}, error_model="numpy")
_exact = njit(cache=True, nogil=True, error_model="numpy")
_inline = njit(cache=True, nogil=True, error_model="numpy", forceinline=True)

KINDS = ("independent", "qmc", "random", "window")
QMC, RANDOM, WINDOW = 1, 2, 3
GUIDE = 11  # leading bits that look up where the search in a threshold table starts

U = np.uint64
MASK, M0, M1, W0, W1 = U(0xFFFFFFFF), U(0xD2511F53), U(0xCD9E8D57), U(0x9E3779B9), U(0xBB67AE85)
U32, SHIFT = U(32), U(32 - GUIDE)


@_inline
def _round(c, k0, k1):
    # the masks tell the compiler that these are 32-bit products, which it then does four at a time
    p0, p1 = M0 * (c[0] & MASK), M1 * (c[2] & MASK)
    return (p1 >> U32) ^ c[1] ^ k0, p1, (p0 >> U32) ^ c[3] ^ k1, p0


@_inline
def _philox(c0, c1, c2, c3, k0, k1):
    # written out: only then does the compiler turn loops over points into vector code
    c = _round(_round((c0, c1, c2, c3), k0, k1), k0 + W0, k1 + W1)
    c = _round(_round(c, k0 + U(2) * W0, k1 + U(2) * W1), k0 + U(3) * W0, k1 + U(3) * W1)
    c = _round(_round(c, k0 + U(4) * W0, k1 + U(4) * W1), k0 + U(5) * W0, k1 + U(5) * W1)
    c = _round(_round(c, k0 + U(6) * W0, k1 + U(6) * W1), k0 + U(7) * W0, k1 + U(7) * W1)
    c = _round(_round(c, k0 + U(8) * W0, k1 + U(8) * W1), k0 + U(9) * W0, k1 + U(9) * W1)
    return c[0] & MASK, c[1] & MASK


@_inline
def _swap(x, shift, bits):
    return ((x & U(bits)) << U(shift)) | ((x >> U(shift)) & U(bits))


@_inline
def _owen(x, key):
    x = (x + key) & MASK
    x ^= (x * U(0x6C50B47C)) & MASK
    x ^= (x * U(0xB82F1E52)) & MASK
    x ^= (x * U(0xC7AFE638)) & MASK
    x ^= (x * U(0x8D22F6E6)) & MASK
    x = _swap(_swap(_swap(x, 1, 0x55555555), 2, 0x33333333), 4, 0x0F0F0F0F)
    return _swap(_swap(x, 8, 0x00FF00FF), 16, 0x0000FFFF)


@_inline
def _sobol_second(x):
    x ^= (x & U(0xAAAAAAAA)) >> U(1)
    x ^= (x & U(0xCCCCCCCC)) >> U(2)
    x ^= (x & U(0xF0F0F0F0)) >> U(4)
    return x ^ (x & U(0xFF00FF00)) >> U(8)


@_inline
def _step(bits, table, guide):
    """Threshold search: the guide gives the count at the leading bits, a short scan the rest."""
    found = guide[bits >> SHIFT]
    while U(table[found]) <= bits:
        found += 1
    return found - guide[guide.size - 1] // 2


@_exact
def _offsets(y, x, row, frame, seed, kind, samples, origin, size, table, guide, bits, to_x, to_y):
    """Where the draws of one set and frame fall on the map, before the border rule."""
    _, height, width = size
    points = to_x.size
    if kind == WINDOW:
        side = round(points**0.5)
        for point in range(points):
            to_x[point], to_y[point] = x + point % side - side // 2, y + point // side - side // 2
        return
    k0, k1 = U(seed) & MASK, U(seed) >> U32
    c0, c1 = U(y + origin[0]) & MASK, U(x + origin[1]) & MASK
    c2, c3 = (U(row // samples) << U(16)) | U(row % samples), U(frame) << U(16)
    if kind == QMC:
        scramble_x, scramble_y = _philox(c0, c1, c2, c3, k0, k1)
        for point in range(points):
            bits[0, point] = _owen(U(point), scramble_x)
            bits[1, point] = _owen(_sobol_second(U(point)), scramble_y)
    else:
        for point in range(points):
            bits[0, point], bits[1, point] = _philox(c0, c1, c2, c3 | U(point), k0, k1)
    if kind == RANDOM:
        for point in range(points):
            to_x[point] = (bits[0, point] * U(width)) >> U32
            to_y[point] = (bits[1, point] * U(height)) >> U32
    else:
        for point in range(points):
            to_x[point] = x + _step(bits[0, point], table, guide)
            to_y[point] = y + _step(bits[1, point], table, guide)


@_exact
def _draw(y, x, seed, kind, samples, masked, origin, size, tables, guides, bits, to_x, to_y, cells):
    """Fill `cells` (F·S, T·P) with the cells that query (y, x) names, −1 for dropped draws."""
    frames, height, width = size
    points = to_x.size
    for row in range(cells.shape[0]):
        focus, kept = row // samples, 0
        for frame in range(frames):
            _offsets(
                y, x, row, frame, seed, kind, samples, origin, size, tables[focus], guides[focus], bits, to_x, to_y
            )
            for point in range(points):
                near_x, near_y = min(max(to_x[point], 0), width - 1), min(max(to_y[point], 0), height - 1)
                inside = near_x == to_x[point] and near_y == to_y[point]
                kept += inside
                cell = (frame * height + near_y) * width + near_x
                cells[row, frame * points + point] = cell if inside or not masked else -1
        if masked and kept == 0:
            for frame in range(frames):
                cells[row, frame * points] = (frame * height + y) * width + x


@_exact
def _distinct(cells, frames, slots, found, starts):
    """Replace the cells by slots into `found`, the distinct cells ordered by frame; frame t owns starts[t:t + 2].

    A dropped draw gets the spare slot found.size. `found` is padded with its last cell to a multiple of four, whose
    count is returned. `slots` maps cells to slots and is all −1 before and after.
    """
    points = cells.shape[1] // frames
    count = 0
    for frame in range(frames):
        starts[frame] = count
        for row in range(cells.shape[0]):
            for draw in range(frame * points, (frame + 1) * points):
                cell = cells[row, draw]
                if cell < 0:
                    cells[row, draw] = found.size
                    continue
                slot = slots[cell]
                if slot < 0:
                    slot = count
                    slots[cell] = slot
                    found[slot] = cell
                    count += 1
                cells[row, draw] = slot
    starts[frames] = count
    for slot in range(count):
        slots[found[slot]] = -1
    return _pad(found, count)


@_inline
def _pad(rows, count):
    while count % 4:
        rows[count] = rows[count - 1]
        count += 1
    return count


@_fast
def _scores(left, rows, found, count, scale, scores):
    """Scaled dot products of `left` (C,) with the named rows, four at a time."""
    for i in range(0, count, 4):
        r0, r1, r2, r3 = found[i], found[i + 1], found[i + 2], found[i + 3]
        a0 = a1 = a2 = a3 = np.float32(0)
        for c in range(left.size):
            a0 += left[c] * rows[r0, c]
            a1 += left[c] * rows[r1, c]
            a2 += left[c] * rows[r2, c]
            a3 += left[c] * rows[r3, c]
        scores[i], scores[i + 1], scores[i + 2], scores[i + 3] = a0 * scale, a1 * scale, a2 * scale, a3 * scale


@_fast
def _add_rows(weights, rows, found, count, out):
    """out += Σ weight · row over the named rows, four at a time."""
    for i in range(0, count, 4):
        r0, r1, r2, r3 = found[i], found[i + 1], found[i + 2], found[i + 3]
        w0, w1, w2, w3 = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        for c in range(out.size):
            out[c] += w0 * rows[r0, c] + w1 * rows[r1, c] + w2 * rows[r2, c] + w3 * rows[r3, c]


@_exact
def _exp(x, power):
    """exp in place for x ≤ 0, to about one unit in the last place (Cephes' expf); below −87 it stays at 2⁻¹²⁶."""
    one, ln2_high, ln2_low = np.float32(1), np.float32(0.693359375), np.float32(-2.12194440e-4)
    for i in range(x.size):
        v = np.float32(-87) if x[i] < np.float32(-87) else x[i]
        n = np.floor(v * np.float32(1.44269504) + np.float32(0.5))
        r = v - n * ln2_high - n * ln2_low
        p = np.float32(1.9875691500e-4) * r + np.float32(1.3981999507e-3)
        p = (p * r + np.float32(8.3334519073e-3)) * r + np.float32(4.1665795894e-2)
        p = (p * r + np.float32(1.6666665459e-1)) * r + np.float32(5.0000001201e-1)
        x[i] = p * r * r + r + one
        power[i] = (np.int32(n) + np.int32(127)) << np.int32(23)
    scale = power.view(np.float32)
    for i in range(x.size):
        x[i] *= scale[i]


@_fast
def _softmax(slots, scores, power, weights):
    """Softmax of one set over its draws (duplicates count) into `weights`, per draw."""
    top = np.float32(-np.inf)
    for draw in range(slots.size):
        weights[draw] = scores[slots[draw]]
        top = max(top, weights[draw])
    for draw in range(slots.size):
        weights[draw] -= top
    _exp(weights, power)
    total = np.float32(0)
    for draw in range(slots.size):
        total += weights[draw]
    for draw in range(slots.size):
        weights[draw] /= total


@_exact
def _look(first, size, seed, kind, samples, points, masked, origin, tables, guides, cells, found, starts, counts):
    """Draws and distinct cells of as many queries from `first` on as `counts` has entries."""
    frames, height, width = size
    bits, to_x, to_y = np.empty((2, points), np.uint64), np.empty(points, np.int64), np.empty(points, np.int64)
    slots = np.full(frames * height * width, -1, np.int32)
    for i in range(counts.size):
        y, x = (first + i) // width, (first + i) % width
        _draw(y, x, seed, kind, samples, masked, origin, size, tables, guides, bits, to_x, to_y, cells[i])
        counts[i] = _distinct(cells[i], frames, slots, found[i], starts[i])


@_fast
def _forward(first, last, query, key, value, out, room, sets, plan):
    """Output of a range of queries: all of one batch entry before the next, so that its keys stay in cache."""
    batch, _, channels = query.shape
    draws = plan[0][0] * plan[4]
    cells, found = np.empty((last - first, sets, draws), np.int32), np.empty((last - first, room), np.int32)
    starts, counts = np.empty((last - first, plan[0][0] + 1), np.int32), np.empty(last - first, np.int32)
    _look(first, *plan, cells, found, starts, counts)  # type: ignore[call-arg]
    scores, merged = np.full(room + 1, -np.inf, np.float32), np.empty(room + 1, np.float32)
    weights, power = np.empty(draws, np.float32), np.empty(draws, np.int32)
    scale, share = np.float32(1 / math.sqrt(channels)), np.float32(1 / sets)
    for b in range(batch):
        for i in range(last - first):
            _scores(query[b, first + i], key[b], found[i], counts[i], scale, scores)
            merged[:] = 0
            for row in range(sets):
                _softmax(cells[i, row], scores, power, weights)
                for draw in range(draws):
                    merged[cells[i, row, draw]] += weights[draw] * share
            _add_rows(merged, value[b], found[i], counts[i], out[b, first + i])


@_fast
def _backward_query(first, last, query, key, value, grad, grad_query, found, starts, factors, sets, plan):
    """Gradient of a range of queries, and what each of them adds to the gradients of its distinct cells.

    That is factors[n, slot, b, 0] · query to the key's and factors[n, slot, b, 1] · grad to the value's.
    """
    batch, _, channels = query.shape
    draws, room = plan[0][0] * plan[4], found.shape[1]
    cells, counts = np.empty((last - first, sets, draws), np.int32), np.empty(last - first, np.int32)
    _look(first, *plan, cells, found[first:last], starts[first:last], counts)  # type: ignore[call-arg]
    scores, slopes = np.full(room + 1, -np.inf, np.float32), np.zeros(room + 1, np.float32)
    to_query, to_grad = np.empty(room + 1, np.float32), np.empty(room + 1, np.float32)
    weights, power = np.empty(draws, np.float32), np.empty(draws, np.int32)
    scale, share = np.float32(1 / math.sqrt(channels)), np.float32(1 / sets)
    for b in range(batch):
        for i in range(last - first):
            n, count = first + i, counts[i]
            _scores(query[b, n], key[b], found[n], count, scale, scores)
            _scores(grad[b, n], value[b], found[n], count, share, slopes)
            to_query[:] = 0
            to_grad[:] = 0
            for row in range(sets):
                _softmax(cells[i, row], scores, power, weights)
                mean = np.float32(0)
                for draw in range(draws):
                    mean += weights[draw] * slopes[cells[i, row, draw]]
                for draw in range(draws):
                    slot = cells[i, row, draw]
                    to_query[slot] += weights[draw] * (slopes[slot] - mean) * scale
                    to_grad[slot] += weights[draw] * share
            _add_rows(to_query, key[b], found[n], count, grad_query[b, n])
            for slot in range(count):
                factors[n, slot, b, 0], factors[n, slot, b, 1] = to_query[slot], to_grad[slot]


@_exact
def _transpose(first, last, found, starts, begins, names, places):
    """For the cells of a range of frames, which queries name them, in order, and in which of their slots.

    The entries of cell j are begins[j] … begins[j + 1] − 1; `begins` is all 0 before.
    """
    cells = (begins.size - 1) // (starts.shape[1] - 1)
    queries = len(found)
    for frame in range(first, last):
        ends = np.zeros(cells, np.int64)
        before = 0
        for n in range(queries):
            before += starts[n, frame]
            for slot in range(starts[n, frame], starts[n, frame + 1]):
                ends[found[n, slot] - frame * cells] += 1
        for cell in range(cells):
            before, ends[cell] = before + ends[cell], before
            begins[frame * cells + cell + 1] = before
        for n in range(queries):
            for slot in range(starts[n, frame], starts[n, frame + 1]):
                cell = found[n, slot] - frame * cells
                names[ends[cell]], places[ends[cell]] = n, slot
                ends[cell] += 1


@_fast
def _backward_key(first, last, query, grad, factors, begins, all_names, places, grad_key, grad_value):
    """Gradients of a range of cells; `grad_value` is `grad_key` itself when K = V."""
    batch = len(query)
    room = begins[last] - begins[first] + 3 * (last - first)
    names, at = np.empty(room, np.int32), np.empty(last - first + 1, np.int64)
    of_query, of_grad = np.zeros((batch, room), np.float32), np.zeros((batch, room), np.float32)
    count = 0
    for cell in range(first, last):
        at[cell - first] = count
        for i in range(begins[cell], begins[cell + 1]):
            names[count] = all_names[i]
            for b in range(batch):
                of_query[b, count] = factors[all_names[i], places[i], b, 0]
                of_grad[b, count] = factors[all_names[i], places[i], b, 1]
            count += 1
        count = _pad(names, count)
    at[last - first] = count
    for b in range(batch):
        for cell in range(first, last):
            begin, end = at[cell - first], at[cell - first + 1]
            _add_rows(of_query[b, begin:], query[b], names[begin:], end - begin, grad_key[b, cell])
        for cell in range(first, last):
            begin, end = at[cell - first], at[cell - first + 1]
            _add_rows(of_grad[b, begin:], grad[b], names[begin:], end - begin, grad_value[b, cell])


@_exact
def _sample(first, last, cells, size, seed, kind, samples, points, masked, origin, tables, guides):
    bits, to_x, to_y = np.empty((2, points), np.uint64), np.empty(points, np.int64), np.empty(points, np.int64)
    for n in range(first, last):
        y, x = n // size[2], n % size[2]
        _draw(y, x, seed, kind, samples, masked, origin, size, tables, guides, bits, to_x, to_y, cells[n])


def forward(query: Tensor, key: Tensor, value: Tensor | None, seed: Tensor, where: Neighborhood) -> Tensor:
    """Same contract as `reference.attend`."""
    q, k = _rows(query), _rows(key)
    v = k if value is None else _rows(value)
    out = np.zeros_like(q)
    _announce()
    plan = _plan(where, key, seed)
    in_threads(_forward, q.shape[1], 32, q, k, v, out, _room(where, key), where.sets, plan)
    return torch.from_numpy(out).view(query.shape).to(query.dtype)


def backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor | None, seed: Tensor, where: Neighborhood
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of query, key and value (None when K = V: then the key's holds both)."""
    g, q, k = _rows(grad), _rows(query), _rows(key)
    v = k if value is None else _rows(value)
    (batch, queries, _), frames, room = q.shape, key.shape[1], _room(where, key)
    found, starts = np.empty((queries, room), np.int32), np.empty((queries, frames + 1), np.int32)
    factors = np.empty((queries, room, batch, 2), np.float32)
    grad_query, grad_key = np.zeros_like(q), np.zeros_like(k)
    grad_value = grad_key if value is None else np.zeros_like(v)
    _announce()
    plan = _plan(where, key, seed)
    in_threads(_backward_query, queries, 32, q, k, v, g, grad_query, found, starts, factors, where.sets, plan)
    begins, (names, places) = np.zeros(k.shape[1] + 1, np.int64), np.empty((2, starts[:, -1].sum()), np.int32)
    in_threads(_transpose, frames, 1, found, starts, begins, names, places)
    in_threads(_backward_key, k.shape[1], 32, q, g, factors, begins, names, places, grad_key, grad_value)
    back = [torch.from_numpy(a).view(t.shape).to(t.dtype) for a, t in ((grad_query, query), (grad_key, key))]
    return back[0], back[1], None if value is None else torch.from_numpy(grad_value).view(value.shape).to(value.dtype)


def sample(where: Neighborhood, frames: int, height: int, width: int, seed: Tensor) -> Tensor:
    """The kernel's own draws, for comparison with `sampling.neighbor_cells`."""
    cells = np.empty((height * width, where.sets, frames * where.num_points), np.int32)
    plan = _plan(where, torch.empty(1, frames, height, width, 0), seed)
    in_threads(_sample, len(cells), 32, cells, *plan)
    return torch.from_numpy(cells).long()


def _rows(x: Tensor) -> np.ndarray:
    """(B, …, C) as contiguous float32 (B, cells, C); bfloat16 and float16 widen exactly."""
    return x.detach().flatten(1, -2).float().contiguous().numpy()


def _room(where: Neighborhood, key: Tensor) -> int:
    """Most distinct cells that a query can name, and space to pad them."""
    return min(where.sets * key.shape[1] * where.num_points, key[0, ..., 0].numel()) + 3


def _plan(where: Neighborhood, key: Tensor, seed: Tensor) -> tuple[Any, ...]:
    """What `_look` needs to draw, of types that do not change between calls."""
    size = (key.shape[1], key.shape[2], key.shape[3])
    kind, gammas, points, samples, masked, y0, x0 = where
    return size, int(seed), KINDS.index(kind), samples, points, masked, (y0, x0), *_tables(tuple(gammas))


@lru_cache(maxsize=64)
def _tables(gammas: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Threshold tables (F, longest + 1), padded with 2³², and counts of thresholds below each leading bit pattern."""
    lists = [thresholds(gamma) for gamma in gammas]
    tables = np.full((len(lists), max(map(len, lists)) + 1), 2**32, np.int64)
    for row, values in zip(tables, lists, strict=True):
        row[: len(values)] = values
    edges = np.arange(2**GUIDE + 1, dtype=np.int64) << 32 - GUIDE
    guides = np.stack([np.searchsorted(values, edges, side="right") for values in lists])
    return tables, guides.astype(np.int16)


@_fast
def _gather(first, last, rows, cells, counts, out):
    for n in range(first, last):
        out[n] = 0
        for i in range(0, counts[n] - counts[n] % 4, 4):
            r0, r1, r2, r3 = cells[n, i], cells[n, i + 1], cells[n, i + 2], cells[n, i + 3]
            for c in range(out.shape[1]):
                out[n, c] += rows[r0, c] + rows[r1, c] + rows[r2, c] + rows[r3, c]
        for i in range(counts[n] - counts[n] % 4, counts[n]):
            for c in range(out.shape[1]):
                out[n, c] += rows[cells[n, i], c]


def gather_rows(rows: Tensor, cells: Tensor, counts: Tensor, out: Tensor) -> None:
    """out[n] = Σ rows[cells[n, i]] over i < counts[n], in float32: the ceiling that the benchmark compares with."""
    in_threads(_gather, len(cells), 64, rows.numpy(), cells.numpy(), counts.numpy(), out.numpy())


def in_threads(kernel: Callable[..., None], tasks: int, most: int, *args: Any) -> None:
    """Run kernel(first, last, …) over ranges of at most `most` tasks, on as many threads as torch uses.

    On torch's own OpenMP threads where they can be reached: after each of torch's operations these spin for some
    milliseconds, and would keep other threads from the cores (20 ms became 12 on two cores). Else on a pool.
    """
    edges = [*range(0, tasks, most), tasks]
    ranges = iter(list(pairwise(edges)))
    errors: list[BaseException] = []

    def work(_: None = None) -> None:
        try:
            for first, last in ranges:  # the threads share the iterator
                kernel(first, last, *args)
        except BaseException as error:  # must not escape into OpenMP
            errors.append(error)

    threads = torch.get_num_threads()
    if threads == 1:
        work()
    elif parallel := _openmp():
        parallel(_CALLBACK(work), None, threads, 0)
    else:
        list(_pool(os.getpid(), threads).map(work, [None] * threads))
    if errors:
        raise errors[0]


_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@lru_cache(maxsize=1)
def _openmp() -> Callable[..., None] | None:
    """`GOMP_parallel(function, data, threads, flags)` of the OpenMP library that torch loaded; None if hidden."""
    try:
        return ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return None


@lru_cache(maxsize=8)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """One pool per process (a forked child must not wait for its parent's threads) and size."""
    return ThreadPoolExecutor(threads, thread_name_prefix="crowdloc-attention")


@lru_cache(maxsize=1)
def _announce() -> None:
    """Say on stderr that the first call compiles, unless the kernels are in Numba's cache."""
    source = Path(__file__)
    stored = Path(str(_forward.stats.cache_path)).glob(f"{source.stem}._forward*.nbi")
    if not any(file.stat().st_mtime >= source.stat().st_mtime for file in stored):
        print("crowdloc: compiling the CPU attention kernels once (about 10 s)", file=sys.stderr, flush=True)

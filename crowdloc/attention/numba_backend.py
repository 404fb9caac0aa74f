"""Sampled attention on the CPU: compiled loops that draw neighbours where they need them.

Per query: draw the cells of all foci, samplings and frames, keep each distinct cell once (a key is read once however
often it was drawn), score the distinct cells, one softmax per (focus, sampling), and one weighted sum for all of
them. Extra memory: channel-last copies of the maps, and in the backward pass two coefficients per distinct cell of a
query; never gathered keys.

Threads split the queries, and in the gradient of the keys blocks of channels, so that every sum is made by one thread
in one order: results do not depend on the number of threads. Floating-point sums may be reassociated by the compiler,
once and for all at compile time (error as of any float32 dot product, about 1e-6 relative).
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
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

KINDS = ("independent", "qmc", "random", "window")
INDEPENDENT, QMC, RANDOM, WINDOW = range(4)
QUERIES = 32  # queries of one task
CHANNELS = 32  # channels of one task in the gradient of the keys
GUIDE = 11  # leading bits that look up where the search in a threshold table starts

U = np.uint64
MASK, M0, M1, W0, W1 = U(0xFFFFFFFF), U(0xD2511F53), U(0xCD9E8D57), U(0x9E3779B9), U(0xBB67AE85)
U32, SHIFT = U(32), U(32 - GUIDE)


@_exact
def _philox(c0, c1, c2, c3, k0, k1):
    for _ in range(10):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (p1 >> U32) ^ c1 ^ k0, p1 & MASK, (p0 >> U32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + W0) & MASK, (k1 + W1) & MASK
    return c0, c1


@_exact
def _swap(x, shift, bits):
    return ((x & U(bits)) << U(shift)) | ((x >> U(shift)) & U(bits))


@_exact
def _owen(x, key):
    x = (x + key) & MASK
    x ^= (x * U(0x6C50B47C)) & MASK
    x ^= (x * U(0xB82F1E52)) & MASK
    x ^= (x * U(0xC7AFE638)) & MASK
    x ^= (x * U(0x8D22F6E6)) & MASK
    x = _swap(_swap(_swap(x, 1, 0x55555555), 2, 0x33333333), 4, 0x0F0F0F0F)
    return _swap(_swap(x, 8, 0x00FF00FF), 16, 0x0000FFFF)


@_exact
def _sobol_second(x):
    x ^= (x & U(0xAAAAAAAA)) >> U(1)
    x ^= (x & U(0xCCCCCCCC)) >> U(2)
    x ^= (x & U(0xF0F0F0F0)) >> U(4)
    return x ^ (x & U(0xFF00FF00)) >> U(8)


@_exact
def _step(bits, table, guide):
    """Threshold search: the guide gives the count at the leading bits, a short scan the rest."""
    found = guide[bits >> SHIFT]
    while U(table[found]) <= bits:
        found += 1
    return found - guide[guide.size - 1] // 2


@_exact
def _draw(y, x, seed, kind, size, samples, points, masked, y0, x0, tables, guides, bits, cells):
    """Fill `cells` (F·S, T·P) with the cells that query (y, x) names, −1 for dropped draws."""
    frames, height, width = size
    k0, k1 = U(seed) & MASK, U(seed) >> U32
    c0, c1 = U(y + y0) & MASK, U(x + x0) & MASK
    side = int(round(points**0.5))
    for row in range(cells.shape[0]):
        focus, c2 = row // samples, (U(row // samples) << U(16)) | U(row % samples)
        table, guide = tables[focus], guides[focus]
        kept = 0
        for frame in range(frames):
            c3 = U(frame) << U(16)
            if kind == QMC:
                scramble_x, scramble_y = _philox(c0, c1, c2, c3, k0, k1)
                for point in range(points):
                    bits[0, point] = _owen(U(point), scramble_x)
                    bits[1, point] = _owen(_sobol_second(U(point)), scramble_y)
            elif kind != WINDOW:
                for point in range(points):
                    bits[0, point], bits[1, point] = _philox(c0, c1, c2, c3 | U(point), k0, k1)
            for point in range(points):
                if kind == WINDOW:
                    to_x, to_y = x + point % side - side // 2, y + point // side - side // 2
                elif kind == RANDOM:
                    to_x = np.int64((bits[0, point] * U(width)) >> U32)
                    to_y = np.int64((bits[1, point] * U(height)) >> U32)
                else:
                    to_x = x + _step(bits[0, point], table, guide)
                    to_y = y + _step(bits[1, point], table, guide)
                near_x, near_y = min(max(to_x, 0), width - 1), min(max(to_y, 0), height - 1)
                if masked and (near_x != to_x or near_y != to_y):
                    cells[row, frame * points + point] = -1
                else:
                    cells[row, frame * points + point] = (frame * height + near_y) * width + near_x
                    kept += 1
        if kept == 0:
            for frame in range(frames):
                cells[row, frame * points] = (frame * height + y) * width + x


@_exact
def _distinct(cells, frames, slots, found, starts):
    """Replace the cells by slots into `found`, their distinct cells ordered by frame; frame t owns starts[t:t + 2].

    `found` is padded to a multiple of four with its last cell; `slots`, all −1 before and after, maps cell to slot.
    """
    points = cells.shape[1] // frames
    count = 0
    for frame in range(frames):
        starts[frame] = count
        for row in range(cells.shape[0]):
            for draw in range(frame * points, (frame + 1) * points):
                cell = cells[row, draw]
                if cell >= 0:
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
    while count % 4:
        found[count] = found[count - 1]
        count += 1
    return count


@_fast
def _scores(query, keys, found, count, scale, scores):
    """Scaled dot products of one query with its distinct cells, four rows at a time."""
    for i in range(0, count, 4):
        k0, k1, k2, k3 = found[i], found[i + 1], found[i + 2], found[i + 3]
        a0 = a1 = a2 = a3 = np.float32(0)
        for c in range(query.size):
            a0 += query[c] * keys[k0, c]
            a1 += query[c] * keys[k1, c]
            a2 += query[c] * keys[k2, c]
            a3 += query[c] * keys[k3, c]
        scores[i], scores[i + 1], scores[i + 2], scores[i + 3] = a0 * scale, a1 * scale, a2 * scale, a3 * scale


@_fast
def _weighted_sum(weights, rows, found, count, out):
    """out = Σ weight · row over the distinct cells, four rows at a time."""
    out[:] = 0
    for i in range(0, count, 4):
        k0, k1, k2, k3 = found[i], found[i + 1], found[i + 2], found[i + 3]
        w0, w1, w2, w3 = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        for c in range(out.size):
            out[c] += w0 * rows[k0, c] + w1 * rows[k1, c] + w2 * rows[k2, c] + w3 * rows[k3, c]


@_fast
def _softmax(slots, scores, weights):
    """Softmax of one set over its draws (duplicates count) into `weights`, per draw."""
    top = np.float32(-np.inf)
    for draw in range(slots.size):
        if slots[draw] >= 0:
            top = max(top, scores[slots[draw]])
    total = np.float32(0)
    for draw in range(slots.size):
        weight = np.float32(0)
        if slots[draw] >= 0:
            weight = math.exp(scores[slots[draw]] - top)
        weights[draw] = weight
        total += weight
    for draw in range(slots.size):
        weights[draw] /= total


@_fast
def _forward(first, last, query, key, value, out, frames, width, seed, kind, samples, points, masked, y0, x0, tables, guides):
    batch, queries, channels = query.shape
    sets, draws, cell_count = tables.shape[0] * samples, frames * points, key.shape[1]
    size = (frames, queries // width, width)
    bits = np.empty((2, points), np.uint64)
    cells = np.empty((sets, draws), np.int32)
    slots = np.full(cell_count, -1, np.int32)
    found = np.empty(min(sets * draws, cell_count) + 3, np.int32)
    starts = np.empty(frames + 1, np.int32)
    scores = np.empty(found.size, np.float32)
    merged = np.empty(found.size, np.float32)
    weights = np.empty(draws, np.float32)
    scale = np.float32(1 / math.sqrt(channels))
    share = np.float32(1 / sets)
    for n in range(first * QUERIES, min(last * QUERIES, queries)):
        _draw(n // width, n % width, seed, kind, size, samples, points, masked, y0, x0, tables, guides, bits, cells)
        count = _distinct(cells, frames, slots, found, starts)
        for b in range(batch):
            _scores(query[b, n], key[b], found, count, scale, scores)
            merged[:count] = 0
            for row in range(sets):
                _softmax(cells[row], scores, weights)
                for draw in range(draws):
                    if cells[row, draw] >= 0:
                        merged[cells[row, draw]] += weights[draw] * share
            _weighted_sum(merged, value[b], found, count, out[b, n])


@_fast
def _backward_query(
    first, last, query, key, value, grad, grad_query, all_found, all_starts, all_weights, all_scores,
    frames, width, seed, kind, samples, points, masked, y0, x0, tables, guides,
):  # fmt: skip
    """Gradient of the queries, and per query the coefficients of grad (`all_weights`) and query (`all_scores`)."""
    batch, queries, channels = query.shape
    sets, draws, cell_count = tables.shape[0] * samples, frames * points, key.shape[1]
    size = (frames, queries // width, width)
    bits = np.empty((2, points), np.uint64)
    cells = np.empty((sets, draws), np.int32)
    slots = np.full(cell_count, -1, np.int32)
    scores = np.empty(all_found.shape[1], np.float32)
    slopes = np.empty(scores.size, np.float32)
    weights = np.empty(draws, np.float32)
    scale = np.float32(1 / math.sqrt(channels))
    share = np.float32(1 / sets)
    for n in range(first * QUERIES, min(last * QUERIES, queries)):
        found = all_found[n]
        _draw(n // width, n % width, seed, kind, size, samples, points, masked, y0, x0, tables, guides, bits, cells)
        count = _distinct(cells, frames, slots, found, all_starts[n])
        for b in range(batch):
            _scores(query[b, n], key[b], found, count, scale, scores)
            _scores(grad[b, n], value[b], found, count, np.float32(1), slopes)
            to_grad, to_query = all_weights[b, n], all_scores[b, n]
            to_grad[:count] = 0
            to_query[:count] = 0
            for row in range(sets):
                _softmax(cells[row], scores, weights)
                mean = np.float32(0)
                for draw in range(draws):
                    if cells[row, draw] >= 0:
                        mean += weights[draw] * slopes[cells[row, draw]]
                for draw in range(draws):
                    slot = cells[row, draw]
                    if slot >= 0:
                        to_grad[slot] += weights[draw] * share
                        to_query[slot] += weights[draw] * (slopes[slot] - mean) * (share * scale)
            _weighted_sum(to_query, key[b], found, count, grad_query[b, n])


@_fast
def _backward_key(first, last, query, grad, found, starts, weights, scores, grad_key, grad_value):
    """Gradient of keys and values; a task owns one batch entry, frame and block of channels. `grad_value` may be empty."""
    frames = starts.shape[1] - 1
    channels = query.shape[2]
    blocks = (channels + CHANNELS - 1) // CHANNELS
    q, g = np.zeros(CHANNELS, np.float32), np.zeros(CHANNELS, np.float32)
    for task in range(first, last):
        b, frame, begin = task // (blocks * frames), task // blocks % frames, task % blocks * CHANNELS
        some = min(CHANNELS, channels - begin)
        for n in range(query.shape[1]):
            q[:some] = query[b, n, begin : begin + some]
            g[:some] = grad[b, n, begin : begin + some]
            for i in range(starts[n, frame], starts[n, frame + 1]):
                cell, s, w = found[n, i], scores[b, n, i], weights[b, n, i]
                row = grad_key[b, cell, begin : begin + some]
                if grad_value.size == 0:
                    for c in range(some):
                        row[c] += s * q[c] + w * g[c]
                else:
                    value_row = grad_value[b, cell, begin : begin + some]
                    for c in range(some):
                        row[c] += s * q[c]
                    for c in range(some):
                        value_row[c] += w * g[c]


@_exact
def _sample(cells, size, seed, kind, samples, points, masked, y0, x0, tables, guides):
    bits = np.empty((2, points), np.uint64)
    for n in range(cells.shape[0]):
        _draw(n // size[2], n % size[2], seed, kind, size, samples, points, masked, y0, x0, tables, guides, bits, cells[n])


def forward(query: Tensor, key: Tensor, value: Tensor | None, seed: Tensor, where: Neighborhood) -> Tensor:
    """Same contract as `reference.attend`."""
    arrays = _rows(query), _rows(key), _rows(key if value is None else value)
    out = np.empty_like(arrays[0])
    _announce()
    _in_threads(_forward, -(-out.shape[1] // QUERIES), *arrays, out, key.shape[1], key.shape[3], *_plan(where, seed))
    return torch.from_numpy(out).view(query.shape).to(query.dtype)


def backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor | None, seed: Tensor, where: Neighborhood
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of query, key and value (None when K = V: then the key's holds both)."""
    g, q, k = _rows(grad), _rows(query), _rows(key)
    v = k if value is None else _rows(value)
    batch, queries, channels = q.shape
    frames = key.shape[1]
    room = min(where.sets * frames * where.num_points, k.shape[1]) + 3
    found, starts = np.empty((queries, room), np.int32), np.empty((queries, frames + 1), np.int32)
    weights, scores = (np.empty((batch, queries, room), np.float32) for _ in range(2))
    grad_query, grad_key = np.empty_like(q), np.zeros_like(k)
    grad_value = np.zeros_like(k) if value is not None else np.empty((0, 0, 0), np.float32)
    _announce()
    plan = (frames, key.shape[3], *_plan(where, seed))
    _in_threads(
        _backward_query, -(-queries // QUERIES), q, k, v, g, grad_query, found, starts, weights, scores, *plan
    )  # fmt: skip
    tasks = batch * frames * -(-channels // CHANNELS)
    _in_threads(_backward_key, tasks, q, g, found, starts, weights, scores, grad_key, grad_value)
    back = [torch.from_numpy(a).view(t.shape).to(t.dtype) for a, t in ((grad_query, query), (grad_key, key))]
    return back[0], back[1], None if value is None else torch.from_numpy(grad_value).view(value.shape).to(value.dtype)


def sample(where: Neighborhood, frames: int, height: int, width: int, seed: Tensor) -> Tensor:
    """The kernel's own draws, for comparison with `sampling.neighbor_cells`."""
    cells = np.empty((height * width, where.sets, frames * where.num_points), np.int32)
    _sample(cells, (frames, height, width), *_plan(where, seed))
    return torch.from_numpy(cells).long()


def _rows(x: Tensor) -> np.ndarray:
    """(B, …, C) as contiguous float32 (B, cells, C); bfloat16 and float16 widen exactly."""
    return x.detach().flatten(1, -2).float().contiguous().numpy()


def _plan(where: Neighborhood, seed: Tensor) -> tuple[Any, ...]:
    tables, guides = _tables(tuple(where.gamma))
    kind = KINDS.index(where.kind)
    return (int(seed), kind, where.num_samples, where.num_points, where.masked, where.y0, where.x0, tables, guides)


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


def _in_threads(kernel: Callable[..., None], tasks: int, *args: Any) -> None:
    """Run kernel(first, last, …) over `tasks`, split among as many threads as torch uses."""
    threads = min(torch.get_num_threads(), tasks)
    if threads == 1:
        kernel(0, tasks, *args)
        return
    pieces = min(tasks, 8 * threads)
    edges = [tasks * i // pieces for i in range(pieces + 1)]
    done = [_pool(os.getpid(), threads).submit(kernel, a, b, *args) for a, b in zip(edges, edges[1:], strict=False)]
    for piece in done:
        piece.result()


@lru_cache(maxsize=8)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """One pool per process (a forked child must not wait for its parent's threads) and size."""
    return ThreadPoolExecutor(threads, thread_name_prefix="crowdloc-attention")


@lru_cache(maxsize=1)
def _announce() -> None:
    """Say on stderr that the first call compiles, unless the kernels are in Numba's cache."""
    source = Path(__file__)
    stored = Path(_forward.stats.cache_path).glob(f"{source.stem}._forward*.nbi")
    if not any(file.stat().st_mtime >= source.stat().st_mtime for file in stored):
        print("crowdloc: compiling the CPU attention kernels once (about 10 s)", file=sys.stderr, flush=True)

"""Sampled attention on the CPU: compiled loops that draw neighbours where they need them.

Per query and set (focus and sampling): draw its cells, then, a block of rows at a time, scaled dot products, an online
softmax (Dao et al., 2022) and the weighted sum, for which the rows are still in the first cache. A row drawn twice is
read twice; sorting out the distinct ones takes longer than reading them. Extra memory: channel-last copies of the
maps, and in the backward pass a cell and two coefficients per draw; never gathered keys.

Threads split the queries, and for the gradients of keys and values the channels, of which each thread adds up its own
over all queries in order: every sum is made by one thread in one order, and results do not depend on the number of
threads.

The loops are written with vectors of 16 floats, which Numba does not offer and a few intrinsics make: the compiler's
own are two to three times slower here, because it cannot know that rows do not overlap. LLVM cuts the 16 floats into
what the processor has. Maps are padded with zeros to a multiple of 16 channels.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model
from torch import Tensor

from crowdloc.attention.numba_threads import in_threads
from crowdloc.attention.sampling import Neighborhood
from crowdloc.attention.tables import thresholds

_compiled = njit(cache=True, nogil=True, error_model="numpy")
_inline = njit(cache=True, nogil=True, error_model="numpy", forceinline=True)

KINDS = ("independent", "qmc", "random", "window")
QMC, RANDOM, WINDOW = 1, 2, 3

# Vectors. They are in this file because Numba's cache notices changes of one file only.
LANES = 16
_INT = ir.IntType(32)
_INTS, _FLOATS = ir.VectorType(_INT, LANES), ir.VectorType(ir.FloatType(), LANES)


_intrinsic: Any = intrinsic  # Numba's types know nothing of how a compiled function calls one


class _VectorType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="float32x16")


_vector = _VectorType()


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _FLOATS)


def _mask(lanes: Any) -> ir.Constant:
    lanes = list(lanes)
    return ir.Constant(ir.VectorType(_INT, len(lanes)), lanes)


def _shuffle(b: Any, x: Any, lanes: Any, y: Any = None) -> Any:
    return b.shuffle_vector(x, ir.Constant(x.type, ir.Undefined) if y is None else y, _mask(lanes))


def _splat(b: Any, x: Any, lanes: int = LANES) -> Any:
    undefined = ir.Constant(ir.VectorType(x.type, lanes), ir.Undefined)
    return _shuffle(b, b.insert_element(undefined, x, ir.Constant(_INT, 0)), [0] * lanes)


def _address(context: Any, b: Any, sig: Any, args: Any, lanes: int = LANES) -> Any:
    """Of element args[1] of the contiguous array args[0], whatever its dimensions."""
    first = context.make_array(sig.args[0])(context, b, args[0]).data
    return b.bitcast(b.gep(first, [args[1]]), ir.VectorType(ir.FloatType(), lanes).as_pointer())


def _operation(count: int, emit: Callable[..., Any], result: Any = _vector) -> Callable[..., Any]:
    """An intrinsic of `count` vectors, made by emit(builder, *vectors)."""
    signature = result(*[_vector] * count)

    def code(context: Any, b: Any, sig: Any, args: Any) -> Any:
        return emit(b, *args)

    one, two, three = (lambda ty, x: (signature, code), lambda ty, x, y: (signature, code),
                       lambda ty, x, y, z: (signature, code))  # fmt: skip
    return _intrinsic((one, two, three)[count - 1])


def _larger(b: Any, x: Any, y: Any) -> Any:
    """y where one of them is NaN."""
    return b.select(b.fcmp_ordered(">", x, y), x, y)


def _fold(b: Any, x: Any, join: Callable[..., Any]) -> Any:
    """All lanes joined pairwise."""
    half = LANES
    while half > 1:
        half //= 2
        x = join(b, x, _shuffle(b, x, [(lane + half) % LANES for lane in range(LANES)]))
    return b.extract_element(x, ir.Constant(_INT, 0))


def _floor(b: Any, x: Any) -> Any:
    kind = ir.FunctionType(_FLOATS, [_FLOATS])
    return b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.floor.v16f32"), [x])


def _two_to(b: Any, x: Any) -> Any:
    exponent = b.add(b.fptosi(x, _INTS), ir.Constant(_INTS, [127] * LANES))
    return b.bitcast(b.shl(exponent, ir.Constant(_INTS, [23] * LANES)), _FLOATS)


def _multiply_add(b: Any, x: Any, y: Any, z: Any) -> Any:
    return b.fadd(b.fmul(x, y, flags=("contract",)), z, flags=("contract",))


_add = _operation(2, lambda b, x, y: b.fadd(x, y))
_sub = _operation(2, lambda b, x, y: b.fsub(x, y))
_mul = _operation(2, lambda b, x, y: b.fmul(x, y))
_fma = _operation(3, _multiply_add)  # x · y + z, in one rounding where the processor can
_max = _operation(2, _larger)
_lower = _operation(1, _floor)
_power = _operation(1, _two_to)  # 2ˣ of whole numbers
_top = _operation(1, lambda b, x: _fold(b, x, _larger), types.float32)
_sum = _operation(1, lambda b, x: _fold(b, x, lambda b, x, y: b.fadd(x, y)), types.float32)


@_intrinsic
def _all(ty: Any, x: Any) -> Any:
    """Every lane x."""
    return _vector(types.float32), lambda context, b, sig, args: _splat(b, args[0])


@_intrinsic
def _load(ty: Any, array: Any, at: Any) -> Any:
    def code(context: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.load(_address(context, b, sig, args), align=4)

    return _vector(array, types.intp), code


@_intrinsic
def _store(ty: Any, array: Any, at: Any, x: Any) -> Any:
    def code(context: Any, b: Any, sig: Any, args: Any) -> Any:
        b.store(args[2], _address(context, b, sig, args), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _vector), code


@_intrinsic
def _store_sums(ty: Any, array: Any, at: Any, scale: Any, s: Any, t: Any, u: Any, v: Any, w: Any, x: Any, y: Any,
                z: Any) -> Any:  # fmt: skip
    """Eight vectors' sums of lanes, times `scale`, to eight places: each addition halves two vectors into one."""

    def code(context: Any, b: Any, sig: Any, args: Any) -> Any:
        level, run = list(args[3:]), LANES  # lanes that belong to one sum
        while run > 2:
            run //= 2
            low = [lane for lane in range(2 * LANES) if lane // run % 2 == 0]
            high = [lane + run for lane in low]
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [b.fadd(_shuffle(b, x, low, y), _shuffle(b, x, high, y)) for x, y in pairs]
        sums = b.fadd(_shuffle(b, level[0], range(0, LANES, 2)), _shuffle(b, level[0], range(1, LANES, 2)))
        b.store(b.fmul(sums, _splat(b, args[2], 8)), _address(context, b, sig, args, 8), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.float32, *[_vector] * 8), code


# Draws.
GUIDE = 10  # leading bits that look up a draw
U = np.uint64
MASK, M0, M1, W0, W1 = U(0xFFFFFFFF), U(0xD2511F53), U(0xCD9E8D57), U(0x9E3779B9), U(0xBB67AE85)
U32, SHIFT = U(32), U(32 - GUIDE)
SEARCH = 1 << 30  # added to what `guides` yields where it takes a search


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
def _step(bits, guides, focus):
    """Where 32 random bits fall in a threshold table, less half its length; SEARCH and more if that takes a search."""
    return (guides[focus, bits >> SHIFT] + np.int64(bits)) >> 32


@_compiled
def _search(found, bits, table):
    """The same by a scan from the first threshold of the leading bits."""
    found -= SEARCH
    while table[found] <= np.int64(bits):
        found += 1
    return found - table[table.size - 1]


@_inline
def _offsets(y, x, row, frame, seed, kind, samples, origin, size, tables, guides, bits, to):
    """Where the draws of one set and frame fall on the map, before the border rule: `to` (2, P), x and y."""
    _, height, width = size
    points, focus = to.shape[1], row // samples
    if kind == WINDOW:
        side = round(points**0.5)
        for point in range(points):
            to[0, point], to[1, point] = x + point % side - side // 2, y + point // side - side // 2
        return
    k0, k1 = U(seed) & MASK, U(seed) >> U32
    c0, c1 = U(y + origin[0]) & MASK, U(x + origin[1]) & MASK
    c2, c3 = (U(focus) << U(16)) | U(row % samples), U(frame) << U(16)
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
            to[0, point] = (bits[0, point] * U(width)) >> U32
            to[1, point] = (bits[1, point] * U(height)) >> U32
        return
    farthest = 0
    for point in range(points):
        to_x, to_y = _step(bits[0, point], guides, focus), _step(bits[1, point], guides, focus)
        to[0, point], to[1, point] = x + to_x, y + to_y
        farthest = max(farthest, max(to_x, to_y))
    if farthest >= SEARCH // 2:
        for axis, start in ((0, x), (1, y)):
            for point in range(points):
                if to[axis, point] - start >= SEARCH // 2:
                    to[axis, point] = start + _search(to[axis, point] - start, bits[axis, point], tables[focus])


@_inline
def _draw(n, seed, kind, samples, masked, origin, size, tables, guides, bits, to, cells, i):
    """Fill cells[i] (F·S, ≥ T·P) with the cells that query n names, −1 for dropped draws."""
    frames, height, width = size
    y, x = n // width, n % width
    points = to.shape[1]
    for row in range(cells.shape[1]):
        kept = 0
        for frame in range(frames):
            _offsets(y, x, row, frame, seed, kind, samples, origin, size, tables, guides, bits, to)
            top = frame * height
            for point in range(points):
                near_x, near_y = min(max(to[0, point], 0), width - 1), min(max(to[1, point], 0), height - 1)
                cells[i, row, frame * points + point] = (top + near_y) * width + near_x
            if masked:
                for point in range(points):
                    inside = 0 <= to[0, point] < width and 0 <= to[1, point] < height
                    kept += inside
                    if not inside:
                        cells[i, row, frame * points + point] = -1
        if masked and kept == 0:
            for frame in range(frames):
                cells[i, row, frame * points] = (frame * height + y) * width + x


@_compiled
def _look(first, size, seed, kind, samples, points, masked, origin, tables, guides, cells, counts):
    """Draws of as many queries from `first` on as `cells` (queries, F·S, room) has entries, `counts` in each set.

    Dropped draws are left out, and a set is padded with its last cell to a multiple of eight.
    """
    bits, to = np.empty((2, points), np.uint64), np.empty((2, points), np.int64)
    draws = size[0] * points
    for i in range(cells.shape[0]):
        _draw(first + i, seed, kind, samples, masked, origin, size, tables, guides, bits, to, cells, i)
        for row in range(cells.shape[1]):
            count = draws
            if masked:
                count = 0
                for draw in range(draws):
                    if cells[i, row, draw] >= 0:
                        cells[i, row, count] = cells[i, row, draw]
                        count += 1
            counts[i, row] = count
            while count % 8:
                cells[i, row, count] = cells[i, row, count - 1]
                count += 1


# Attention. Arrays are addressed by the number of an element: `query` and `out` (B, N, C), `rows` (B, T·N, C), `cells`
# (…, room), where a set begins at `at`. C is a multiple of 16.
@_inline
def _scores(query, q, rows, base, channels, cells, at, count, scale, scores, to):
    """Scaled dot products of a query with `count` rows, eight at a time; −∞ up to a multiple of 16."""
    for i in range(0, count, 8):
        r0, r1 = base + cells[at + i] * channels, base + cells[at + i + 1] * channels
        r2, r3 = base + cells[at + i + 2] * channels, base + cells[at + i + 3] * channels
        r4, r5 = base + cells[at + i + 4] * channels, base + cells[at + i + 5] * channels
        r6, r7 = base + cells[at + i + 6] * channels, base + cells[at + i + 7] * channels
        a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = _all(np.float32(0))
        for c in range(0, channels, LANES):
            x = _load(query, q + c)
            a0, a1 = _fma(x, _load(rows, r0 + c), a0), _fma(x, _load(rows, r1 + c), a1)
            a2, a3 = _fma(x, _load(rows, r2 + c), a2), _fma(x, _load(rows, r3 + c), a3)
            a4, a5 = _fma(x, _load(rows, r4 + c), a4), _fma(x, _load(rows, r5 + c), a5)
            a6, a7 = _fma(x, _load(rows, r6 + c), a6), _fma(x, _load(rows, r7 + c), a7)
        _store_sums(scores, to + i, scale, a0, a1, a2, a3, a4, a5, a6, a7)


@_inline
def _add_rows(weights, w, rows, base, channels, cells, at, count, fade, out, o):
    """out · fade + Σ weight · row, up to 128 channels at a time in registers."""
    c = 0
    f = _all(fade)
    while c + 128 <= channels:
        a0, a1 = _mul(f, _load(out, o + c)), _mul(f, _load(out, o + c + 16))
        a2, a3 = _mul(f, _load(out, o + c + 32)), _mul(f, _load(out, o + c + 48))
        a4, a5 = _mul(f, _load(out, o + c + 64)), _mul(f, _load(out, o + c + 80))
        a6, a7 = _mul(f, _load(out, o + c + 96)), _mul(f, _load(out, o + c + 112))
        for i in range(count):
            r, x = base + c + cells[at + i] * channels, _all(weights[w + i])
            a0, a1 = _fma(x, _load(rows, r), a0), _fma(x, _load(rows, r + 16), a1)
            a2, a3 = _fma(x, _load(rows, r + 32), a2), _fma(x, _load(rows, r + 48), a3)
            a4, a5 = _fma(x, _load(rows, r + 64), a4), _fma(x, _load(rows, r + 80), a5)
            a6, a7 = _fma(x, _load(rows, r + 96), a6), _fma(x, _load(rows, r + 112), a7)
        _store(out, o + c, a0)
        _store(out, o + c + 16, a1)
        _store(out, o + c + 32, a2)
        _store(out, o + c + 48, a3)
        _store(out, o + c + 64, a4)
        _store(out, o + c + 80, a5)
        _store(out, o + c + 96, a6)
        _store(out, o + c + 112, a7)
        c += 128
    while c + 64 <= channels:
        a0, a1 = _mul(f, _load(out, o + c)), _mul(f, _load(out, o + c + 16))
        a2, a3 = _mul(f, _load(out, o + c + 32)), _mul(f, _load(out, o + c + 48))
        for i in range(count):
            r, x = base + c + cells[at + i] * channels, _all(weights[w + i])
            a0, a1 = _fma(x, _load(rows, r), a0), _fma(x, _load(rows, r + 16), a1)
            a2, a3 = _fma(x, _load(rows, r + 32), a2), _fma(x, _load(rows, r + 48), a3)
        _store(out, o + c, a0)
        _store(out, o + c + 16, a1)
        _store(out, o + c + 32, a2)
        _store(out, o + c + 48, a3)
        c += 64
    while c < channels:
        a0 = _mul(f, _load(out, o + c))
        for i in range(count):
            a0 = _fma(_all(weights[w + i]), _load(rows, base + c + cells[at + i] * channels), a0)
        _store(out, o + c, a0)
        c += 16


@_inline
def _exp(x):
    """exp for x ≤ 0, to about one unit in the last place (Cephes' expf); below −87 it stays at e⁻⁸⁷."""
    x = _max(_all(np.float32(-87)), x)
    n = _lower(_fma(x, _all(np.float32(1.44269504)), _all(np.float32(0.5))))
    # ln 2 in two parts, of which the first has few bits
    r = _fma(n, _all(np.float32(2.12194440e-4)), _fma(n, _all(np.float32(-0.693359375)), x))
    p = _fma(_all(np.float32(1.9875691500e-4)), r, _all(np.float32(1.3981999507e-3)))
    p = _fma(_fma(p, r, _all(np.float32(8.3334519073e-3))), r, _all(np.float32(4.1665795894e-2)))
    p = _fma(_fma(p, r, _all(np.float32(1.6666665459e-1))), r, _all(np.float32(5.0000001201e-1)))
    return _mul(_add(_fma(_mul(p, r), r, r), _all(np.float32(1))), _power(n))


@_inline
def _exponentials(scores, to, count, top):
    """Scores to weights relative to the new maximum; gives that, the old sum's factor, and the sum of the weights.

    The scores beyond `count` become weights of 0.
    """
    end = to + count
    while (end - to) % LANES:
        scores[end] = -np.inf
        end += 1
    highest = _all(top)
    for i in range(to, end, LANES):
        highest = _max(_load(scores, i), highest)
    higher = _top(highest)
    total = _all(np.float32(0))
    for i in range(to, end, LANES):
        weight = _exp(_sub(_load(scores, i), _all(higher)))
        _store(scores, i, weight)
        total = _add(total, weight)
    return higher, _top(_exp(_sub(_all(top), _all(higher)))), _sum(total)


@_compiled
def _forward(first, last, query, key, value, out, scale, block, room, sets, plan):
    """Output of a range of queries: all of one batch entry before the next, so that its keys stay in cache."""
    batch, queries, channels = query.shape
    cells, counts = np.empty((last - first, sets, room), np.int32), np.empty((last - first, sets), np.int32)
    _look(first, *plan, cells, counts)  # type: ignore[call-arg]
    flat = cells.reshape(-1)
    weights, part = np.empty(block + LANES // 2, np.float32), np.empty(channels, np.float32)
    for b in range(batch):
        base = b * key.shape[1] * channels
        for i in range(last - first):
            q = (b * queries + first + i) * channels
            for row in range(sets):
                top, mass = np.float32(-np.inf), np.float32(0)
                part[:] = 0
                for start in range(0, counts[i, row], block):
                    at, count = (i * sets + row) * room + start, min(block, counts[i, row] - start)
                    _scores(query, q, key, base, channels, flat, at, count, scale, weights, 0)
                    top, fade, total = _exponentials(weights, 0, count, top)
                    mass = mass * fade + total
                    _add_rows(weights, 0, value, base, channels, flat, at, count, fade, part, 0)
                share = _all(np.float32(1) / (mass * np.float32(sets)))
                for c in range(0, channels, LANES):
                    _store(out, q + c, _fma(share, _load(part, c), _load(out, q + c)))


@_compiled
def _backward_query(
    first, last, query, key, value, grad, grad_query, all_cells, all_counts, of_query, of_grad, scale, block, sets, plan
):
    """Gradient of a range of queries, and what each of their draws adds to the gradients of its cell.

    That is of_query · query to the key's and of_grad · grad to the value's, both (B, N, F·S, room).
    """
    batch, queries, channels = query.shape
    room = all_cells.shape[2]
    _look(first, *plan, all_cells[first:last], all_counts[first:last])  # type: ignore[call-arg]
    cells, of_query, of_grad = all_cells.reshape(-1), of_query.reshape(-1), of_grad.reshape(-1)
    slopes = np.empty(room, np.float32)
    share = np.float32(1) / np.float32(sets)
    for b in range(batch):
        base = b * key.shape[1] * channels
        for n in range(first, last):
            q = (b * queries + n) * channels
            for row in range(sets):
                at, to, count = (n * sets + row) * room, ((b * queries + n) * sets + row) * room, all_counts[n, row]
                for start in range(0, count, block):
                    part = min(block, count - start)
                    _scores(query, q, key, base, channels, cells, at + start, part, scale, of_grad, to + start)
                    _scores(grad, q, value, base, channels, cells, at + start, part, share, slopes, start)
                _, _, total = _exponentials(of_grad, to, count, np.float32(-np.inf))
                normal, mean = _all(np.float32(1) / total), _all(np.float32(0))
                for i in range(count, room):
                    slopes[i] = 0
                for i in range(0, count, LANES):
                    weight = _mul(normal, _load(of_grad, to + i))
                    _store(of_grad, to + i, weight)
                    mean = _fma(weight, _load(slopes, i), mean)
                centre = _all(_sum(mean))
                for i in range(0, count, LANES):
                    weight = _load(of_grad, to + i)
                    slope = _mul(_sub(_load(slopes, i), centre), _all(scale))
                    _store(of_query, to + i, _mul(weight, slope))
                    _store(of_grad, to + i, _mul(weight, _all(share)))
                _add_rows(of_query, to, key, base, channels, cells, at, count, np.float32(1), grad_query, q)


@_inline
def _add_to(rows, r, a, x, w, y):
    """row + a · x + w · y in place, 16 channels."""
    _store(rows, r, _fma(w, y, _fma(a, x, _load(rows, r))))


@_compiled
def _backward_key(first, last, query, grad, all_cells, counts, of_query, of_grad, grad_key, grad_value, shared):
    """Gradients of the keys and values, where each task is up to 64 channels of one batch entry.

    Queries come in order, so that every sum has one order. Sums are made in an array of these channels alone: at the
    distance of whole rows they would share few of the places in a cache. `grad_value` is `grad_key` itself when K = V.
    """
    _, queries, channels = query.shape
    keys, sets, room = grad_key.shape[1], all_cells.shape[1], all_cells.shape[2]
    cells, of_query, of_grad = all_cells.reshape(-1), of_query.reshape(-1), of_grad.reshape(-1)
    parts = (channels + 63) // 64
    none = _all(np.float32(0))
    for task in range(first, last):
        b, begin = task // parts, task % parts * 64
        width = min(64, channels - begin)
        to_key = np.zeros(keys * width, np.float32)
        to_value = to_key if shared else np.zeros(keys * width, np.float32)
        for n in range(queries):
            q = (b * queries + n) * channels + begin
            for row in range(sets):
                at, of = (n * sets + row) * room, ((b * queries + n) * sets + row) * room
                if shared and width == 64:
                    x0, x1, x2, x3 = _load(query, q), _load(query, q + 16), _load(query, q + 32), _load(query, q + 48)
                    y0, y1, y2, y3 = _load(grad, q), _load(grad, q + 16), _load(grad, q + 32), _load(grad, q + 48)
                    for i in range(counts[n, row]):
                        r, a, w = cells[at + i] * 64, _all(of_query[of + i]), _all(of_grad[of + i])
                        _add_to(to_key, r, a, x0, w, y0)
                        _add_to(to_key, r + 16, a, x1, w, y1)
                        _add_to(to_key, r + 32, a, x2, w, y2)
                        _add_to(to_key, r + 48, a, x3, w, y3)
                    continue
                for c in range(0, width, LANES):
                    x, y = _load(query, q + c), _load(grad, q + c)
                    for i in range(counts[n, row]):
                        r, a, w = cells[at + i] * width + c, _all(of_query[of + i]), _all(of_grad[of + i])
                        if shared:
                            _add_to(to_key, r, a, x, w, y)
                        else:
                            _add_to(to_key, r, a, x, none, none)
                            _add_to(to_value, r, none, none, w, y)
        for cell in range(keys):
            to = (b * keys + cell) * channels + begin
            for c in range(0, width, LANES):
                _store(grad_key, to + c, _load(to_key, cell * width + c))
                _store(grad_value, to + c, _load(to_value, cell * width + c))


@_compiled
def _sample(first, last, cells, size, seed, kind, samples, points, masked, origin, tables, guides):
    bits, to = np.empty((2, points), np.uint64), np.empty((2, points), np.int64)
    for n in range(first, last):
        _draw(n, seed, kind, samples, masked, origin, size, tables, guides, bits, to, cells, n)


def forward(query: Tensor, key: Tensor, value: Tensor | None, seed: Tensor, where: Neighborhood) -> Tensor:
    """Same contract as `reference.attend`."""
    q, k = _rows(query), _rows(key)
    v = k if value is None else _rows(value)
    out = np.zeros_like(q)
    _announce()
    in_threads(_forward, q.shape[1], 64, q, k, v, out, _scale(query), _block(q), _room(where, key), where.sets,
               _plan(where, key, seed))  # fmt: skip
    return _maps(out, query)


def backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor | None, seed: Tensor, where: Neighborhood
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of query, key and value (None when K = V: then the key's holds both)."""
    g, q, k = _rows(grad), _rows(query), _rows(key)
    v = k if value is None else _rows(value)
    (batch, queries, channels), room = q.shape, _room(where, key)
    cells, counts = np.empty((queries, where.sets, room), np.int32), np.empty((queries, where.sets), np.int32)
    of_query, of_grad = np.empty((2, batch, queries, where.sets, room), np.float32)
    grad_query, grad_key = np.zeros_like(q), np.empty_like(k)
    grad_value = grad_key if value is None else np.empty_like(v)
    _announce()
    plan = _plan(where, key, seed)
    in_threads(_backward_query, queries, 64, q, k, v, g, grad_query, cells, counts, of_query, of_grad, _scale(query),
               _block(q), where.sets, plan)  # fmt: skip
    in_threads(_backward_key, batch * -(-channels // 64), 1, q, g, cells, counts, of_query, of_grad, grad_key,
               grad_value, value is None)  # fmt: skip
    return _maps(grad_query, query), _maps(grad_key, key), None if value is None else _maps(grad_value, value)


def sample(where: Neighborhood, frames: int, height: int, width: int, seed: Tensor) -> Tensor:
    """The kernel's own draws, for comparison with `sampling.neighbor_cells`."""
    cells = np.empty((height * width, where.sets, frames * where.num_points), np.int32)
    plan = _plan(where, torch.empty(1, frames, height, width, 0), seed)
    in_threads(_sample, len(cells), 32, cells, *plan)
    return torch.from_numpy(cells).long()


def _rows(x: Tensor) -> np.ndarray:
    """(B, …, C) as contiguous float32 (B, cells, C), C padded; bfloat16 and float16 widen exactly."""
    flat = x.detach().flatten(1, -2).float().contiguous()
    missing = -x.shape[-1] % LANES
    return (F.pad(flat, (0, missing)) if missing else flat).numpy()


def _maps(rows: np.ndarray, like: Tensor) -> Tensor:
    """Back to the shape and type of `like`."""
    return torch.from_numpy(rows)[..., : like.shape[-1]].to(like.dtype).contiguous().view(like.shape)


def _room(where: Neighborhood, key: Tensor) -> int:
    """Places for the draws of a set, in whole vectors."""
    return -(-key.shape[1] * where.num_points // LANES) * LANES


def _block(rows: np.ndarray) -> int:
    """Rows in 32 KiB, which the first cache holds."""
    return max(16, 8192 // rows.shape[2] // 8 * 8)


def _scale(query: Tensor) -> np.float32:
    return np.float32(1 / math.sqrt(query.shape[-1]))


def _plan(where: Neighborhood, key: Tensor, seed: Tensor) -> tuple[Any, ...]:
    """What `_look` needs to draw, of types that do not change between calls."""
    size = (key.shape[1], key.shape[2], key.shape[3])
    kind, gammas, points, samples, masked, y0, x0 = where
    return size, int(seed), KINDS.index(kind), samples, points, masked, (y0, x0), *_tables(tuple(gammas))


@lru_cache(maxsize=64)
def _tables(gammas: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """What turns bits into draws, one row per focus: threshold tables, and guides by the leading bits.

    A table is padded with 2³² and ends with half the number of its thresholds, K. With n thresholds below a pattern of
    leading bits, its guide is (n − K + 1) 2³² − t if it contains the one threshold t, (n − K) 2³² if none: adding the
    bits and shifting gives the draw. If it contains more: (n + SEARCH) 2³².
    """
    lists = [thresholds(gamma) for gamma in gammas]
    tables = np.full((len(lists), max(map(len, lists)) + 2), 2**32, np.int64)
    guides = np.empty((len(lists), 2**GUIDE), np.int64)
    edges = np.arange(2**GUIDE + 1, dtype=np.int64) << 32 - GUIDE
    for table, guide, values in zip(tables, guides, lists, strict=True):
        table[: len(values)], table[-1] = values, len(values) // 2
        below = np.searchsorted(values, edges, side="left")  # thresholds under each edge
        inside, following = np.diff(below), table[below[:-1]]
        plain = (below[:-1] - table[-1] + 1 << 32) - np.where(inside == 1, following, 2**32)
        guide[:] = np.where(inside > 1, below[:-1] + SEARCH << 32, plain)
    return tables, guides


@_compiled
def _gather(first, last, rows, cells, out):
    channels = rows.shape[1]
    draws = cells.shape[1]
    flat = cells.reshape(-1)
    part = np.ones(draws, np.float32)
    for n in range(first, last):
        out[n, :] = 0  # what was there may be NaN, which a fade of 0 would keep
        _add_rows(part, 0, rows, 0, channels, flat, n * draws, draws, np.float32(1), out, n * channels)


def gather_rows(rows: Tensor, cells: Tensor, out: Tensor) -> None:
    """out[n] = Σ rows[cells[n, i]] in float32, C a multiple of 16: the ceiling that the benchmark compares with."""
    in_threads(_gather, len(cells), 32, rows.numpy(), cells.numpy(), out.numpy())


@lru_cache(maxsize=1)
def _announce() -> None:
    """Say on stderr that the first call compiles, unless the kernels are in Numba's cache."""
    source = Path(__file__)
    stored = Path(str(_forward.stats.cache_path)).glob(f"{source.stem}._forward*.nbi")
    if not any(file.stat().st_mtime >= source.stat().st_mtime for file in stored):
        print("crowdloc: compiling the CPU attention kernels once (about 10 s)", file=sys.stderr, flush=True)

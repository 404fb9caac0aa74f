"""Where a query looks, inside a Triton kernel: the integers of `sampling.neighbor_cells`, bit for bit.

All arithmetic is on int64, as in the reference, but for Philox itself, which Triton has on uint32. Only the
functions that a launched kernel calls live here; the launched kernels state their `Grid:`.
"""

from __future__ import annotations

import triton
import triton.language as tl

KINDS = ("independent", "qmc", "random", "window")
QMC, RANDOM, WINDOW = tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
MASK = tl.constexpr(0xFFFFFFFF)


@triton.jit
def _swap(x, shift: tl.constexpr, bits: tl.constexpr):
    return ((x & bits) << shift) | ((x >> shift) & bits)


@triton.jit
def _owen_scramble(x, key):
    x = (x + key) & MASK
    x = x ^ ((x * 0x6C50B47C) & MASK)
    x = x ^ ((x * 0xB82F1E52) & MASK)
    x = x ^ ((x * 0xC7AFE638) & MASK)
    x = x ^ ((x * 0x8D22F6E6) & MASK)
    x = _swap(_swap(_swap(x, 1, 0x55555555), 2, 0x33333333), 4, 0x0F0F0F0F)
    return _swap(_swap(x, 8, 0x00FF00FF), 16, 0x0000FFFF)


@triton.jit
def _sobol_second(x):
    # a point has 16 bits, so the reference's fifth step changes nothing
    x = x ^ ((x & 0xAAAAAAAA) >> 1)
    x = x ^ ((x & 0xCCCCCCCC) >> 2)
    x = x ^ ((x & 0xF0F0F0F0) >> 4)
    return x ^ ((x & 0xFF00FF00) >> 8)


@triton.jit
def _step(bits, table, STEPS: tl.constexpr):
    """How many thresholds do not exceed `bits`, less half their number: a binary search without branches."""
    found = bits * 0
    for step in tl.static_range(STEPS):
        ahead = found + (1 << (STEPS - 1 - step))
        found = tl.where(tl.load(table + ahead - 1) <= bits, ahead, found)
    return found - tl.load(table + (1 << STEPS) - 1)


@triton.jit
def _fall(
    y, x, row, frame, point, seed, table, height, width, y0, x0,
    KIND: tl.constexpr, SAMPLES: tl.constexpr, SIDE: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Where draws of one set fall, (to_x, to_y) before the border rule; `frame` and `point` are int64 (BLOCK,)."""
    if KIND == WINDOW:
        to_x, to_y = x + point % SIDE - SIDE // 2, y + point // SIDE - SIDE // 2
    else:
        none = point * 0
        c0, c1 = (none + y + y0).to(tl.uint32), (none + x + x0).to(tl.uint32)
        c2 = (none + (((row // SAMPLES) << 16) | (row % SAMPLES))).to(tl.uint32)
        c3 = frame << 16
        if KIND != QMC:
            c3 = c3 | point
        bits_x, bits_y, _, _ = tl.philox(seed, c0, c1, c2, c3.to(tl.uint32))
        bits_x, bits_y = bits_x.to(tl.int64), bits_y.to(tl.int64)
        if KIND == QMC:
            bits_x, bits_y = _owen_scramble(point, bits_x), _owen_scramble(_sobol_second(point), bits_y)
        if KIND == RANDOM:
            to_x, to_y = (bits_x * width) >> 32, (bits_y * height) >> 32
        else:
            table += (row // SAMPLES) << STEPS
            to_x, to_y = x + _step(bits_x, table, STEPS), y + _step(bits_y, table, STEPS)
    return to_x, to_y


@triton.jit
def lost_all(
    n, row, seed, table, frames, height, width, y0, x0, POINTS: tl.constexpr, BLOCK: tl.constexpr,
    MASKED: tl.constexpr, KIND: tl.constexpr, SAMPLES: tl.constexpr, SIDE: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Whether every draw of set `row` of query `n` falls outside the map (only asked where such draws are dropped)."""
    kept = 0
    if MASKED:
        y, x = n // width, n % width
        for start in range(0, frames * POINTS, BLOCK):
            draw = start + tl.arange(0, BLOCK).to(tl.int64)
            to_x, to_y = _fall(
                y, x, row, draw // POINTS, draw % POINTS, seed, table, height, width, y0, x0,
                KIND, SAMPLES, SIDE, STEPS,
            )  # fmt: skip
            inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height) & (draw < frames * POINTS)
            kept += tl.sum(inside.to(tl.int32), axis=0)
    return kept == 0


@triton.jit
def cells(
    n, row, draw, lost, seed, table, frames, height, width, y0, x0, POINTS: tl.constexpr,
    MASKED: tl.constexpr, KIND: tl.constexpr, SAMPLES: tl.constexpr, SIDE: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Cells in T·H·W that draws (BLOCK,) of set `row` of query `n` name, and which of the draws count."""
    y, x = n // width, n % width
    frame, point = draw // POINTS, draw % POINTS
    to_x, to_y = _fall(y, x, row, frame, point, seed, table, height, width, y0, x0, KIND, SAMPLES, SIDE, STEPS)
    near_x = tl.minimum(tl.maximum(to_x, 0), width - 1)
    near_y = tl.minimum(tl.maximum(to_y, 0), height - 1)
    counts = draw < frames * POINTS
    if MASKED:
        # a set that lost all its draws looks at the query's own cell, once in every frame
        inside = (near_x == to_x) & (near_y == to_y)
        near_x, near_y = tl.where(inside, near_x, x), tl.where(inside, near_y, y)
        counts = counts & (inside | (lost & (point == 0)))
    return (frame * height + near_y) * width + near_x, counts

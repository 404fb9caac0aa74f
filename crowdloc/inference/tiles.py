"""Frames too large to be run in one piece, in overlapping tiles: memory no longer grows with the frame.

A frame is divided into cores, and each core is run with a margin around it. Of what is found in a tile only what lies
in its core is kept, so a head is found once. Convolutions see no farther than the margin (VGG16's front-end and the
head together 140 pixels), so the points of RAZNet are those of the whole frame; Gaussian neighbours are drawn anew for
each tile, and those that would lie beyond it (at γ = 10 cells one in a thousand) are clamped to its edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crowdloc.inference.limits import check_one_piece
from crowdloc.models import Maps, Method, Prediction

CORE, MARGIN = 2048, 256  # pixels; multiples of 32, the largest stride, so that a tile's cells are those of the frame


class Span(NamedTuple):
    """A tile along one axis: what is run, [first, end), and what is kept of it, [kept, kept_end)."""

    first: int
    end: int
    kept: int
    kept_end: int


class Tile(NamedTuple):
    """Rows and columns of a tile."""

    rows: Span
    columns: Span

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.rows.end - self.rows.first, self.columns.end - self.columns.first

    def of(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What is run of an image (h, w, 3)."""
        return image[self.rows.first : self.rows.end, self.columns.first : self.columns.end]


def tiles(height: int, width: int) -> Iterator[Tile]:
    """Tiles of a frame; their cores cover it without overlap."""
    return (Tile(*spans) for spans in product(_spans(height), _spans(width)))


def _spans(length: int) -> list[Span]:
    """A last core of less than a margin is joined to the one before."""
    number = max(1, -(-(length - MARGIN) // CORE))
    cores = [(CORE * k, CORE * (k + 1) if k + 1 < number else length) for k in range(number)]
    return [Span(max(0, start - MARGIN), min(length, end + MARGIN), start, end) for start, end in cores]


def decode_tiles(method: Method, frames: Sequence[Callable[[Tile], Maps]], size: tuple[int, int]) -> Prediction:
    """As `Method.decode` of frames of height and width `size`, each given as a function that encodes a tile of it.

    Raises:
        CrowdlocError: the method counts; a count does not say where in a tile it comes from.
    """
    if "count" in method.yields:
        check_one_piece(*size)
    points, scores = [], []
    for tile in tiles(*size):
        found = method.decode([encode(tile) for encode in frames], tile.size)
        assert found.points is not None and found.scores is not None
        placed = found.points + np.array([tile.columns.first, tile.rows.first])
        inside = _within(placed[:, 0], tile.columns) & _within(placed[:, 1], tile.rows)
        points.append(placed[inside])
        scores.append(found.scores[inside])
    together = np.concatenate(scores)
    order = np.argsort(-together, kind="stable")
    return Prediction(np.concatenate(points)[order], together[order])


def _within(values: NDArray[np.float64], span: Span) -> NDArray[np.bool_]:
    """Inside the core; at the frame's own border nothing is cut off."""
    low = values >= span.kept if span.first < span.kept else np.ones(len(values), dtype=bool)
    return low & (values < span.kept_end) if span.kept_end < span.end else low

"""From a localization map to points: one rule for every map-based method.

RAZNet's rule (3×3 mean, then 3×3 maximum) with its traps removed: the mean at the border leaves the padding out, else
heads on the border never reach the threshold; a plateau of equal values is one peak at its centroid, and only if no
higher pixel touches it. Single-pixel peaks are refined by a parabola through their neighbours (a deviation).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SCORE_FLOOR = 0.05


class Detections(NamedTuple):
    """Points (n, 2), x and y in pixels of the map, and scores (n,), sorted by descending score."""

    points: NDArray[np.float64]
    scores: NDArray[np.float64]


def smooth(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """3×3 mean of a map (h, w); outside pixels are left out of the mean."""
    total, count = np.pad(probability, 1), np.pad(np.ones_like(probability), 1)
    for axis in (0, 1):
        total, count = (_sum_of_three(a, axis) for a in (total, count))
    return (total / count).astype(np.float32)


def _sum_of_three(array: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    n = array.shape[axis]
    before, centre, after = (array.take(range(i, n - 2 + i), axis) for i in range(3))
    return centre + (before + after)


def find_peaks(
    probability: NDArray[np.float32],
    *,
    floor: float = SCORE_FLOOR,
    smoothing: bool = True,
    subpixel: bool = True,
) -> Detections:
    """Local maxima of a probability map (h, w) that score at least `floor`; the score is the smoothed value.

    Raises:
        ValueError: the map is not two-dimensional or holds NaN.
    """
    probability = np.asarray(probability, dtype=np.float32)
    if probability.ndim != 2:
        raise ValueError(f"probability must be a map (h, w), got shape {probability.shape}")
    if np.isnan(probability).any():
        raise ValueError("probability holds NaN: the network diverged or its input was not finite")
    values = smooth(probability) if smoothing else probability
    highest = ndimage.maximum_filter(values, size=3, mode="constant", cval=-np.inf)
    candidates = values == highest
    # A pixel beside a candidate with the same value that itself touches something higher unmasks a shoulder.
    shoulder = ndimage.maximum_filter(np.where(candidates, -np.inf, values), size=3, mode="constant", cval=-np.inf)
    labels, number = ndimage.label(candidates & (values >= floor), structure=np.ones((3, 3)))
    if number == 0:
        return Detections(np.zeros((0, 2)), np.zeros(0))
    ys, xs = np.nonzero(labels)
    component = labels[ys, xs] - 1
    size = np.bincount(component, minlength=number)
    centroid = np.stack([np.bincount(component, weights=a, minlength=number) / size for a in (xs, ys)], axis=1)
    score = np.zeros(number)
    score[component] = values[ys, xs]
    is_peak = np.bincount(component, weights=shoulder[ys, xs] == values[ys, xs], minlength=number) == 0
    if subpixel:
        single = np.flatnonzero((size == 1) & is_peak)
        centroid[single] += _parabola_offsets(values, centroid[single].astype(np.int64))
    points, score = centroid[is_peak], score[is_peak]
    order = np.argsort(-score, kind="stable")
    return Detections(points[order], score[order])


def _parabola_offsets(values: NDArray[np.float32], peaks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Vertex of the parabola through a peak (x, y) and its two neighbours, along each axis; 0 on the border."""
    height, width = values.shape
    offsets = np.zeros((len(peaks), 2))
    x, y = peaks.T
    centre = values[y, x].astype(np.float64)
    for axis, (dx, dy, inside) in enumerate(((1, 0, (x > 0) & (x < width - 1)), (0, 1, (y > 0) & (y < height - 1)))):
        before = values[(y - dy).clip(0), (x - dx).clip(0)].astype(np.float64)
        after = values[(y + dy).clip(max=height - 1), (x + dx).clip(max=width - 1)].astype(np.float64)
        curvature = before - 2 * centre + after
        vertex = np.divide(before - after, 2 * curvature, out=np.zeros_like(centre), where=curvature < 0)
        offsets[:, axis] = np.where(inside, vertex.clip(-0.5, 0.5), 0.0)
    return offsets

"""Heads as Gaussian peaks: the target that STANet learns, and the rule by which its authors find them again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crowdloc.models.decoding import Detections


def peak_map(points: NDArray[np.float64], sigma: float, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Map (H, W) of Gaussians with peak 1, cut off at 3σ; where they overlap the larger one counts.

    Args:
        points: (n, 2), x and y of whole cells of the map; those outside are moved to its border.
        sigma: in cells.
    """
    height, width = shape
    target = np.zeros(shape, np.float32)
    reach = int(3 * sigma + 0.5)
    bell = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    stamp = np.outer(bell, bell).astype(np.float32)
    for x, y in np.clip(points, 0, (width - 1, height - 1)).astype(np.int64):
        top, left = max(0, y - reach), max(0, x - reach)
        part = target[top : y + reach + 1, left : x + reach + 1]
        cut = stamp[top - y + reach :, left - x + reach :][: part.shape[0], : part.shape[1]]
        np.maximum(part, cut, out=part)
    return target


def window_peaks(values: NDArray[np.float32]) -> Detections:
    """Values of a map (H, W) above .005 that are the largest in 8×8 windows; the middle of every plateau, unrefined.

    Raises:
        ValueError: the map holds NaN.
    """
    if np.isnan(values).any():
        raise ValueError("the map holds NaN: the network diverged or its input was not finite")
    values = np.where(values > 0.005, values, 0)
    highest, lowest = ndimage.maximum_filter(values, 8), ndimage.minimum_filter(values, 8)
    labels, _ = ndimage.label((values == highest) & (highest - lowest > 0.001))
    boxes = ndimage.find_objects(labels)
    points = np.array([[(s.start + s.stop - 1) / 2 for s in box[::-1]] for box in boxes]).reshape(-1, 2)
    scores = np.array([values[box].max() for box in boxes], dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    return Detections(points[order], scores[order])

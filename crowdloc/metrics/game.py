"""GAME, the grid average mean absolute error (Guerrero-Gómez-Olmedo et al., 2015): counts that must be in place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from crowdloc.metrics.matching import check_images


def grid_errors(
    points: Sequence[ArrayLike],
    ground_truth: Sequence[ArrayLike],
    sizes: Sequence[tuple[int, int]] | tuple[int, int],
    levels: Sequence[int] = (0, 1, 2, 3),
) -> dict[int, float]:
    """GAME(L) by level: an image is cut into 2^L × 2^L equal regions, their absolute errors of count are summed, and
    the sums averaged over the images. GAME(0) is the MAE of counts, and no level has less than the one before.

    Args:
        points: per image the detections (n, 2) that are counted; ground_truth: per image (m, 2). Pixel centres are
            0-based, so an image ends half a pixel beyond them; points beyond it belong to the nearest region.
        sizes: (height, width) of all images, or of each.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, no image, or a negative level.
    """
    images = check_images([(p, np.zeros(len(np.asarray(p)))) for p in points], ground_truth)
    shapes = np.asarray(sizes, dtype=np.float64)
    if shapes.shape not in ((2,), (len(images), 2)) or not (shapes > 0).all():
        raise ValueError(f"sizes {sizes!r}: pass (height, width) of all images, or one for each of {len(images)}")
    if not images:
        raise ValueError("points are empty: pass at least one image")
    if any(level < 0 for level in levels):
        raise ValueError(f"levels {list(levels)}: a level is 0 or more")
    shapes = np.broadcast_to(shapes, (len(images), 2))
    errors = {}
    for level in levels:
        cells = 2**level
        total = 0.0
        for (found, _, truth), shape in zip(images, shapes, strict=True):
            difference = np.zeros(cells * cells)
            for heads, sign in ((found, 1.0), (truth, -1.0)):
                x, y = np.floor((heads + 0.5) * cells / shape[::-1]).clip(0, cells - 1).astype(np.int64).T
                difference += sign * np.bincount(y * cells + x, minlength=cells * cells)
            total += float(np.abs(difference).sum())
        errors[level] = total / len(images)
    return errors

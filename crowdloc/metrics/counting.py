"""Counting: errors of counts (paper eqs. 4 and 5) and the quality of the detections that are counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from crowdloc.metrics.matching import check_images, match_images


def counting_errors(predicted: ArrayLike, actual: ArrayLike) -> dict[str, float]:
    """`MAE` (eq. 4) and `MSE` (eq. 5) of counts per image (n,).

    As everywhere in crowd counting, the paper's "MSE" is the *root* of the mean squared error, in heads.

    Raises:
        ValueError: different lengths, no image, or a count that is not finite.
    """
    counted, real = np.asarray(predicted, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    if counted.ndim != 1 or counted.shape != real.shape:
        raise ValueError(
            f"predicted has shape {counted.shape} and actual {real.shape}: pass one count per image in both"
        )
    if len(counted) == 0:
        raise ValueError("predicted is empty: pass the counts of at least one image")
    bad = np.flatnonzero(~(np.isfinite(counted) & np.isfinite(real)))
    if len(bad):
        raise ValueError(f"the counts of image {bad[0]} are not finite: leave the image out of both arguments")
    error = counted - real
    return {"MAE": float(np.abs(error).mean()), "MSE": float(np.sqrt((error * error).mean()))}


def f1_at(
    threshold: float,
    predictions: Sequence[tuple[ArrayLike, ArrayLike]],
    ground_truth: Sequence[ArrayLike],
    *,
    sigma: float = 20.0,
    similarity: float = 0.5,
    scale: float = 1.0,
) -> dict[str, float]:
    """Quality of the detections with score ≥ `threshold`, the ones that are counted.

    Matching is one-to-one and greedy as for AP (`match_image`), at one `sigma` and `similarity`; hits,
    detections and heads are summed over the images.

    Returns:
        `precision`, `recall`, `F1` and `detections_per_head`; NaN where a denominator is 0.

    Raises:
        ValueError: as `localization_scores`.
    """
    counted = []
    for points, scores, _ in check_images(predictions, ground_truth):
        keep = scores >= threshold
        counted.append((points[keep], scores[keep]))
    _, flags = match_images(counted, ground_truth, [sigma], [similarity], scale=scale)
    hits = sum(int(image.sum()) for image in flags)
    detections = sum(len(points) for points, _ in counted)
    heads = sum(len(np.asarray(truth)) for truth in ground_truth)
    return {
        "precision": ratio(hits, detections),
        "recall": ratio(hits, heads),
        "F1": ratio(2 * hits, detections + heads),
        "detections_per_head": ratio(detections, heads),
    }


def ratio(part: int, whole: int) -> float:
    """NaN where there is nothing to take a part of."""
    return part / whole if whole else float("nan")

"""Average precision and recall of located points by the COCO key-point protocol (paper V-A).

Equal to pycocotools to the last bit.

Rules: thresholds linspace(.50, .95, 10); 101 recall points; no limit on the number of detections; ties in
score keep the order of images and of detections within an image; an image without heads adds false
positives, an image with neither heads nor detections adds nothing. With no head in the whole set nothing is
defined and every score is NaN (pycocotools says -1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from crowdloc.metrics.matching import THRESHOLDS, match_images

COLUMNS = ("AP.50", "AP.75", "mAP", "AR.50", "AR.75", "mAR")
SIGMAS = (5, 20, 40)
_RECALLS = np.linspace(0.0, 1.0, 101)

# The one place that knows how σ's pixels relate to image pixels. σ is in pixels of the original image,
# except for the mini preset of SynthCrowd: its frames of 288 rows stand for 1080p, so σ is in
# 1080p-equivalent pixels there.
_SIGMA_SCALE = {f"synthcrowd-{domain}-mini": 1080 / 288 for domain in ("sense", "fdst", "sha", "shb")}


def sigma_scale(data: str) -> float:
    """The `scale` for results named "<data set>-<preset>": 3.75 for SynthCrowd's mini frames, else 1."""
    return _SIGMA_SCALE.get(data, 1.0)


def localization_scores(
    predictions: Sequence[tuple[ArrayLike, ArrayLike]],
    ground_truth: Sequence[ArrayLike],
    sigmas: Sequence[float] = SIGMAS,
    *,
    scale: float = 1.0,
) -> pd.DataFrame:
    """AP and AR of located points (paper V-A and Tables II-V, VIII-XII).

    Args:
        predictions: per image `(points (n, 2), scores (n,))`; (x, y) in pixels of the original image.
        ground_truth: per image the heads (m, 2).
        sigmas: positive ranges σ; a detection at distance d of a head has similarity exp(-d² / (2σ²)).
        scale: factor from image pixels to the pixels in which σ is given; see `sigma_scale`.

    Returns:
        One row per σ (index "sigma"), columns AP.50, AP.75, mAP, AR.50, AR.75, mAR in [0, 1]; NaN if there
        is no head at all.

    Raises:
        ValueError: names the image whose arrays have a wrong shape or non-finite values, or the bad
        argument.
    """
    order, flags = match_images(predictions, ground_truth, sigmas, scale=scale)
    scores = [np.asarray(s, dtype=np.float64)[by_score] for (_, s), by_score in zip(predictions, order, strict=True)]
    heads = [len(np.asarray(truth)) for truth in ground_truth]
    rows = [scores_from_matches(scores, [image[row] for image in flags], heads) for row in range(len(sigmas))]
    return pd.DataFrame(rows, columns=list(COLUMNS), index=pd.Index(sigmas, name="sigma"))


def scores_from_matches(
    scores: Sequence[ArrayLike], flags: Sequence[ArrayLike], heads: Sequence[int]
) -> dict[str, float]:
    """AP and AR of one σ from matches alone, without any coordinates: bit-equal to `localization_scores`.

    Args:
        scores: per image (n,), in falling order, as float64 (rounded scores may tie and change the order).
        flags: per image (10, n), the match flags of `match_image` at `THRESHOLDS`.
        heads: number of heads of every image.

    Returns:
        AP.50, AP.75, mAP, AR.50, AR.75, mAR; all NaN if there is no head.
    """
    pooled, matched, total = _pool(scores, flags, heads)
    if total == 0:
        return dict.fromkeys(COLUMNS, float("nan"))
    by_score = np.argsort(-pooled, kind="stable")
    hits = matched[:, by_score].cumsum(axis=1)  # (10, n)
    recall = hits / total
    precision = hits / (np.arange(1, len(pooled) + 1) + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[
        :, ::-1
    ]  # best precision at this recall or a higher one
    padded = np.pad(precision, ((0, 0), (0, 1)))  # beyond the last recall precision is 0
    curve = np.stack([p[np.searchsorted(r, _RECALLS)] for p, r in zip(padded, recall, strict=True)])  # (10, 101)
    final = recall[:, -1] if len(pooled) else np.zeros(len(THRESHOLDS))
    values = (curve[0].mean(), curve[5].mean(), curve.ravel().mean(), final[0], final[5], final.mean())
    return dict(zip(COLUMNS, map(float, values), strict=True))


def _pool(
    scores: Sequence[ArrayLike], flags: Sequence[ArrayLike], heads: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
    """All images in a row: scores (n,), flags (10, n) and the number of heads."""
    if not len(scores) == len(flags) == len(heads):
        raise ValueError(
            f"scores, flags and heads hold {len(scores)}, {len(flags)} and {len(heads)} images: "
            "pass one entry per image in each"
        )
    values = [np.empty(0), *(np.asarray(image, dtype=np.float64) for image in scores)]
    matched = [
        np.empty((len(THRESHOLDS), 0), dtype=bool),
        *(np.asarray(image, dtype=bool) for image in flags),
    ]
    for index, (value, flag, count) in enumerate(zip(values[1:], matched[1:], heads, strict=True)):
        if flag.shape != (len(THRESHOLDS), *value.shape) or value.ndim != 1:
            raise ValueError(
                f"flags[{index}] are {flag.shape} for scores of shape {value.shape}: pass (10, n) and (n,)"
            )
        if not np.isfinite(value).all() or (value[1:] > value[:-1]).any():
            raise ValueError(
                f"scores[{index}] must be finite and falling: keep scores and flags in match_image's order"
            )
        if count < 0 or flag.sum(axis=1).max(initial=0) > count:
            raise ValueError(
                f"heads[{index}] is {count}, fewer than its matches: flags and heads do not belong together"
            )
    return np.concatenate(values), np.concatenate(matched, axis=1), int(sum(heads))

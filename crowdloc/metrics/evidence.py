"""Matches as a table without coordinates: enough to recompute AP and AR exactly, also for real data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crowdloc.metrics.localization import COLUMNS, SIGMAS, scores_from_matches
from crowdloc.metrics.matching import THRESHOLDS, match_images


def matches_frame(
    predictions: Sequence[tuple[ArrayLike, ArrayLike]],
    ground_truth: Sequence[ArrayLike],
    images: Sequence[str],
    sigmas: Sequence[float] = SIGMAS,
    *,
    scale: float = 1.0,
) -> pd.DataFrame:
    """Evidence of `localization_scores` (same arguments; `images` names every image).

    Returns:
        One row per detection, in the order of images and then of falling score: `image`, `heads` (of the
        image), `rank` (0-based), `score` (float64) and one bool column per σ and threshold, for example
        `20@0.75`. An image without detections has one row with rank -1, score NaN and no match.

    Raises:
        ValueError: as `localization_scores`, or image names that are not unique, one per image.
    """
    if len(images) != len(predictions) or len(set(images)) != len(images):
        raise ValueError(f"images: pass {len(predictions)} different image names, one per image")
    order, flags = match_images(predictions, ground_truth, sigmas, scale=scale)
    columns = [_column(sigma, level) for sigma in sigmas for level in THRESHOLDS]
    parts = []
    for name, (_, scores), truth, by_score, matched in zip(
        images, predictions, ground_truth, order, flags, strict=True
    ):
        rows = max(1, len(by_score))
        part = pd.DataFrame({"image": [name] * rows, "heads": len(np.asarray(truth))})
        part["rank"] = np.arange(rows) if len(by_score) else -1
        part["score"] = np.asarray(scores, dtype=np.float64)[by_score] if len(by_score) else np.nan
        table = matched.reshape(len(columns), -1).T if len(by_score) else np.zeros((1, len(columns)), bool)
        parts.append(pd.concat([part, pd.DataFrame(table, columns=columns)], axis=1))
    return pd.concat(parts, ignore_index=True)


def scores_from_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The table of `localization_scores`, bit-equal, from a `matches_frame` (row order decides ties)."""
    missing = {"image", "heads", "rank", "score"} - set(frame.columns)
    if missing:
        raise ValueError(f"the evidence lacks {sorted(missing)}: store all columns of matches_frame")
    names = dict.fromkeys(column.split("@")[0] for column in frame.columns if "@" in column)
    if not names:
        raise ValueError(
            "the evidence has no match flags such as 20@0.75: store all columns of matches_frame"
        )
    sigmas = [int(name) if float(name).is_integer() else float(name) for name in names]
    groups = [group for _, group in frame.groupby("image", sort=False)]
    found = [group[group["rank"] >= 0] for group in groups]
    scores = [group["score"].to_numpy() for group in found]
    heads = [int(group["heads"].iloc[0]) for group in groups]
    rows = []
    for sigma in sigmas:
        columns = [_column(sigma, level) for level in THRESHOLDS]
        rows.append(scores_from_matches(scores, [group[columns].to_numpy().T for group in found], heads))
    return pd.DataFrame(rows, columns=list(COLUMNS), index=pd.Index(sigmas, name="sigma"))


def _column(sigma: float, level: float) -> str:
    return f"{sigma:g}@{level:.2f}"

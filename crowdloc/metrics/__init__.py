"""Evaluation of located points and of counts (paper V-A): all names of the metrics."""

from __future__ import annotations

from crowdloc.metrics.counting import counting_errors, f1_at
from crowdloc.metrics.localization import (
    COLUMNS,
    SIGMAS,
    localization_scores,
    scores_from_matches,
    sigma_scale,
)
from crowdloc.metrics.matching import THRESHOLDS, match_image, match_images, matched_heads

__all__ = [
    "COLUMNS",
    "SIGMAS",
    "THRESHOLDS",
    "counting_errors",
    "f1_at",
    "localization_scores",
    "match_image",
    "match_images",
    "matched_heads",
    "scores_from_matches",
    "sigma_scale",
]

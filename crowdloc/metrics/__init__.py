"""Evaluation of located points and of counts (paper V-A): all names of the metrics."""

from __future__ import annotations

from crowdloc.metrics.counting import counting_errors, f1_at
from crowdloc.metrics.game import grid_errors
from crowdloc.metrics.localization import (
    COLUMNS,
    SIGMAS,
    localization_scores,
    scores_from_matches,
    sigma_scale,
)
from crowdloc.metrics.matching import THRESHOLDS, match_image, match_images, matched_heads
from crowdloc.metrics.radius import match_within, nwpu_radii, radius_scores
from crowdloc.metrics.ranked import distance_ap, head_spacing, normalized_ap

__all__ = [
    "COLUMNS",
    "SIGMAS",
    "THRESHOLDS",
    "counting_errors",
    "distance_ap",
    "f1_at",
    "grid_errors",
    "head_spacing",
    "localization_scores",
    "match_image",
    "match_images",
    "match_within",
    "matched_heads",
    "normalized_ap",
    "nwpu_radii",
    "radius_scores",
    "scores_from_matches",
    "sigma_scale",
]

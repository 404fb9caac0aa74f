"""Average precision by distance instead of similarity: P2PNet's nAP and DroneCrowd's L-AP.

Both go through the detections of all images in order of falling score; each takes the nearest free head of its image
within the radius (of equally near ones the last), and AP is the area under precision against recall at every change of
recall, precision being the best at that recall or a higher one. COCO's AP differs in both: similarity for the radius,
101 recalls for the area.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crowdloc.metrics.matching import check_images, greedy_holders
from crowdloc.metrics.radius import check_radii, pairs_within

DELTAS: NDArray[np.float64] = np.arange(1, 11) / 20
DISTANCES = tuple(range(1, 26))
_ANYWHERE = 1e100  # pixels: the radius of a head that has no neighbour

Predictions = Sequence[tuple[ArrayLike, ArrayLike]]


def normalized_ap(
    predictions: Predictions,
    ground_truth: Sequence[ArrayLike],
    deltas: Sequence[float] | NDArray[np.float64] = DELTAS,
    *,
    neighbours: int = 3,
) -> dict[str, float]:
    """Density-normalised average precision (P2PNet, arXiv 2107.12746): the radius is δ times the heads' spacing.

    No code of it was published. What its text leaves open: of several free heads within reach the nearest is taken,
    and a distance of exactly δ times the spacing matches (the text has <).

    Args:
        predictions, ground_truth: as in `localization_scores`.
        deltas: positive parts δ of `head_spacing`; a head alone in its image matches at any distance.
        neighbours: how many nearest heads the spacing is the mean of.

    Returns:
        "nAP", the mean over `deltas`, and "nAP@0.05", …; NaN if there is no head.

    Raises:
        ValueError: as `localization_scores`.
    """
    spacing = [head_spacing(truth, neighbours) for _, _, truth in check_images(predictions, ground_truth)]
    parts = {}
    for delta in deltas:
        radii = [delta * values for values in spacing]
        parts[f"nAP@{delta:g}"] = average_precision(predictions, ground_truth, radii)
    return {"nAP": float(np.mean(list(parts.values()))), **parts}


def distance_ap(
    predictions: Predictions,
    ground_truth: Sequence[ArrayLike],
    distances: Sequence[float] = DISTANCES,
    *,
    scale: float = 1.0,
) -> dict[str, float]:
    """DroneCrowd's localization measure (Wen et al., CVPR 2021): "L-mAP", the mean over `distances`, and "L-AP@1", ….

    Two habits of the published toolkit are left out: it does not count the heads of a sequence without any detection,
    and it moves detections near the left and upper border, as its 20 px boxes are cut there.

    Args:
        predictions, ground_truth, scale: as in `localization_scores`.
        distances: pixels after multiplication by `scale`; a detection at exactly that distance matches.

    Raises:
        ValueError: as `localization_scores`.
    """
    parts = {
        f"L-AP@{distance:g}": average_precision(predictions, ground_truth, [distance] * len(ground_truth), scale=scale)
        for distance in distances
    }
    return {"L-mAP": float(np.mean(list(parts.values()))), **parts}


def average_precision(
    predictions: Predictions, ground_truth: Sequence[ArrayLike], radii: Sequence[ArrayLike], *, scale: float = 1.0
) -> float:
    """AP of one radius per image, a number or one for every head (m,); NaN if there is no head."""
    images = check_images(predictions, ground_truth)
    limits = check_radii(radii, [len(truth) for _, _, truth in images])
    order = [np.argsort(-scores, kind="stable") for _, scores, _ in images]
    placed = [(p[by_score] * scale, t * scale) for (p, _, t), by_score in zip(images, order, strict=True)]
    detections, heads = sum(len(p) for p, _ in placed), sum(len(t) for _, t in placed)
    detection, head, squared = pairs_within(placed, limits)
    holder = greedy_holders(detection, head, -squared, detections, heads, np.array([-np.inf]))[0]
    hit = np.zeros(detections + 1, dtype=bool)
    hit[holder] = True
    pooled = np.concatenate([np.empty(0), *(s[by_score] for (_, s, _), by_score in zip(images, order, strict=True))])
    return area_under_curve(pooled, hit[:detections], heads)


def area_under_curve(scores: NDArray[np.float64], hit: NDArray[np.bool_], heads: int) -> float:
    """Area under precision against recall, at every change of recall; ties in score keep their order."""
    if heads == 0:
        return float("nan")
    hit = hit[np.argsort(-scores, kind="stable")]
    precision = hit.cumsum() / np.arange(1, len(hit) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[hit].sum() / heads)  # every hit is a step of 1 / heads


def head_spacing(truth: ArrayLike, neighbours: int = 3) -> NDArray[np.float64]:
    """Mean distance (m,) of every head to its `neighbours` nearest others, to all others where there are fewer."""
    from scipy.spatial import cKDTree  # slow to import, and few need it

    heads = np.asarray(truth, dtype=np.float64).reshape(-1, 2)
    if isinstance(neighbours, bool) or not isinstance(neighbours, int) or neighbours < 1:
        raise ValueError(f"neighbours: {neighbours!r} must be a whole number of at least 1")
    near = min(neighbours, len(heads) - 1)
    if near < 1:
        return np.full(len(heads), _ANYWHERE)
    return cKDTree(heads).query(heads, k=near + 1)[0][:, 1:].mean(axis=1)  # the first is the head itself

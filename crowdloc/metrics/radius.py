"""Hits within a radius in pixels: precision, recall and F1, as NWPU, FIDTM and most papers on localization report them.

A detection may match a head at most `radius` away, the same for all heads or one for every head (NWPU: from the size of
its box). Each takes at most one of the other, either so that there are as many matches as possible (`optimal`) or in
order of falling score, the nearest free head first (`greedy`). Predictions need no scores for the first.

The criterion is exact at its edge: a pair matches if and only if the distance of its coordinates, as they are in
float64, is not larger than the radius, without any rounding. On whole-pixel coordinates many pairs lie on the edge.

Not repeated, as the points were not at hand: those that FIDTM published for ShanghaiTech give precision, recall and F1
(%) of 59.1, 58.2, 58.6 within 4 pixels and 78.1, 77.0, 77.6 within 8 on part A, and of 64.9, 64.5, 64.7 and 83.9,
83.2, 83.5 on part B, by optimal matching on coordinates that are rounded down.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crowdloc.metrics.counting import ratio
from crowdloc.metrics.matching import check_images, close_pairs, greedy_holders
from crowdloc.metrics.optimal import optimal_holders

MATCHINGS = ("optimal", "greedy")
_ROUNDING = 1e-12  # relative: pairs nearer to the edge are compared as fractions


def match_within(
    points: ArrayLike,
    truth: ArrayLike,
    radius: ArrayLike,
    *,
    scores: ArrayLike | None = None,
    matching: str = "optimal",
    scale: float = 1.0,
) -> NDArray[np.int64]:
    """Which detection every head of one image is matched with.

    Args:
        points: (n, 2) detections; truth: (m, 2) heads, in pixels.
        radius: pixels after multiplication by `scale`, one number or (m,), one for every head; not negative.
        scores: (n,), of which `greedy` takes the highest first; without them it takes the order of `points`.
        matching: "optimal" or "greedy".
        scale: factor from the pixels of the points to those of the radius (see `sigma_scale`).

    Returns:
        (m,): index into `points`, or -1 for a head that is missed. A detection that is not in it is false.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, or an unknown rule.
    """
    found = _matched([points], [truth], [radius], None if scores is None else [scores], matching, scale)
    return found[0]


def radius_scores(
    points: Sequence[ArrayLike],
    ground_truth: Sequence[ArrayLike],
    radius: float | Sequence[ArrayLike],
    *,
    scores: Sequence[ArrayLike] | None = None,
    matching: str = "optimal",
    scale: float = 1.0,
) -> dict[str, float]:
    """`precision`, `recall` and `F1` of all given detections, hits, detections and heads summed over the images.

    Args:
        points: per image (n, 2), every one of which counts: choose a score threshold before.
        ground_truth: per image (m, 2).
        radius: as in `match_within`; per image and head: a sequence over images of (m,).
        scores, matching, scale: as in `match_within`, scores per image.

    Returns:
        NaN where a denominator is 0.

    Raises:
        ValueError: as `match_within`; it names the image.
    """
    radii = [radius] * len(ground_truth) if isinstance(radius, int | float | np.number) else radius
    found = _matched(points, ground_truth, radii, scores, matching, scale)
    hits = sum(int((image >= 0).sum()) for image in found)
    detections, heads = (sum(len(np.asarray(image)) for image in images) for images in (points, ground_truth))
    return {
        "precision": ratio(hits, detections),
        "recall": ratio(hits, heads),
        "F1": ratio(2 * hits, detections + heads),
    }


def nwpu_radii(boxes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """NWPU's two radii of every head, σ_s = min(w, h) / 2 and σ_l = √(w² + h²) / 2 in pixels, each (m,).

    Args:
        boxes: (m, 4) x1 y1 x2 y2 of the heads. NWPU rounds its radii to whole pixels, which is left to the caller.

    Raises:
        ValueError: another shape, or a box whose end lies before its start.
    """
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) if np.size(boxes) == 0 else np.asarray(boxes, float)
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise ValueError(f"boxes have shape {corners.shape}: pass rows x1 y1 x2 y2 of shape (m, 4)")
    size = corners[:, 2:] - corners[:, :2]
    if not (size >= 0).all():
        raise ValueError(
            f"box {int(np.flatnonzero(~(size >= 0).all(axis=1))[0])} ends before it begins: pass x1 y1 x2 y2"
        )
    return size.min(axis=1) / 2, np.hypot(*size.T) / 2


def _matched(
    points: Sequence[ArrayLike],
    ground_truth: Sequence[ArrayLike],
    radii: Sequence[ArrayLike],
    scores: Sequence[ArrayLike] | None,
    matching: str,
    scale: float,
) -> list[NDArray[np.int64]]:
    """`match_within` of many images."""
    if matching not in MATCHINGS:
        raise ValueError(f"matching {matching!r} is unknown: choose one of {', '.join(MATCHINGS)}")
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale: {scale!r} must be a positive, finite number")
    given = [np.zeros(len(np.asarray(p))) for p in points] if scores is None else scores
    if len(given) != len(points):
        raise ValueError(f"scores hold {len(given)} images and points {len(points)}: pass one entry per image in both")
    images = check_images(list(zip(points, given, strict=True)), ground_truth)
    limits = check_radii(radii, [len(truth) for _, _, truth in images])
    order = [np.argsort(-values, kind="stable") for _, values, _ in images]
    placed = [(p[by_score] * scale, t * scale) for (p, _, t), by_score in zip(images, order, strict=True)]
    detection, head, squared = pairs_within(placed, limits)
    numbers = sum(len(p) for p, _ in placed), sum(len(t) for _, t in placed)
    if matching == "optimal":
        holder = optimal_holders(detection, head, squared, *numbers)
    else:
        holder = greedy_holders(detection, head, -squared, *numbers, np.array([-np.inf]))[0]
    # From ranks that run through all images to indices into each image's points; none: -1.
    names = np.append(np.concatenate([np.empty(0, np.int64), *order]), -1)
    ends: NDArray[np.int64] = np.cumsum([len(truth) for _, truth in placed], dtype=np.int64)
    return np.split(names[holder], ends)[:-1]


def check_radii(radii: Sequence[ArrayLike], heads: Sequence[int]) -> list[NDArray[np.float64]]:
    """Per image (m,), from one number or one for every head; ValueError names the image at fault."""
    if len(radii) != len(heads):
        raise ValueError(f"radius holds {len(radii)} images and ground_truth {len(heads)}: pass one entry per image")
    checked = []
    for index, (radius, number) in enumerate(zip(radii, heads, strict=True)):
        values = np.asarray(radius, dtype=np.float64)
        if values.ndim > 1 or (values.ndim == 1 and len(values) != number):
            raise ValueError(
                f"radius of image {index} has shape {values.shape} for {number} heads: pass a number, or one per head"
            )
        if not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError(f"radius of image {index} is negative or not finite: pass pixels")
        checked.append(np.broadcast_to(values, (number,)))
    return checked


def pairs_within(
    images: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], radii: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Detection, head (indices run through all images) and squared distance of pairs within the head's radius.

    Args:
        images: detections (n, 2) and heads (m, 2); radii: (m,).
    """
    parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    first_point = first_head = 0
    for (points, truth), radius in zip(images, radii, strict=True):
        detection, head, squared = close_pairs([(points, truth)], 1.001 * radius.max(initial=0.0))
        limit = radius[head] * radius[head]
        inside = squared <= limit
        for pair in np.flatnonzero(abs(squared - limit) <= _ROUNDING * limit):
            inside[pair] = _is_within(points[detection[pair]], truth[head[pair]], radius[head[pair]])
        parts.append((detection[inside] + first_point, head[inside] + first_head, squared[inside]))
        first_point += len(points)
        first_head += len(truth)
    detection, head, squared = (np.concatenate(part) for part in zip(*parts, strict=True))
    return detection, head, squared


def _is_within(one: NDArray[np.float64], other: NDArray[np.float64], radius: float) -> bool:
    dx, dy = (Fraction(float(a)) - Fraction(float(b)) for a, b in zip(one, other, strict=True))
    return dx * dx + dy * dy <= Fraction(float(radius)) ** 2

"""Which detections match which heads: the greedy rule of the COCO key-point protocol.

The similarity of a detection and a head at distance d is exp(-d² / (2σ²)) (paper V-A: COCO key points with
one point). In order of falling score, every detection takes the free head that is most similar to it, if
the similarity reaches the threshold.

The rule is sequential, its result is not: all heads prefer the detection with the higher score, so exactly
one stable matching exists, and it is the greedy one. Deferred acceptance finds it in a few rounds, in each
of which all detections of all images and thresholds propose together: a whole data set is a matter of some
array operations.

A consequence: a lower threshold or a larger σ only lengthens the detections' lists of acceptable heads, so
no head loses its match and, at every rank, the number of matches cannot fall. AP and AR of one set of
detections therefore never fall when the threshold is lowered or σ grows (`crowdloc.paper.suspicious` uses
this).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)  # i / 100 would differ in the last bit
_NEARLY_ONE = 1 - 1e-10  # pycocotools lowers a threshold of 1 to this


def match_image(
    points: ArrayLike,
    scores: ArrayLike,
    truth: ArrayLike,
    sigma: float,
    thresholds: ArrayLike = THRESHOLDS,
    *,
    scale: float = 1.0,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Match the detections of one image with its heads.

    Args:
        points: (n, 2) detections (x, y); scores: (n,); truth: (m, 2) heads.
        sigma: σ in pixels after multiplication by `scale`.
        thresholds: similarities in (0, 1] that a match has to reach; an equal similarity matches.
        scale: factor from the pixels of the points to the pixels of σ (see `sigma_scale`).

    Returns:
        `order` (n,): indices of the detections in order of falling score (ties keep their order), and
        `flags` (len(thresholds), n): whether detection `order[k]` is matched at each threshold.

    Raises:
        ValueError: shapes that do not fit, non-finite values, σ or a threshold out of range.
    """
    order, flags = match_images([(points, scores)], [truth], [sigma], thresholds, scale=scale)
    return order[0], flags[0][0]


def match_images(
    predictions: Sequence[tuple[ArrayLike, ArrayLike]],
    ground_truth: Sequence[ArrayLike],
    sigmas: Sequence[float],
    thresholds: ArrayLike = THRESHOLDS,
    *,
    scale: float = 1.0,
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.bool_]]]:
    """`match_image` for many images and σ: lists of `order` (n,), `flags` (σ, thresholds, n)."""
    levels = _check_levels(thresholds)
    widths = _check_positive(sigmas, "sigmas")
    _check_positive([scale], "scale")
    images = [(p * scale, s, t * scale) for p, s, t in check_images(predictions, ground_truth)]
    order = [np.argsort(-scores, kind="stable") for _, scores, _ in images]
    ranked = [(points[by_score], truth) for (points, _, truth), by_score in zip(images, order, strict=True)]

    # No pair farther apart than this can match; the 0.1 % is for rounding, the similarity itself decides.
    radius = 1.001 * widths.max(initial=0.0) * np.sqrt(-2 * np.log(levels.min(initial=1.0)))
    detection, head, squared = close_pairs(ranked, radius)
    num_detections = sum(len(points) for points, _ in ranked)
    num_heads = sum(len(truth) for _, truth in ranked)
    flags = np.empty((len(widths), len(levels), num_detections), dtype=bool)
    for row, sigma in zip(flags, widths, strict=True):
        # The same operations in the same order as pycocotools, for equality to the last bit.
        similarity = np.exp(-(squared / (sigma * sigma) / 2))
        near = similarity >= levels.min(initial=1.0)
        holder = greedy_holders(detection[near], head[near], similarity[near], num_detections, num_heads, levels)
        for level, who in enumerate(holder):
            row[level] = _is_holder(who, num_detections)
    ends: NDArray[np.int64] = np.cumsum([len(by_score) for by_score in order], dtype=np.int64)
    return order, np.split(flags, ends, axis=-1)[:-1]


def matched_heads(
    points: ArrayLike, scores: ArrayLike, truth: ArrayLike, sigma: float, similarity: float = 0.5, *, scale: float = 1.0
) -> NDArray[np.int64]:
    """Which detection every head of one image is matched with, by the rule of `match_image` at one similarity.

    Returns:
        (m,): index into `points`, or -1 for a head that is missed. A detection that is not in it is false.
    """
    ((places, values, heads),) = check_images([(points, scores)], [truth])
    width, factor = _check_positive([sigma, scale], "sigma and scale")
    level = _check_levels([similarity])
    order = np.argsort(-values, kind="stable")
    radius = 1.001 * width * np.sqrt(-2 * np.log(level.min()))
    detection, head, squared = close_pairs([(places[order] * factor, heads * factor)], radius)
    alike = np.exp(-(squared / (width * width) / 2))
    holder = greedy_holders(detection, head, alike, len(places), len(heads), level)[0]
    return np.append(order, -1)[holder]


def close_pairs(
    images: list[tuple[NDArray[np.float64], NDArray[np.float64]]], radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Detection, head (indices run through all images) and squared distance of pairs within `radius`."""
    parts = []
    first_point = first_head = 0
    for points, truth in images:
        by_x = np.argsort(truth[:, 0], kind="stable")
        x = truth[by_x, 0]
        start = np.searchsorted(x, points[:, 0] - radius, side="left")
        count = np.searchsorted(x, points[:, 0] + radius, side="right") - start
        i = np.repeat(np.arange(len(points)), count)
        j = by_x[np.arange(len(i)) - np.repeat(np.cumsum(count) - count - start, count)]
        dx, dy = points[i, 0] - truth[j, 0], points[i, 1] - truth[j, 1]
        squared = dx * dx + dy * dy
        near = squared <= radius * radius
        parts.append((i[near] + first_point, j[near] + first_head, squared[near]))
        first_point += len(points)
        first_head += len(truth)
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    detection, head, distance = (np.concatenate(part) for part in zip(*parts, strict=True))
    return detection, head, distance


def greedy_holders(
    detection: NDArray[np.int64],
    head: NDArray[np.int64],
    similarity: NDArray[np.float64],
    num_detections: int,
    num_heads: int,
    levels: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Greedy matching: the detection of every head (len(levels), num_heads); `num_detections` stands for none.

    A smaller detection index goes first.
    """
    # Each detection's wish list: most similar head first and, as in pycocotools, the last one among equals.
    wish = np.lexsort((-head, -similarity, detection))
    detection, head, similarity = detection[wish], head[wish], similarity[wish]
    start = np.searchsorted(detection, np.arange(num_detections))
    # A level shortens every list to the heads that are similar enough: a prefix, for similarity falls.
    length = np.stack([np.bincount(detection[similarity >= level], minlength=num_detections) for level in levels])
    end = (start + length).ravel()  # index level * num_detections + detection
    turn = np.tile(start, len(levels))
    holder = np.full(len(levels) * num_heads, num_detections)  # num_detections: nobody

    proposing = np.flatnonzero(turn < end)
    while len(proposing):
        level, who = np.divmod(proposing, num_detections)
        seat = level * num_heads + head[turn[proposing]]
        before = holder[seat]
        np.minimum.at(holder, seat, who)
        won = holder[seat] == who
        displaced = (level * num_detections + before)[won & (before < num_detections)]
        refused = np.concatenate([proposing[~won], displaced])
        turn[refused] += 1
        proposing = refused[turn[refused] < end[refused]]

    return holder.reshape(len(levels), num_heads)


def _is_holder(holder: NDArray[np.int64], num_detections: int) -> NDArray[np.bool_]:
    """(num_detections,): which detections have a head."""
    matched = np.zeros(num_detections + 1, dtype=bool)
    matched[holder] = True
    return matched[:num_detections]


def check_images(
    predictions: Sequence[tuple[ArrayLike, ArrayLike]], ground_truth: Sequence[ArrayLike]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
    """Per image float64 points (n, 2), scores (n,), truth (m, 2); ValueError names the image at fault."""
    if len(predictions) != len(ground_truth):
        raise ValueError(
            f"predictions hold {len(predictions)} images and ground_truth {len(ground_truth)}: "
            "pass one entry per image in both, empty arrays for images without points"
        )
    images = []
    for index, (prediction, heads) in enumerate(zip(predictions, ground_truth, strict=True)):
        if not isinstance(prediction, (tuple, list)) or len(prediction) != 2:
            raise ValueError(f"predictions[{index}] is not a pair: pass (points of shape (n, 2), scores of shape (n,))")
        points = _points(prediction[0], f"points of predictions[{index}]")
        scores = _numbers(prediction[1], f"scores of predictions[{index}]")
        if scores.shape != (len(points),):
            raise ValueError(
                f"scores of predictions[{index}] have shape {scores.shape} for {len(points)} points: "
                "pass one score per point"
            )
        if not np.isfinite(scores).all():
            raise ValueError(f"scores of predictions[{index}] are not all finite: drop those detections")
        images.append((points, scores, _points(heads, f"points of ground_truth[{index}]")))
    return images


def _points(value: ArrayLike, name: str) -> NDArray[np.float64]:
    points = _numbers(value, name)
    if points.shape == (0,):
        return np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{name} have shape {points.shape}: pass (x, y) rows of shape (n, 2)")
    if not np.isfinite(points).all():
        raise ValueError(f"{name} are not all finite: drop points with NaN or infinite coordinates")
    return points


def _numbers(value: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} are not an array of numbers: {error}") from None


def _check_positive(values: Sequence[float], name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not (np.isfinite(array) & (array > 0)).all():
        raise ValueError(f"{name}: {values!r} must be positive, finite numbers")
    return array


def _check_levels(thresholds: ArrayLike) -> NDArray[np.float64]:
    levels = np.asarray(thresholds, dtype=np.float64)
    if levels.ndim != 1 or not len(levels) or not ((levels > 0) & (levels <= 1)).all():
        raise ValueError(f"thresholds: {thresholds!r} must be similarities in (0, 1]")
    return np.minimum(levels, _NEARLY_ONE)

"""AP and AR, or counting errors, of many bootstrap replicates at once: a unit counts as often as it was drawn.

AP is no mean over scenes: the detections of all drawn scenes are pooled and ranked anew in every replicate. Three
things make that cheap. The order of the scores never changes, a replicate only changes how often each detection
counts. Going from the last detection to the first, with counts that fall from their totals, the best precision at this
recall or a higher one is known at every step. And it changes at matched detections only: precision falls at others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crowdloc.metrics.matching import THRESHOLDS

_LANES = 128  # replicates side by side, so that one instruction serves several; their counts fit the fastest cache
_SEEN, _INVERSE, _STEP, _HALF = range(4)  # rows of `shared`, one number per replicate
_HITS, _LEVEL, _BEST, _AREA = range(4)  # rows of `state`, one number per threshold and replicate


def pooled_scores(
    scores: Sequence[ArrayLike], flags: Sequence[ArrayLike], heads: ArrayLike, units: ArrayLike, weights: ArrayLike
) -> NDArray[np.float64]:
    """AP.50, AP.75, mAP, AR.50, AR.75 and mAR (R, 6) of one σ in every replicate.

    Equal to `scores_from_matches` of the images repeated as often as they were drawn, but for single precision (1e-6,
    while scenes move AP by 1e-2; up to 2^24 detections) and for this: a recall level that is reached exactly counts as
    reached (levels of pycocotools are rounded and miss a few), and among detections of one score the copies of each
    stand together.

    Args:
        scores: per image (n,), falling; flags: per image (10, n), both as `match_image` orders them.
        heads: (images,) number of heads; units: (images,) number of the unit that an image belongs to.
        weights: (R, number of units), how often a replicate drew each unit; whole numbers.

    Returns:
        One row per replicate; NaN where no head was drawn. The same on any number of threads.
    """
    pooled = np.concatenate([np.empty(0), *(np.asarray(image, dtype=np.float64) for image in scores)])
    none = np.empty((len(THRESHOLDS), 0), dtype=bool)
    matched = np.concatenate([none, *(np.asarray(image, dtype=bool) for image in flags)], axis=1)
    by_score = np.argsort(-pooled, kind="stable")
    unit, times = np.asarray(units, dtype=np.int64), np.asarray(weights, dtype=np.float64)
    owner = np.repeat(unit, [len(np.asarray(image)) for image in scores])[by_score]
    drawn_heads = times @ np.bincount(unit, weights=np.asarray(heads, dtype=np.float64), minlength=times.shape[1])
    # The thresholds at which detection i matches are level[first[i] : first[i + 1]].
    detection, level = np.nonzero(matched[:, by_score].T)
    first = np.searchsorted(detection, np.arange(len(owner) + 1))
    return _kernel()(owner, first, level, np.ascontiguousarray(times.T), drawn_heads, len(THRESHOLDS))


def pooled_errors(predicted: ArrayLike, actual: ArrayLike, units: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """MAE and MSE (R, 2) of counts per image (n,) in every replicate; `units` and `weights` as in `pooled_scores`.

    As in `counting_errors`, "MSE" is the root of the mean squared error, in heads.
    """
    unit, times = np.asarray(units, dtype=np.int64), np.asarray(weights, dtype=np.float64)
    error = np.asarray(predicted, dtype=np.float64) - np.asarray(actual, dtype=np.float64)
    number, absolute, squared = (
        times @ np.bincount(unit, weights=values, minlength=times.shape[1])
        for values in (np.ones_like(error), np.abs(error), error * error)
    )
    return np.stack([absolute / number, np.sqrt(squared / number)], axis=1)


@cache
def _kernel() -> Any:
    """Compiled on first use, because `import crowdloc` must not import Numba."""
    from numba import njit, prange

    @njit(parallel=True, cache=True)
    def scores(owner, first, level, times, drawn_heads, levels):
        number, replicates = len(owner), times.shape[1]
        result = np.empty((replicates, 6))
        for block in prange((replicates + _LANES - 1) // _LANES):
            start = block * _LANES
            width = min(_LANES, replicates - start)
            weight = np.zeros((times.shape[0], _LANES), np.float32)
            weight[:, :width] = times[:, start : start + width]
            heads = np.ones(_LANES)
            heads[:width] = np.maximum(drawn_heads[start : start + width], 1.0)
            shared, state = np.zeros((4, _LANES), np.float32), np.zeros((levels, 4, _LANES), np.float32)
            shared[_STEP], shared[_HALF] = 100.0 / heads, 0.5 / heads
            for i in range(number):
                unit = owner[i]
                for lane in range(_LANES):
                    shared[_SEEN, lane] += weight[unit, lane]
                for j in range(first[i], first[i + 1]):
                    t = level[j]
                    for lane in range(_LANES):
                        state[t, _HITS, lane] += weight[unit, lane]
            recall = state[:, _HITS] / heads
            for t in range(levels):
                for lane in range(_LANES):
                    # How many of the recalls .01, .02, … are reached. Recalls are multiples of 1 / heads, so that half
                    # of one is room for rounding.
                    reached = np.int32(state[t, _HITS, lane] * shared[_STEP, lane] + shared[_HALF, lane])
                    state[t, _LEVEL, lane] = np.float32(reached)
            for i in range(number - 1, -1, -1):
                unit = owner[i]
                if first[i] < first[i + 1]:
                    for lane in range(_LANES):
                        shared[_INVERSE, lane] = np.float32(1.0) / max(shared[_SEEN, lane], np.float32(1.0))
                    for j in range(first[i], first[i + 1]):
                        t = level[j]
                        for lane in range(_LANES):
                            precision = state[t, _HITS, lane] * shared[_INVERSE, lane]
                            best = state[t, _BEST, lane]
                            best = precision if precision > best else best
                            hits = state[t, _HITS, lane] - weight[unit, lane]
                            left = np.float32(np.int32(hits * shared[_STEP, lane] + shared[_HALF, lane]))
                            # The levels that this detection is the first to reach take the best precision from here on.
                            state[t, _AREA, lane] += best * (state[t, _LEVEL, lane] - left)
                            state[t, _HITS, lane], state[t, _LEVEL, lane], state[t, _BEST, lane] = hits, left, best
                for lane in range(_LANES):
                    shared[_SEEN, lane] -= weight[unit, lane]
            # Recall 0 has the best precision of all.
            precision = (state[:, _AREA].astype(np.float64) + state[:, _BEST]) / 101
            for lane in range(width):
                row = result[start + lane]
                if drawn_heads[start + lane] == 0:
                    row[:] = np.nan
                else:
                    row[0], row[1], row[2] = precision[0, lane], precision[5, lane], precision[:, lane].mean()
                    row[3], row[4], row[5] = recall[0, lane], recall[5, lane], recall[:, lane].mean()
        return result

    return scores

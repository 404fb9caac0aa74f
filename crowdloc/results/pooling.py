"""AP and AR of many bootstrap replicates at once: every image counts as often as a replicate drew it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdloc.metrics import SIGMAS, THRESHOLDS
from crowdloc.results.evidence import Evidence


def pooled_scores(run: Evidence, sigma: int, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """mAP and mAR (R, 2) of an evaluation, detections of all images pooled anew in every replicate.

    Args:
        weights: (R, images), how often each replicate counts each image.
    """
    row = SIGMAS.index(sigma)
    sizes = [len(scores) for scores in run.scores]
    by_score = np.argsort(-np.concatenate(run.scores), kind="stable")
    image = np.repeat(np.arange(len(sizes)), sizes)[by_score]
    flags = np.concatenate([flags[row] for flags in run.flags], axis=1)[:, by_score]  # (10, n)
    heads = (weights @ run.heads).astype(np.float64)
    return _kernel()(image, np.ascontiguousarray(flags), weights.astype(np.float64), heads)


def reference_scores(run: Evidence, sigma: int, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """The same by the plain definition: each image repeated as often as drawn; slow."""
    found = []
    for times in weights:
        drawn = np.repeat(np.arange(len(times)), times)
        some = Evidence(
            images=[run.images[i] for i in drawn],
            scenes=[run.scenes[i] for i in drawn],
            heads=run.heads[drawn],
            scores=[run.scores[i] for i in drawn],
            flags=[run.flags[i] for i in drawn],
        )
        row = some.localization[str(sigma)]
        found.append((row["mAP"], row["mAR"]))
    return np.array(found)


@cache
def _kernel() -> Any:
    """Compiled on first use: one pass forward for the counts and one backward for the precision envelope."""
    from numba import njit, prange

    recalls = np.linspace(0.0, 1.0, 101)
    levels = len(THRESHOLDS)

    @njit(parallel=True, cache=True)
    def scores(image, flags, weights, heads):
        replicates, number = len(weights), len(image)
        result = np.zeros((replicates, 2))
        for r in prange(replicates):
            hits, seen = np.empty(number), np.empty(number)
            for t in range(levels):
                hit = total = 0.0
                for i in range(number):
                    weight = weights[r, image[i]]
                    total += weight
                    hit += weight * flags[t, i]
                    hits[i], seen[i] = hit, total
                if heads[r] == 0:
                    continue
                best, k, area = 0.0, 100, 0.0
                for i in range(number - 1, -1, -1):
                    # A recall level takes the best precision at the first detection that reaches it or at a later one.
                    while k >= 0 and hits[i] / heads[r] < recalls[k]:
                        area += best
                        k -= 1
                    if seen[i] > 0:
                        best = max(best, hits[i] / seen[i])
                area += best * (k + 1)
                result[r, 0] += area / 101 / levels
                result[r, 1] += hit / heads[r] / levels
        return result

    return scores

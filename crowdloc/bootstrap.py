"""Paired comparison of two methods with a hierarchical bootstrap: scenes are drawn, then seeds, AP is pooled again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crowdloc.evidence import Evidence
from crowdloc.metrics import SIGMAS

MARGIN = 0.005  # "similar" and "without hurting": the difference lies within ± this
BLOCK = 20  # images of one unit where there are too few scenes
_RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Difference:
    """Left minus right: estimate over all scenes and seeds, 95 % bootstrap interval, two-sided p-value."""

    estimate: float
    low: float
    high: float
    p_value: float = 1.0

    def verdict(self, relation: str = "better") -> str:
        """What becomes of the claim that left is `relation` to right: "better" than it, or "similar" to it."""
        if relation == "similar":
            if -MARGIN < self.low and self.high < MARGIN:
                return "holds"
            return "does not hold" if self.low > MARGIN or self.high < -MARGIN else "inconclusive"
        if relation != "better":
            raise ValueError(f"relation must be 'better' or 'similar', got {relation!r}")
        if self.low > 0:
            return "holds"
        return "does not hold" if self.high < 0 else "inconclusive"


def paired_difference(
    left: Sequence[Evidence],
    right: Sequence[Evidence],
    *,
    metric: str = "mAP",
    sigma: int = 20,
    replicates: int = 1000,
    seed: int = 0,
) -> Difference:
    """Difference of "mAP" or "mAR" between two methods: one evidence per seed, the same images in the same order.

    Every replicate draws scenes with replacement, the same for both methods, then each method's seeds with
    replacement; a drawn scene counts as often as it was drawn.

    Raises:
        ValueError: the methods were evaluated on different images, or the metric is unknown.
    """
    if metric not in ("mAP", "mAR"):
        raise ValueError(f"metric must be 'mAP' or 'mAR', got {metric!r}")
    runs = [*left, *right]
    if any(run.images != runs[0].images for run in runs):
        raise ValueError("left and right must hold the same images in the same order")
    random = np.random.Generator(np.random.Philox(seed))
    unit_of_image = independent_units(runs[0].scenes)
    units = int(unit_of_image.max()) + 1
    pooled = {id(run): _Pooled(run, SIGMAS.index(sigma)) for run in runs}
    everything = np.ones(len(runs[0].images))

    def mean(side: Sequence[Evidence], weights: NDArray[np.float64], drawn: NDArray[np.int64]) -> float:
        values = {int(i): pooled[id(side[i])].metric(metric, weights) for i in np.unique(drawn)}
        return float(np.mean([values[int(i)] for i in drawn]))

    def difference(weights: NDArray[np.float64], *drawn: NDArray[np.int64]) -> float:
        return mean(left, weights, drawn[0]) - mean(right, weights, drawn[1])

    estimate = difference(everything, np.arange(len(left)), np.arange(len(right)))
    samples = []
    for _ in range(replicates):
        times = np.bincount(random.integers(units, size=units), minlength=units)
        seeds = [random.integers(len(side), size=len(side)) for side in (left, right)]
        samples.append(difference(times[unit_of_image].astype(np.float64), *seeds))
    low, high = np.percentile(samples, [2.5, 97.5])
    # One replicate is added to either side, so that no p-value is 0.
    tail = min(sum(s <= 0 for s in samples), sum(s >= 0 for s in samples))
    return Difference(estimate, float(low), float(high), min(1.0, 2 * (tail + 1) / (replicates + 1)))


def independent_units(scenes: Sequence[str]) -> NDArray[np.int64]:
    """Number of the unit that each image belongs to: its scene, or with fewer than five scenes a stretch of its video.

    Images of one scene resemble each other, so they are drawn together. In a single video, stretches of `BLOCK`
    consecutive images stand for scenes: longer than most people stay, short enough that there are many.
    """
    names, scene = np.unique(scenes, return_inverse=True)
    if len(names) >= 5:
        return scene
    place = np.zeros(len(scene), dtype=np.int64)
    for number in range(len(names)):
        members = scene == number
        place[members] = np.arange(members.sum()) // BLOCK
    return np.unique(np.stack([scene, place], axis=1), axis=0, return_inverse=True)[1].reshape(-1)


class _Pooled:
    """One run's detections in falling order of score, ready to be weighted by image."""

    def __init__(self, run: Evidence, row: int) -> None:
        sizes = [len(scores) for scores in run.scores]
        by_score = np.argsort(-np.concatenate(run.scores), kind="stable")
        self.image = np.repeat(np.arange(len(sizes)), sizes)[by_score]
        self.flags = np.concatenate([flags[row] for flags in run.flags], axis=1)[:, by_score]  # (10, n)
        self.heads = run.heads

    def metric(self, name: str, weights: NDArray[np.float64]) -> float:
        """mAP or mAR with every image counted `weights` times."""
        weight = weights[self.image]
        hits = np.cumsum(self.flags * weight, axis=1)
        heads = float(self.heads @ weights)
        if heads == 0 or hits.shape[1] == 0:
            return 0.0
        if name == "mAR":
            return float(hits[:, -1].mean() / heads)
        precision = hits / np.maximum(np.cumsum(weight), np.finfo(float).tiny)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        curves = []
        for recall, best in zip(hits / heads, precision, strict=True):
            place = np.searchsorted(recall, _RECALLS, side="left")
            curves.append(np.where(place < len(best), best[place.clip(max=len(best) - 1)], 0.0))
        return float(np.mean(curves))

"""Paired comparison of two methods with a hierarchical bootstrap: scenes are drawn, then seeds, AP is pooled again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crowdloc.results.evidence import Evidence
from crowdloc.results.pooling import pooled_scores

MARGIN = 0.005  # "similar" and "without hurting": the difference lies within ± this
BLOCK = 20  # images of one unit where there are too few scenes


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


def paired_differences(
    left: Sequence[Evidence], right: Sequence[Evidence], *, sigma: int = 20, replicates: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """Difference of mAP and of mAR between two methods: one evidence per seed, the same images in the same order.

    Every replicate draws scenes with replacement, the same for both methods, then each method's seeds with
    replacement; a drawn scene counts as often as it was drawn.

    Raises:
        ValueError: the methods were evaluated on different images.
    """
    runs = [*left, *right]
    if any(run.images != runs[0].images for run in runs):
        raise ValueError("left and right must hold the same images in the same order")
    random = np.random.Generator(np.random.Philox(seed))
    unit_of_image = independent_units(runs[0].scenes)
    units = int(unit_of_image.max()) + 1
    draws = random.integers(units, size=(replicates, units))
    times = np.stack([np.bincount(draw, minlength=units) for draw in draws])[:, unit_of_image]
    times = np.concatenate([np.ones_like(times[:1]), times])  # the first line is the data themselves
    means = []
    for side in (left, right):
        values = np.stack([pooled_scores(run, sigma, times) for run in side])  # (seeds, 1 + R, 2)
        drawn = random.integers(len(side), size=(replicates, len(side)))
        replicated = values[drawn, np.arange(1, replicates + 1)[:, None]].mean(axis=1)  # (R, 2)
        means.append(np.concatenate([values[:, 0].mean(axis=0)[None], replicated]))
    difference = means[0] - means[1]
    return {metric: _summary(difference[:, column]) for column, metric in enumerate(("mAP", "mAR"))}


def _summary(differences: NDArray[np.float64]) -> Difference:
    estimate, samples = differences[0], differences[1:]
    low, high = np.percentile(samples, [2.5, 97.5])
    # One replicate is added to either side, so that no p-value is 0.
    tail = min((samples <= 0).sum(), (samples >= 0).sum())
    p_value = min(1.0, 2 * (int(tail) + 1) / (len(samples) + 1))
    return Difference(float(estimate), float(low), float(high), p_value)


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

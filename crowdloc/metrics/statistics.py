"""How far a difference measured on few scenes and few seeds can be trusted.

The model: training i of k and scene s of S show the difference D_is = δ + a_i + b_s + e_is, where a_i belongs to the
seed, b_s to the scene and e_is to both. The mean over all has the variance σ_a²/k + σ_b²/S + σ_e²/(kS).

- V_A, the variance of the k paired differences divided by k, holds the first and the third term.
- V_B, the variance of the mean difference when scenes are drawn again (a bootstrap: AP pools all scenes, there are no
  D_is to take means of), holds the second and the third.
- V_AB, the variance of what is left of the k differences when scenes are drawn again, holds the third.

The variance is therefore V_A + max(V_B - V_AB, 0). Seeds are few, so that V_A is poorly known, and the more of the
variance is V_A, the longer are the tails: difference over standard error is compared with a mixture of Student's
t with k - 1 and with S - 1 degrees of freedom, in the proportion of the two parts. With one part alone this is the
usual t test. A percentile bootstrap of three seeds rejects a true null 10 to 18 % of the time, and one number of
degrees of freedom by Satterthwaite's rule up to 8 %; this one 3 to 6 % (a test simulates it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from crowdloc.core.random_bits import Words, philox_integers

BLOCK = 20  # images of one unit where there are too few scenes
FEWEST_SCENES = 5
_CHUNK = 1000  # replicates whose draws are held at once


@dataclass(frozen=True)
class Resampled:
    """A number measured once per seed, and again with the units of one data set drawn anew.

    Attributes:
        values: (k,) one per seed, on the data themselves.
        replicates: (k, R) the same when units are drawn with replacement, the same draws for every seed; (k, 0) for
            a number that does not depend on scenes.
        units: how many units there are.
    """

    values: NDArray[np.float64]
    replicates: NDArray[np.float64]
    units: int


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its standard error and the t distributions that its tails follow.

    Attributes:
        value, error: mean and standard error.
        shares: (weight, degrees of freedom) of every part of the mixture; the weights sum to 1.
        seeds: k. With one seed the error holds the scenes' variation only.
    """

    value: float
    error: float
    shares: tuple[tuple[float, float], ...]
    seeds: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The two-sided confidence interval (low, high)."""
        half = self.error * self._quantile((1 - level) / 2) if self.error else 0.0
        return self.value - half, self.value + half

    def p_values(self, low: float, high: float) -> tuple[float, float]:
        """Two-sided p-values of "the true value lies between `low` and `high`" and of "it lies outside".

        The first is below .05 exactly if the 95 % interval lies strictly inside, the second if it lies strictly
        outside; with `high` infinite their minimum is the usual two-sided p-value of the difference from `low`.
        """
        inside, outside = min(self.value - low, high - self.value), max(low - self.value, self.value - high)
        return self._two_sided(inside), self._two_sided(outside)

    def _two_sided(self, distance: float) -> float:
        if self.error == 0:
            return 0.0 if distance > 0 else 1.0
        return min(1.0, 2 * self._tail(distance / self.error))

    def _tail(self, t: float) -> float:
        return float(sum(weight * stdtr(freedom, -t) for weight, freedom in self.shares))

    def _quantile(self, tail: float) -> float:
        """t with the wanted mass above it; it lies between the quantiles of the parts."""
        parts = [-float(stdtrit(freedom, tail)) for _, freedom in self.shares]
        low, high = min(parts), max(parts)
        for _ in range(100):
            middle = (low + high) / 2
            if not low < middle < high:
                break
            low, high = (middle, high) if self._tail(middle) > tail else (low, middle)
        return (low + high) / 2


def estimate(parts: Sequence[Resampled]) -> Estimate:
    """The sum of `parts`, which stand for different data sets with the same seeds in the same order.

    With a single unit nothing says how much scenes vary: the standard error is infinite, and nothing is decided.

    Raises:
        ValueError: no part, or different numbers of seeds.
    """
    seeds = {len(part.values) for part in parts}
    if len(seeds) != 1 or 0 in seeds:
        raise ValueError(f"parts hold {sorted(seeds)} seeds: pass at least one part, the same seeds in each")
    k = seeds.pop()
    values = np.sum([part.values for part in parts], axis=0)
    variances = [(float(values.var(ddof=1)) / k, k - 1.0)] if k > 1 else []
    for part in parts:
        if part.replicates.shape[1]:
            if part.units < 2:
                return Estimate(float(values.mean()), math.inf, ((1.0, 1.0),), k)
            variances.append((_scene_variance(part), part.units - 1.0))
    total = math.fsum(variance for variance, _ in variances)
    shares = tuple((variance / total, freedom) for variance, freedom in variances if variance > 0)
    return Estimate(float(values.mean()), math.sqrt(total), shares, k)


def _scene_variance(part: Resampled) -> float:
    """max(V_B - V_AB, 0), or V_B with one seed. Replicates without any head (NaN) are left out."""
    replicates = part.replicates[:, np.isfinite(part.replicates).all(axis=0)]
    k = len(replicates)
    mean = replicates.mean(axis=0)
    both = float((replicates - mean).var(axis=1).sum()) / (k * (k - 1)) if k > 1 else 0.0
    # Drawing S units from S makes the spread smaller by (S - 1) / S.
    return max(float(mean.var()) - both, 0.0) * part.units / (part.units - 1)


def independent_units(scenes: Sequence[str]) -> NDArray[np.int64]:
    """Number of the unit that each image belongs to: its scene, or with fewer than five scenes a stretch of its video.

    Images of one scene resemble each other, so they are drawn together. In a single video, stretches of `BLOCK`
    consecutive images stand for scenes: longer than most people stay, short enough that there are many.
    """
    names, scene = np.unique(np.asarray(scenes, dtype=str), return_inverse=True)
    if len(names) >= FEWEST_SCENES:
        return scene.astype(np.int64)
    place = np.zeros(len(scene), dtype=np.int64)
    for number in range(len(names)):
        members = scene == number
        place[members] = np.arange(members.sum()) // BLOCK
    pairs = np.stack([scene, place], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def drawn_units(units: int, replicates: int, key: Words) -> NDArray[np.int64]:
    """(replicates, units): how often each replicate draws each unit when `units` are drawn with replacement.

    The first replicates do not depend on how many there are; `key` as in `core.random_bits`.
    """
    times = np.empty((replicates, units), dtype=np.int64)
    for start in range(0, replicates, _CHUNK):
        rows = min(_CHUNK, replicates - start)
        drawn = philox_integers(key, start // _CHUNK, units, (rows, units))
        flat = (drawn + np.arange(rows)[:, None] * units).ravel()
        times[start : start + rows] = np.bincount(flat, minlength=rows * units).reshape(rows, units)
    return times


def holm(probabilities: ArrayLike, level: float = 0.05) -> list[bool]:
    """Which hypotheses Holm's step-down procedure rejects."""
    values = np.asarray(probabilities, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    rejected = [False] * len(order)
    for rank, index in enumerate(order):
        if not values[index] <= level / (len(order) - rank):
            break
        rejected[index] = True
    return rejected

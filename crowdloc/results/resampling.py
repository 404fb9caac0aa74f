"""Weighted sums of measured numbers, per seed and in every bootstrap replicate, as `metrics.statistics` takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.metrics import COLUMNS, SIGMAS, counting_errors, scores_from_matches
from crowdloc.metrics.pooling import pooled_errors, pooled_scores
from crowdloc.metrics.statistics import Estimate, Resampled, drawn_units, estimate, independent_units
from crowdloc.results.runs import Run

REPLICATES = 10_000
ERRORS = ("MAE", "MSE")
_KEPT = 600  # replicated runs in memory: 0.24 MB each


@dataclass(frozen=True, eq=False)
class Sample:
    """What one run offers to the bootstrap; equal if the content is equal, so that nothing is drawn twice."""

    scores: list[NDArray[np.float64]]
    flags: list[NDArray[np.bool_]]
    heads: NDArray[np.int64]
    counts: NDArray[np.float64] | None
    unit: NDArray[np.int64]  # of every image
    scenes: int  # names the images and their scenes: runs with the same number see the same draws
    content: bytes

    @classmethod
    def of(cls, run: Run) -> Sample:
        """The evidence of a run; a method that locates and counts is judged by its own counts, as in `metrics`."""
        located, counted = run.evidence, run.counts
        evidence = located if located is not None else counted
        if evidence is None:
            raise CrowdlocError(f"{run.experiment.id} has no evidence: evaluate it first")
        counts = None
        if counted is not None:
            counts = np.asarray(counted.counts, dtype=np.float64)
        elif located is not None and run.threshold is not None:
            counts = located.counts(run.threshold).astype(np.float64)
        names = list(zip(evidence.scenes, evidence.images, strict=True))
        scores, flags = (located.scores, located.flags) if located is not None else ([], [])
        parts = [evidence.heads, *scores, *flags, *([counts] if counts is not None else [])]
        content = _digest([repr(names).encode(), *map(_bytes, parts)])
        scenes = int.from_bytes(_digest([repr(sorted(names)).encode()])[:8], "little")
        return cls(scores, flags, evidence.heads, counts, independent_units(evidence.scenes), scenes, content)

    def __hash__(self) -> int:
        return hash(self.content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sample) and self.content == other.content

    @property
    def units(self) -> int:
        return int(self.unit.max(initial=-1)) + 1

    def has(self, sigma: int | None, metric: str) -> bool:
        """Whether the evidence decides this metric."""
        if metric in ERRORS:
            return self.counts is not None
        return metric in COLUMNS and sigma in SIGMAS and bool(self.scores)


class Term(NamedTuple):
    """A weighted number: one metric of a row's runs by seed."""

    weight: float
    runs: Mapping[int, Sample]
    sigma: int | None
    metric: str


def weighted(
    terms: Sequence[Term],
    *,
    constant: float = 0.0,
    by_seed: Sequence[tuple[float, Mapping[int, float]]] = (),
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Estimate | None:
    """The sum of `terms`, `constant` and weighted numbers `by_seed` that depend on no scenes, paired by seed.

    All runs of one seed belong together; only seeds that every part has are used, and None is returned without any.
    Runs on the same images see the same draws of scenes. `seed` is the bootstrap's.
    """
    common = sorted(set.intersection(*(set(t.runs) for t in terms), *(set(n) for _, n in by_seed)))
    if not common:
        return None
    plain = [constant + sum(weight * numbers[s] for weight, numbers in by_seed) for s in common]
    parts = [Resampled(np.array(plain), np.zeros((len(common), 0)), 0)]
    groups: dict[int, list[Term]] = {}
    for term in terms:
        groups.setdefault(term.runs[common[0]].scenes, []).append(term)
    for scenes, members in groups.items():
        if any(term.runs[s].scenes != scenes for term in members for s in common):
            raise CrowdlocError("seeds of one row were evaluated on different images: evaluate them again")
        values = [sum(t.weight * _value(t.runs[s], t.sigma, t.metric) for t in members) for s in common]
        drawn = [np.sum([t.weight * _column(t, s, seed, replicates) for t in members], axis=0) for s in common]
        parts.append(Resampled(np.array(values), np.stack(drawn), members[0].runs[common[0]].units))
    return estimate(parts)


def _column(term: Term, run_seed: int, seed: int, replicates: int) -> NDArray[np.float64]:
    names = ERRORS if term.metric in ERRORS else COLUMNS
    found = _replicated(term.runs[run_seed], None if names is ERRORS else term.sigma, seed, replicates)
    return found[:, names.index(term.metric)].astype(np.float64)


@lru_cache(maxsize=4 * _KEPT)
def _value(sample: Sample, sigma: int | None, metric: str) -> float:
    if metric in ERRORS:
        return counting_errors(_counted(sample), sample.heads)[metric]
    return _scores(sample, sigma)[metric]


@lru_cache(maxsize=_KEPT)
def _scores(sample: Sample, sigma: int | None) -> dict[str, float]:
    return scores_from_matches(sample.scores, _rows(sample, sigma), sample.heads.tolist())


@lru_cache(maxsize=_KEPT)
def _replicated(sample: Sample, sigma: int | None, seed: int, replicates: int) -> NDArray[np.float32]:
    """(R, 6) of one σ, or (R, 2) of counts."""
    times = _times(sample.units, replicates, seed, sample.scenes)
    if sigma is None:
        return pooled_errors(_counted(sample), sample.heads, sample.unit, times).astype(np.float32)
    found = pooled_scores(sample.scores, _rows(sample, sigma), sample.heads, sample.unit, times)
    return found.astype(np.float32)


@lru_cache(maxsize=16)
def _times(units: int, replicates: int, seed: int, scenes: int) -> NDArray[np.int64]:
    return drawn_units(units, replicates, (seed, scenes))


def _rows(sample: Sample, sigma: int | None) -> list[NDArray[np.bool_]]:
    row = SIGMAS.index(sigma) if sigma in SIGMAS else -1
    return [image[row] for image in sample.flags]


def _counted(sample: Sample) -> NDArray[np.float64]:
    if sample.counts is None:
        raise CrowdlocError("points without a counting threshold give no counts: train again")
    return sample.counts


def _bytes(array: NDArray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def _digest(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()

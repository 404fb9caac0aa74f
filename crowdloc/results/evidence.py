"""What is kept of an evaluation so that every metric can be computed again, and the metrics themselves.

Generated data: points and scores of the detections, the heads once per split. Real data must not be passed on, so only
scores and match flags are kept: AP and AR follow from them exactly. Methods that count without locating: the counts.
`formats` describes the files. Predictions are rounded to what the files can hold before anything is measured: what is
stored is what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import digest
from crowdloc.datasets.base import ClipDataset
from crowdloc.metrics import SIGMAS, counting_errors, match_images, scores_from_matches, sigma_scale
from crowdloc.models.method import Prediction
from crowdloc.results import formats
from crowdloc.results.experiments import Experiment
from crowdloc.results.formats import LEVELS, UNIT, Counted, Located, Matched, Truth, same_images

PREDICTIONS, MATCHES, COUNTS = "predictions.parquet", "matches.parquet", "counts.csv"
TRUTH = "truth"
_COUNTING_GRID = np.arange(5, 96) / 100


@dataclass(frozen=True)
class Evidence:
    """Matches of every image: scores falling (n,), flags (len(SIGMAS), len(THRESHOLDS), n), number of heads."""

    images: list[str]
    scenes: list[str]
    heads: NDArray[np.int64]
    scores: list[NDArray[np.float64]]
    flags: list[NDArray[np.bool_]]

    @cached_property
    def localization(self) -> dict[str, dict[str, float]]:
        """{"5": {"AP.50": …, …, "mAR": …}, "20": …, "40": …}."""
        return {
            str(sigma): scores_from_matches(self.scores, [image[row] for image in self.flags], self.heads.tolist())
            for row, sigma in enumerate(SIGMAS)
        }

    def counts(self, threshold: float) -> NDArray[np.int64]:
        """Detections per image with a score of at least `threshold`."""
        return np.array([(scores >= threshold).sum() for scores in self.scores])

    def metrics(self, counting_threshold: float) -> dict[str, Any]:
        """Everything that a table needs; F1 at σ 20 and similarity .5 among the detections that are counted.

        Ratios to the number of heads are NaN where there is no head.
        """
        counts = self.counts(counting_threshold)
        row, column = SIGMAS.index(20), 0
        hits = sum(
            int(flags[row, column, scores >= counting_threshold].sum())
            for scores, flags in zip(self.scores, self.flags, strict=True)
        )
        detected, heads = int(counts.sum()), int(self.heads.sum())
        return {
            "images": len(self.images),
            "heads": heads,
            "detections_per_head": sum(map(len, self.scores)) / (heads or float("nan")),
            "localization": self.localization,
            "counting_threshold": counting_threshold,
            "counting": counting_errors(counts, self.heads),
            "f1": {
                "precision": hits / detected if detected else 0.0,
                "recall": hits / (heads or float("nan")),
                "F1": 2 * hits / ((detected + heads) or float("nan")),
            },
        }

    def best_counting_threshold(self) -> float:
        """The score threshold with the smallest MAE (the highest such); to be asked of validation images only."""
        errors = [counting_errors(self.counts(t), self.heads)["MAE"] for t in _COUNTING_GRID]
        return float(_COUNTING_GRID[len(errors) - 1 - int(np.argmin(errors[::-1]))])


@dataclass(frozen=True)
class CountEvidence:
    """Counts (n,) that a method gives without locating, and the number of heads of every image."""

    images: list[str]
    scenes: list[str]
    heads: NDArray[np.int64]
    counts: NDArray[np.float64]

    def metrics(self) -> dict[str, Any]:
        """What tables of counts need."""
        return {
            "images": len(self.images),
            "heads": int(self.heads.sum()),
            "counting": counting_errors(self.counts, self.heads),
        }


def metrics(located: Evidence | None, counted: CountEvidence | None, threshold: float | None) -> dict[str, Any]:
    """Metrics of a result by what its method yields; where it gives both, its own counts are what is counted.

    Raises:
        CrowdlocError: there is no evidence, or points without a counting threshold.
    """
    if located is None and counted is None:
        raise CrowdlocError("there is no evidence: evaluate first")
    if located is None:
        return counted.metrics() if counted is not None else {}
    if threshold is None:
        raise CrowdlocError("the counting threshold is missing: train again, it is chosen on validation images")
    found = located.metrics(threshold)
    return found if counted is None else found | {"counting": counted.metrics()["counting"]}


def quantise(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Predictions as evidence can hold them: points to 1/64 px, scores to 1/65535 and in falling order; counts stay.

    Raises:
        CrowdlocError: a value is not finite, or a score lies outside [0, 1].
    """
    return [_quantised(prediction, index) for index, prediction in enumerate(predictions)]


def _quantised(prediction: Prediction, index: int) -> Prediction:
    points, scores, count = prediction.points, prediction.scores, prediction.count
    if count is not None and not np.isfinite(count):
        raise CrowdlocError(f"the count of image {index} is {count}: the network diverged, lower its learning rate")
    if points is None or scores is None:
        return prediction
    if not (np.isfinite(points).all() and np.abs(points).max(initial=0) < 2**31 / UNIT):
        raise CrowdlocError(f"points of image {index} are not finite: the network diverged, lower its learning rate")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise CrowdlocError(f"scores of image {index} lie outside [0, 1]: let the method's decode map them there")
    levels = np.round(scores * LEVELS)
    falling = np.argsort(-levels, kind="stable")
    return Prediction(np.round(points[falling] * UNIT) / UNIT, levels[falling] / LEVELS, count)


def measure(predictions: Sequence[Prediction], dataset: ClipDataset, *, scale: float) -> Evidence | CountEvidence:
    """Predictions of all frames of `dataset` against their heads: matches where there are points, else counts.

    Args:
        scale: as in `metrics.localization_scores`.
    """
    predictions = quantise(predictions)
    truth = _truth(dataset)
    if _locates(predictions):
        return _matched(truth, _located(truth.images, predictions), scale)
    return CountEvidence(*_counted(truth, predictions))


def measure_counts(predictions: Sequence[Prediction], dataset: ClipDataset) -> CountEvidence | None:
    """The counts that a method gives beside its points, or alone, against the heads of all frames; None without."""
    if any(p.count is None for p in predictions):
        return None
    return CountEvidence(*_counted(_truth(dataset), quantise(predictions)))


def _truth(dataset: ClipDataset) -> Truth:
    frames = dataset.frames
    return Truth([f.id for f in frames], [f.scene for f in frames], [f.points for f in frames])


def _locates(predictions: Sequence[Prediction]) -> bool:
    return all(p.points is not None for p in predictions)


def _located(images: list[str], predictions: Sequence[Prediction]) -> Located:
    pairs = [(p.points, p.scores) for p in predictions if p.points is not None and p.scores is not None]
    return Located(images, [points for points, _ in pairs], [scores for _, scores in pairs])


def _matched(truth: Truth, found: Located, scale: float) -> Evidence:
    pairs = list(zip(found.points, found.scores, strict=True))
    order, flags = match_images(pairs, truth.points, SIGMAS, scale=scale)
    scores = [s[by_score] for s, by_score in zip(found.scores, order, strict=True)]
    return Evidence(truth.images, truth.scenes, _heads(truth), scores, flags)


def _heads(truth: Truth) -> NDArray[np.int64]:
    return np.array([len(points) for points in truth.points], dtype=np.int64)


def _counted(truth: Truth, predictions: Sequence[Prediction]) -> Counted:
    counts = [p.count for p in predictions]
    if None in counts:
        raise CrowdlocError(f"image {counts.index(None)} has neither points nor a count: see the method's `yields`")
    return Counted(truth.images, truth.scenes, _heads(truth), np.array(counts, dtype=np.float64))


def write_evidence(
    folder: Path, experiment: Experiment, predictions: Sequence[Prediction], dataset: ClipDataset
) -> None:
    """Write what the predictions hold, points, counts or both, into a folder `…/<id>`; heads that may, to `…/truth`."""
    predictions = quantise(predictions)
    truth = _truth(dataset)
    for path in evidence_files(folder):
        path.unlink()
    if _locates(predictions):
        found = _located(truth.images, predictions)
        if experiment.source.generated:
            formats.write_truth(truth_file(folder), truth)
            formats.write_predictions(folder / PREDICTIONS, found)
        else:
            matched = _matched(truth, found, sigma_scale(experiment.group))
            content = Matched(matched.images, matched.scenes, matched.heads, matched.scores, matched.flags)
            formats.write_matches(folder / MATCHES, content)
    if not _locates(predictions) or any(p.count is not None for p in predictions):
        formats.write_counts(folder / COUNTS, _counted(truth, predictions))


def read_evidence(folder: Path, experiment: Experiment) -> tuple[Evidence | None, CountEvidence | None]:
    """The evidence in the folder `…/<id>` of a result: matches, counts, or both; what it does not hold is None.

    Raises:
        CrowdlocError: there is none, a file is damaged or holds impossible values, or files disagree about the images.
    """
    located = counted = None
    if (folder / PREDICTIONS).exists():
        found, truth = formats.read_predictions(folder / PREDICTIONS), formats.read_truth(truth_file(folder))
        same_images(folder / PREDICTIONS, found.images, truth.images)
        located = _matched(truth, found, sigma_scale(experiment.group))
    elif (folder / MATCHES).exists():
        located = Evidence(*formats.read_matches(folder / MATCHES))
    if (folder / COUNTS).exists():
        counted = CountEvidence(*formats.read_counts(folder / COUNTS))
    if located is None and counted is None:
        raise CrowdlocError(f"{folder} holds no evidence: restore it from version control, or evaluate")
    if located is not None and counted is not None:
        same_images(folder / COUNTS, counted.images, located.images)
        if counted.heads.tolist() != located.heads.tolist():
            raise CrowdlocError(f"{folder / COUNTS}: its heads are not those of the points: restore both")
    return located, counted


def evidence_files(folder: Path) -> list[Path]:
    """The files of the evidence of a result that exist, without the truth."""
    return [folder / name for name in (PREDICTIONS, MATCHES, COUNTS) if (folder / name).is_file()]


def truth_file(folder: Path) -> Path:
    """Where the heads are that the predictions in a result's folder `…/<group>/<method>/seed<n>` belong to."""
    return folder.parents[2] / TRUTH / f"{folder.parents[1].name}-test.parquet"


def evidence_digest(folder: Path) -> str:
    """Hash of a result's evidence, with the truth where it is needed."""
    files = evidence_files(folder)
    if any(path.name == PREDICTIONS for path in files):
        files.append(truth_file(folder))
    return digest(*files)


def stored_images(folder: Path, experiment: Experiment) -> list[str]:
    """Names of the images that the evidence of a result is about."""
    located, counted = read_evidence(folder, experiment)
    evidence = located or counted
    return evidence.images if evidence is not None else []

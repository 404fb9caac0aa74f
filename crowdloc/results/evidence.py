"""What is kept of an evaluation so that every metric can be computed again, and the metrics themselves.

Generated data: `predictions.parquet` holds points, scores and the heads. Real data must not be passed on, so
`matches.parquet` holds, per detection, the image, the rank, the score and one match flag per σ and threshold, and
`images.csv` the number of heads per image: AP and AR follow from the flags exactly.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write
from crowdloc.datasets.base import ClipDataset
from crowdloc.metrics import SIGMAS, THRESHOLDS, counting_errors, match_images, scores_from_matches
from crowdloc.models.decoding import Detections

PREDICTIONS, MATCHES, IMAGES = "predictions.parquet", "matches.parquet", "images.csv"
_FLAGS = [f"sigma{sigma}_t{round(100 * t)}" for sigma in SIGMAS for t in THRESHOLDS]
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
        """Everything that a table needs; F1 at σ 20 and similarity .5 among the detections that are counted."""
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
            "detections_per_head": sum(map(len, self.scores)) / heads,
            "localization": self.localization,
            "counting_threshold": counting_threshold,
            "counting": counting_errors(counts, self.heads),
            "f1": {
                "precision": hits / detected if detected else 0.0,
                "recall": hits / heads,
                "F1": 2 * hits / (detected + heads),
            },
        }

    def best_counting_threshold(self) -> float:
        """The score threshold with the smallest MAE (the highest such); to be asked of validation images only."""
        errors = [counting_errors(self.counts(t), self.heads)["MAE"] for t in _COUNTING_GRID]
        return float(_COUNTING_GRID[len(errors) - 1 - int(np.argmin(errors[::-1]))])


def match(detections: Sequence[Detections], dataset: ClipDataset, *, scale: float) -> Evidence:
    """Match detections with the heads of their images; `scale` as in `metrics.localization_scores`."""
    frames = dataset.frames
    order, flags = match_images(list(detections), [frame.points for frame in frames], SIGMAS, scale=scale)
    return Evidence(
        images=[frame.id for frame in frames],
        scenes=[frame.scene for frame in frames],
        heads=np.array([len(frame.points) for frame in frames]),
        scores=[d.scores[by_score] for d, by_score in zip(detections, order, strict=True)],
        flags=flags,
    )


def _save(path: Path, columns: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic_write(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd", compression_level=19)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except Exception as error:
        raise CrowdlocError(
            f"{path} cannot be read ({type(error).__name__}): restore it from version control"
        ) from error
    return {name: table[name].to_numpy() for name in table.column_names}


def write_predictions(folder: Path, detections: Sequence[Detections], dataset: ClipDataset) -> None:
    """Evidence for generated data: one row per detection and per head (score NaN), coordinates to 1/64 pixel."""
    rows: list[tuple[str, str, NDArray[np.float64], NDArray[np.float64]]] = []
    for frame, (points, scores) in zip(dataset.frames, detections, strict=True):
        rows.append((frame.id, frame.scene, np.round(points * 64) / 64, scores))
        rows.append((frame.id, frame.scene, frame.points, np.full(len(frame.points), np.nan)))
    xy = np.concatenate([points for _, _, points, _ in rows]).astype(np.float32)
    sizes = [len(points) for _, _, points, _ in rows]
    columns = {
        "image": np.repeat([image for image, *_ in rows], sizes),
        "x": xy[:, 0],
        "y": xy[:, 1],
        "score": np.concatenate([scores for *_, scores in rows]).astype(np.float32),
    }
    _save(folder / PREDICTIONS, columns)
    _write_images(folder, [(f.id, f.scene, len(f.points)) for f in dataset.frames])


def read_predictions(folder: Path) -> dict[str, tuple[Detections, NDArray[np.float64]]]:
    """Per image its detections and its heads (m, 2)."""
    columns = _load(folder / PREDICTIONS)
    points = np.stack([columns["x"], columns["y"]], axis=1).astype(np.float64)
    scores = columns["score"].astype(np.float64)
    names, first = np.unique(columns["image"].astype(str), return_index=True)
    parts = dict(zip(names[np.argsort(first)], np.split(np.arange(len(points)), np.sort(first)[1:]), strict=True))
    result = {}
    for image, _, _ in _read_images(folder):
        rows = parts.get(image, np.zeros(0, dtype=np.int64))
        head = np.isnan(scores[rows])
        result[image] = Detections(points[rows[~head]], scores[rows[~head]]), points[rows[head]]
    return result


def write_matches(folder: Path, evidence: Evidence) -> None:
    """Evidence for real data: no coordinates, only ranks, scores and match flags."""
    sizes = [len(scores) for scores in evidence.scores]
    flags = np.concatenate([f.reshape(len(_FLAGS), -1) for f in evidence.flags], axis=1)
    columns: dict[str, Any] = {
        "image": np.repeat(evidence.images, sizes),
        "rank": np.concatenate([np.arange(n, dtype=np.int32) for n in sizes]),
        "score": np.concatenate(evidence.scores),
    }
    _save(folder / MATCHES, columns | dict(zip(_FLAGS, flags, strict=True)))
    _write_images(folder, list(zip(evidence.images, evidence.scenes, evidence.heads.tolist(), strict=True)))


def read_evidence(folder: Path, *, scale: float) -> Evidence:
    """The evidence stored in a result's folder, whichever of the two kinds it is."""
    images = _read_images(folder)
    names, scenes = [image for image, _, _ in images], [scene for _, scene, _ in images]
    heads = np.array([number for _, _, number in images])
    if (folder / PREDICTIONS).exists():
        found = read_predictions(folder)
        order, flags = match_images([found[n][0] for n in names], [found[n][1] for n in names], SIGMAS, scale=scale)
        if [len(found[n][1]) for n in names] != heads.tolist():
            raise CrowdlocError(f"{folder / PREDICTIONS} and {IMAGES} disagree about the heads: restore both")
        scores = [found[n][0].scores[by_score] for n, by_score in zip(names, order, strict=True)]
        return Evidence(names, scenes, heads, scores, flags)
    columns = _load(folder / MATCHES)
    rows = {name: np.flatnonzero(columns["image"].astype(str) == name) for name in names}
    all_flags = np.stack([columns[name] for name in _FLAGS]).reshape(len(SIGMAS), len(THRESHOLDS), -1)
    return Evidence(
        names,
        scenes,
        heads,
        [columns["score"][rows[n]] for n in names],
        [all_flags[..., rows[n]] for n in names],
    )


def _write_images(folder: Path, rows: Sequence[tuple[str, str, int]]) -> None:
    with atomic_write(folder / IMAGES) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "scene", "heads"])
        writer.writerows(rows)


def _read_images(folder: Path) -> list[tuple[str, str, int]]:
    path = folder / IMAGES
    try:
        with open(path, newline="") as file:
            return [(row["image"], row["scene"], int(row["heads"])) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise CrowdlocError(f"{path} cannot be read ({error}): restore it from version control") from error

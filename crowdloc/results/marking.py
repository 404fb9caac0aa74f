"""Frames of generated data with what a method found on them, for pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.inference.windows import predict
from crowdloc.metrics import matched_heads, sigma_scale
from crowdloc.results import runs
from crowdloc.results.runs import Run
from crowdloc.results.tables import shown_name

SIGMA, SIMILARITY = 20, 0.5  # what makes a detection a hit in pictures


class Example(NamedTuple):
    """A frame (h, w, 3) with heads (m, 2) and counted detections (n, 2), in its pixels."""

    title: str
    image: NDArray[np.uint8]
    heads: NDArray[np.float64]
    points: NDArray[np.float64]
    hit: NDArray[np.bool_]  # (n,) the detection is matched with a head; the others are false
    missed: NDArray[np.bool_]  # (m,) no detection is matched with the head


def examples(group: Sequence[Run], *, count: int = 4, indices: Sequence[int] | None = None) -> list[Example]:
    """Validation frames with the detections that are counted, by the first run that keeps its weights.

    A detection is a hit if it is matched with a head at σ 20 and similarity .5, as for AP.

    Args:
        count: so many frames, evenly spaced.
        indices: these frames instead.

    Raises:
        CrowdlocError: frames of a real data set, which are not to be shown; or no run keeps its weights.
    """
    run, validation = _with_weights(group), validation_frames(group)
    experiment, threshold = run.experiment, run.threshold
    if threshold is None:
        raise CrowdlocError(f"{experiment.id} counts without locating: there are no points to show")
    spread = range(0, len(validation), max(1, len(validation) // count))[:count]
    some = validation.subset(spread if indices is None else indices)
    found = []
    model = runs.load_model(experiment, run.folder / runs.WEIGHTS)
    for index, (frame, prediction) in enumerate(zip(some.frames, predict(model, some, progress=False), strict=True)):
        assert prediction.points is not None and prediction.scores is not None
        counted = prediction.scores >= threshold
        example = mark(some.image(index), frame.points, prediction.points[counted], prediction.scores[counted],
                       scale=sigma_scale(experiment.group))  # fmt: skip
        found.append(example._replace(title=f"{frame.scene}: {example.title}"))
    return found


def validation_frames(group: Sequence[Run]) -> ClipDataset:
    """The validation frames of a group's generated data.

    Raises:
        CrowdlocError: as in `examples`.
    """
    experiment = _with_weights(group).experiment
    if not experiment.source.generated:
        raise CrowdlocError(f"{experiment.data} is a real data set: its frames are not to be shown in stored pictures")
    return experiment.load("val")


def _with_weights(group: Sequence[Run]) -> Run:
    """The first run that keeps its weights."""
    kept = next((run for run in group if run.has_weights), None)
    if kept is None:
        raise CrowdlocError("no run of this method keeps its weights: choose another method, or source 'train'")
    return kept


def examples_by_method(table: Mapping[str, Sequence[Run]], *, count: int = 1) -> list[Example]:
    """`examples` of every method that keeps the weights of a run, the same frames for each, titled with its name."""
    return [
        example._replace(title=f"{shown_name(name)}, {example.title}")
        for name, group in table.items()
        if any(run.has_weights for run in group)
        for example in examples(group, count=count)
    ]


def mark(
    image: NDArray[np.uint8],
    heads: NDArray[np.float64],
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    *,
    scale: float = 1.0,
) -> Example:
    """An example with every detection and head marked; `scale` as in `metrics.localization_scores`."""
    detection = matched_heads(points, scores, heads, SIGMA, SIMILARITY, scale=scale)
    hit = np.zeros(len(points), dtype=bool)
    hit[detection[detection >= 0]] = True
    missed = detection < 0
    title = f"{hit.sum()} hit, {missed.sum()} missed, {(~hit).sum()} false"
    return Example(title, image, heads, points, hit, missed)

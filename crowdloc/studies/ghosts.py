"""Ghosts: false detections where a head was a frame ago, by methods that see more frames than one.

A sum of the features of two frames (STANet) is the same whichever came first, so what follows cannot know which of a
walker's two places is the present one. The places of the next frame, which a method that looks back never saw, are the
control: as many detections lie there by accident.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.metrics import sigma_scale
from crowdloc.results.marking import Example, examples, validation_frames
from crowdloc.results.runs import Run
from crowdloc.results.seeds import spread
from crowdloc.results.tables import shown_name
from crowdloc.studies.predictions import Shown, nearest, reach, tested

Points = NDArray[np.float64]


class Ghosts(NamedTuple):
    """How many false detections there are, and how many lie where a head is in the last and in the next frame."""

    false: int
    before: int
    after: int


def ghosts_table(table: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """False detections in the test frames of generated video, by method; mean ± deviation over seeds.

    `before` and `after` are the shares (%) of them that lie where a head is in the last and in the next frame. Frames
    without both are left out. Methods without located points or without runs have no row.
    """
    rows = []
    for name, group in table.items():
        if not group or group[0].evidence is None:
            continue
        frames = [_inner(run) for run in group]
        counted = [
            Ghosts(*np.sum([ghosts(f.points[f.false], *heads, far) for f, heads, far in seen], axis=0))
            for seen in frames
        ]
        row = {"method": shown_name(name), "seeds": str(len(group))}
        row["false per frame"] = spread([c.false / len(seen) for c, seen in zip(counted, frames, strict=True)], 1)
        for side in ("before", "after"):
            row[f"{side} (%)"] = spread([100 * getattr(c, side) / max(1, c.false) for c in counted], 0)
        rows.append(row)
    return pd.DataFrame(rows)


def ghosts(false: Points, before: Points, now: Points, after: Points, far: float) -> Ghosts:
    """Count the false detections (n, 2) that lie no farther than `far` from heads before or after, and from none now.

    Heads (m, 2) of the last, the present and the next frame; all in pixels.
    """
    gone = nearest(false, now) > far
    return Ghosts(len(false), *(int((gone & (nearest(false, heads) <= far)).sum()) for heads in (before, after)))


class Moved(NamedTuple):
    """A keyframe with what a method counts there, the frame before it (h, w, 3), and its heads (n, 2), in pixels."""

    now: Example
    before: NDArray[np.uint8]
    heads: Points


def farthest(group: Sequence[Run]) -> Moved:
    """The validation frame whose people have moved farthest (median), as the first run with weights sees it.

    Raises:
        CrowdlocError: no run keeps weights, or frames of a real data set, which are not to be shown.
    """
    dataset = validation_frames(group)
    index = int(np.argmax([_step(dataset, index) for index in range(len(dataset))]))
    (now,) = examples(group, indices=[index])
    before = dataset.neighbours(index, (-1,))[0]
    return Moved(now, dataset.image(before), dataset.frame(before).points)


def _step(dataset: ClipDataset, index: int) -> float:
    """Median distance that people of a frame have come since the one before; 0 without one."""
    before, now = (dataset.frame(place) for place in dataset.neighbours(index, (-1, 0)))
    if before.track_ids is None or now.track_ids is None:
        raise CrowdlocError(f"{dataset.name} has no track ids: how people move is not known there")
    _, there, here = np.intersect1d(before.track_ids, now.track_ids, return_indices=True)
    return float(np.median(np.linalg.norm(now.points[here] - before.points[there], axis=1))) if len(here) else 0.0


def _inner(run: Run) -> list[tuple[Shown, tuple[Points, Points, Points], float]]:
    """The judged test frames of a run that have frames on both sides, the heads of all three, and a match's reach."""
    dataset = run.experiment.load("test")
    far = reach(sigma_scale(run.experiment.group))
    found = []
    for index, frame in enumerate(tested(run)):
        places = dataset.neighbours(index, (-1, 0, 1))
        if len(set(places)) == len(places):
            before, now, after = (dataset.frame(place).points for place in places)
            found.append((frame, (before, now, after), far))
    return found

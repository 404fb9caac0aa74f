"""What a network finds on generated frames, where it errs, and what lies there instead of a head (Figure 3).

A detection is counted from the network's counting threshold on, and a hit if it is matched with a head at σ = 20 and
similarity .5. Near means no farther than such a match allows. Pictures are of validation frames; of test frames only
numbers are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.datasets.synthcrowd import DOMAINS, PRESETS, build_scene
from crowdloc.datasets.synthcrowd.annotate import scene_annotations
from crowdloc.datasets.synthcrowd.geometry import UNIT, heads, inside
from crowdloc.datasets.synthcrowd.scene import LOOKALIKE, Scene, positions
from crowdloc.inference.windows import predict
from crowdloc.metrics import matched_heads, sigma_scale
from crowdloc.models import Method
from crowdloc.results import evidence as ev
from crowdloc.results import formats, runs
from crowdloc.results.experiments import Experiment
from crowdloc.results.marking import SIGMA, SIMILARITY
from crowdloc.results.runs import Run
from crowdloc.studies.headsize import diameters, full_label

Floats = NDArray[np.float64]
FALSE_CAUSES = ("look-alike", "object", "person not annotated", "head found twice", "nothing")
MISS_CAUSES = ("score too low", "not seen")


class Others(NamedTuple):
    """Head centres (k, 2) in mini pixels of all that is not annotated, also outside the image.

    Look-alikes (figures that never move), tops of lamps, bollards and other objects, and people whose heads are hidden
    or have their centre outside the image.
    """

    lookalikes: Floats
    objects: Floats
    people: Floats


@cache
def _scene(domain: str, split: str, index: int) -> Scene:
    return build_scene(domain, split, index)


def others(domain: str, split: str, index: int, number: int) -> Others:
    """What else has a head or a head-like top in frame `number` of a scene."""
    scene = _scene(domain, split, index)
    figures = scene.figures
    x, y, z, _, _ = positions(figures, number, scene.reach, scene.near, scene.far)
    centre = heads(scene.camera, x, y, z)
    person = np.arange(len(figures)) < scene.people
    annotated = np.zeros(len(figures), dtype=bool)
    annotated[scene_annotations(scene, number).track_ids] = True
    kinds = (figures.kind == LOOKALIKE, ~person & (figures.kind != LOOKALIKE), person & ~annotated)
    return Others(*(centre[kind] / UNIT for kind in kinds))


@dataclass(frozen=True, eq=False)
class Shown:
    """A frame (h, w, 3), number `index` of its split, and everything about it, in its pixels.

    `heads` (m, 2) with `diameter` (m,); `points` (n, 2) with `scores` (n,), the counted detections; `match` (m,) is the
    counted detection of every head, or -1; `cause` (n,) what a detection lies on, "" for a hit; `why` (m,) what became
    of a head, "" if it was found.
    """

    title: str
    index: int
    image: NDArray[np.uint8]
    heads: Floats
    diameter: Floats
    points: Floats
    scores: Floats
    match: NDArray[np.int64]
    cause: NDArray[np.str_]
    why: NDArray[np.str_]

    @property
    def missed(self) -> NDArray[np.bool_]:
        return self.match < 0

    @property
    def false(self) -> NDArray[np.bool_]:
        return self.cause != ""

    @property
    def f1(self) -> float:
        hits = (~self.missed).sum()
        return float(2 * hits / max(1, len(self.heads) + len(self.points)))


def causes(points: Floats, scores: Floats, frame: Frame, where: Others, threshold: float, scale: float) -> Shown:
    """Judge the detections (all of them) of one frame; the image is left empty."""
    counted = scores >= threshold
    match = matched_heads(points[counted], scores[counted], frame.points, SIGMA, SIMILARITY, scale=scale)
    hit = np.zeros(int(counted.sum()), dtype=bool)
    hit[match[match >= 0]] = True
    distance = np.stack([nearest(points[counted], some) for some in (*where, frame.points)], axis=1)
    kind = np.where(distance.min(axis=1) <= reach(scale), distance.argmin(axis=1), len(FALSE_CAUSES) - 1)
    cause = np.where(hit, "", np.array(FALSE_CAUSES)[kind])
    # A missed head was seen if a detection that is not counted lies near and is not nearer to another head.
    low = matched_heads(points, scores, frame.points, SIGMA, SIMILARITY, scale=scale)
    why = np.where(match >= 0, "", np.where(low >= 0, *MISS_CAUSES))
    assert frame.boxes is not None
    size = diameters(frame.points, frame.boxes)
    picture = np.zeros((0, 0, 3), np.uint8)
    return Shown("", -1, picture, frame.points, size, points[counted], scores[counted], match, cause, why)


def reach(scale: float) -> float:
    """How far a detection may lie from the head that it is matched with, in pixels of the frame."""
    return float(SIGMA * np.sqrt(-2 * np.log(SIMILARITY)) / scale)


def nearest(points: Floats, targets: Floats) -> Floats:
    """Distance (n,) of every point to the nearest target, infinite without any."""
    if not len(targets):
        return np.full(len(points), np.inf)
    return np.asarray(cKDTree(targets).query(points)[0], dtype=np.float64)


def tested(run: Run) -> Iterator[Shown]:
    """The test frames of a run on generated data, judged; without images."""
    experiment = run.experiment
    folder = runs.stored(experiment) if run.source == "stored" else runs.evaluated(experiment, run.source)
    if run.threshold is None or not (folder / ev.PREDICTIONS).is_file():
        raise CrowdlocError(f"{experiment.id} keeps no points: name a localizer on generated data")
    found = formats.read_predictions(folder / ev.PREDICTIONS)
    dataset = experiment.load("test")
    if found.images != [frame.id for frame in dataset.frames]:
        raise CrowdlocError(f"{folder / ev.PREDICTIONS} is about other images than are generated: evaluate again")
    for index, (points, scores) in enumerate(zip(found.points, found.scores, strict=True)):
        where = others(*_address(experiment.data, "test", index))
        yield causes(points, scores, dataset.frames[index], where, run.threshold, sigma_scale(experiment.group))


def _address(data: str, split: str, index: int) -> tuple[str, str, int, int]:
    """Domain, split, scene and frame number of an image of a whole split."""
    domain = data.removeprefix("synthcrowd-")
    scene, number = divmod(index, DOMAINS[domain].frames[split])
    return domain, split, scene, number


def false_table(table: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """False detections in the test frames by cause, mean over seeds; one row per method with runs."""
    rows = {}
    for name, group in table.items():
        if not group:
            continue
        cause = np.concatenate([frame.cause for run in group for frame in tested(run)])
        counts = {kind: (cause == kind).sum() / len(group) for kind in FALSE_CAUSES}
        shown = lookalikes(group[0].experiment)
        rows[full_label(name)] = {"seeds": len(group), "false": sum(counts.values()), **counts}
        rows[full_label(name)]["of all look-alikes (%)"] = 100 * counts["look-alike"] / shown
    return pd.DataFrame.from_dict(rows, orient="index")


def lookalikes(experiment: Experiment) -> int:
    """How many look-alikes have their heads inside the test frames, whether something hides them or not."""
    every = (others(*_address(experiment.data, "test", index)) for index in range(len(experiment.load("test"))))
    return sum(int(inside(np.rint(where.lookalikes * UNIT)).sum()) for where in every)


def heads_table(group: Sequence[Run]) -> pd.DataFrame:
    """Heads of the test frames, all seeds of one method, by what became of them.

    Columns: share of all heads; median diameter in pixels; "crowded", the share with another head's centre within one
    diameter; "at the edge", the share whose centre is within half a diameter of the frame's edge.
    """
    every = [frame for run in group for frame in tested(run)]
    why, size = (np.concatenate([getattr(frame, part) for frame in every]) for part in ("why", "diameter"))
    gap = np.concatenate([_neighbour(frame.heads) for frame in every])
    height, width = PRESETS[group[0].experiment.preset]
    far = np.concatenate([np.minimum(f.heads, (width - 1, height - 1) - f.heads).min(axis=1) for f in every])
    rows = {}
    for kind in ("", *MISS_CAUSES):
        chosen = why == kind
        if not chosen.any():
            rows[kind or "found"] = {"share": 0.0}
            continue
        rows[kind or "found"] = {
            "share": chosen.mean(),
            "diameter (px)": np.median(size[chosen]),
            "crowded": (gap[chosen] < size[chosen]).mean(),
            "at the edge": (far[chosen] < size[chosen] / 2).mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _neighbour(points: Floats) -> Floats:
    """Distance (n,) of every point to the nearest other one."""
    if len(points) < 2:
        return np.full(len(points), np.inf)
    return np.asarray(cKDTree(points).query(points, k=2)[0][:, 1], dtype=np.float64)


def look(id: str, data: str, *, frames: int, source: str = "stored") -> list[Shown]:
    """Validation frames of a generated set, evenly spaced, as a trained network sees them.

    The network need not have been trained on this set; its counting threshold stays that of its own validation data.
    """
    experiment = Experiment.parse(id)
    model, threshold = _network(experiment, source)
    other = Experiment(data, experiment.preset, experiment.method, experiment.seed)
    if not other.source.generated:
        raise CrowdlocError(f"{data} is a real data set: its frames are not to be shown in stored pictures")
    whole = other.load("val")
    chosen = _spread(whole, frames)
    some = whole.subset(chosen)
    found = []
    for place, (index, prediction) in enumerate(zip(chosen, predict(model, some, progress=False), strict=True)):
        assert prediction.points is not None and prediction.scores is not None
        frame = some.frames[place]
        shown = causes(prediction.points, prediction.scores, frame, others(*_address(data, "val", index)), threshold,
                       sigma_scale(other.group))  # fmt: skip
        title = f"{frame.id}: {len(shown.heads)} heads, {shown.missed.sum()} missed, {shown.false.sum()} false"
        found.append(replace(shown, title=title, index=index, image=some.image(place)))
    return found


def _network(experiment: Experiment, source: str) -> tuple[Method, float]:
    """The network and its counting threshold; with source "train" the ones trained here."""
    run = runs.read(experiment, "train" if source == "train" else "stored")
    if run is None or run.threshold is None:
        raise CrowdlocError(f"{experiment.id} is not stored with a counting threshold: name a stored localizer")
    model = runs.load_model(experiment, run.folder / runs.WEIGHTS)
    return model.to(memory_format=torch.channels_last), run.threshold  # faster on a CPU


def _spread(dataset: ClipDataset, number: int) -> list[int]:
    """Indices of that many frames, evenly spaced, each from the middle of its share."""
    return [len(dataset) * (2 * k + 1) // (2 * number) for k in range(number)]


def typical(frames: Sequence[Shown]) -> Shown:
    """The frame whose F1 is the median (the lower one of two): neither the best nor the worst."""
    return sorted(frames, key=lambda frame: frame.f1)[(len(frames) - 1) // 2]


def domain_table(frames: Mapping[str, Sequence[Shown]]) -> pd.DataFrame:
    """Recall, precision and F1 of the counted detections over the frames of each domain, and the heads' diameter."""
    rows = {}
    for name, some in frames.items():
        hits = sum(int((~frame.missed).sum()) for frame in some)
        truth, counted = sum(len(frame.heads) for frame in some), sum(len(frame.points) for frame in some)
        rows[name] = {
            "frames": len(some),
            "heads": truth,
            "diameter (px)": float(np.nanmedian(np.concatenate([frame.diameter for frame in some]))),
            "recall": hits / truth,
            "precision": hits / counted if counted else 0.0,
            "F1": 2 * hits / (truth + counted),
            "count error per frame": float(np.mean([len(frame.points) - len(frame.heads) for frame in some])),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


class Failure(NamedTuple):
    """A place (x, y) of a frame where the network errs."""

    title: str
    frame: Shown
    at: tuple[float, float]


def worst(frames: Sequence[Shown], each: int = 2) -> list[Failure]:
    """By cause the failures that a look should explain: the surest false detections, the largest missed heads."""
    found: list[Failure] = []
    for title, part, weight, place in (("false", "cause", "scores", "points"), ("missed", "why", "diameter", "heads")):
        for kind in FALSE_CAUSES if part == "cause" else MISS_CAUSES:
            chosen = [(frame, k) for frame in frames for k in np.flatnonzero(getattr(frame, part) == kind)]
            chosen.sort(key=lambda entry: -getattr(entry[0], weight)[entry[1]])
            for frame, k in chosen[:each]:
                x, y = getattr(frame, place)[k]
                found.append(Failure(f"{title}: {kind}", frame, (float(x), float(y))))
    return found

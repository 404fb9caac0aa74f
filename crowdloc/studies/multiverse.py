"""What a protocol of evaluation leaves open, varied one choice at a time on the same stored detections.

A paper on localization prints AP and AR and leaves unsaid which weak detections were kept, how many per image, what
happens at the border, in which pixels σ is counted. `measure` scores every run under every such choice, changed alone,
and under the other metrics of the field; `combine` under combinations of choices. `orders` says who is ahead in which.

Peaks other than 3×3 are asked of the stored peaks: a peak of a wider window is a peak of 3×3 that no higher value in
the window beats. Only higher *peaks* are known here, not the slopes between, so that slightly too many remain. Without
the maps nothing can be said of other smoothing, of scores below the stored floor, or of plateaus.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.synthcrowd import PRESETS
from crowdloc.metrics import (
    SIGMAS,
    counting_errors,
    distance_ap,
    grid_errors,
    localization_scores,
    match_images,
    normalized_ap,
    nwpu_radii,
    radius_scores,
    scores_from_matches,
    sigma_scale,
)
from crowdloc.models.decoding import SCORE_FLOOR
from crowdloc.results import evidence as ev
from crowdloc.results import formats, runs
from crowdloc.results.experiments import Experiment
from crowdloc.results.runs import Run
from crowdloc.studies.headsize import diameters

Floats = NDArray[np.float64]
REFERENCE = ("reference", "σ 20, score ≥ .05, all")
COLUMNS = ["choice", "value", "metric", "method", "seed", "score"]
_RADIUS = 20 * math.sqrt(2 * math.log(2))  # of σ 20 and similarity .5


@dataclass(frozen=True)
class Located:
    """Detections and heads of all test images of one run.

    Attributes:
        points, scores, truth: per image (n, 2), falling (n,), (m, 2), in pixels of the frame.
        size: (height, width) of the frames.
        scale: from their pixels to those of σ.
        threshold: the score from which a detection is counted, chosen on validation images.
    """

    points: list[Floats]
    scores: list[Floats]
    truth: list[Floats]
    size: tuple[int, int]
    scale: float
    threshold: float

    @property
    def pairs(self) -> list[tuple[Floats, Floats]]:
        return list(zip(self.points, self.scores, strict=True))


def located(run: Run) -> Located:
    """The stored detections of a run on generated data.

    Raises:
        CrowdlocError: it keeps none.
    """
    experiment = run.experiment
    folder = runs.stored(experiment) if run.source == "stored" else runs.evaluated(experiment, run.source)
    if run.threshold is None or not (folder / ev.PREDICTIONS).is_file():
        raise CrowdlocError(f"{experiment.id} keeps no points: name a localizer on generated data")
    found, truth = formats.read_predictions(folder / ev.PREDICTIONS), formats.read_truth(ev.truth_file(folder))
    formats.same_images(folder / ev.PREDICTIONS, found.images, truth.images)
    scale = sigma_scale(experiment.group)
    return Located(found.points, found.scores, truth.points, PRESETS[experiment.preset], scale, run.threshold)


def above(some: Located, floor: float) -> Located:
    """Detections with a score of at least `floor`."""
    return _kept(some, [scores >= floor for scores in some.scores])


def at_most(some: Located, number: int) -> Located:
    """The `number` surest detections of every image; of equal ones the first."""
    return _kept(some, [np.arange(len(scores)) < number for scores in some.scores])


def away_from_border(some: Located, pixels: float) -> Located:
    """Without the detections and the heads that are nearer to the border than so many pixels of the frame."""
    height, width = some.size
    last = np.array([width - 1, height - 1])

    def inside(places: Floats) -> NDArray[np.bool_]:
        return np.all((places >= pixels) & (places <= last - pixels), axis=1)

    cut = _kept(some, [inside(points) for points in some.points])
    return replace(cut, truth=[heads[inside(heads)] for heads in some.truth])


def padded_with_zeros(some: Located) -> Located:
    """Scores as if the 3×3 mean took zeros outside of the frame, as `avg_pool2d` does: 6/9 or 4/9 at the border."""
    last = np.array(some.size[::-1]) - 1
    scores = []
    for points, values in some.pairs:
        pixel = np.rint(points)
        scores.append(values * (2 / 3) ** ((pixel == 0) | (pixel == last)).sum(axis=1))
    order = [np.argsort(-values, kind="stable") for values in scores]
    sorted_ = replace(
        some,
        points=[points[by] for points, by in zip(some.points, order, strict=True)],
        scores=[values[by] for values, by in zip(scores, order, strict=True)],
    )
    return above(sorted_, SCORE_FLOOR)


def peaks_of_window(some: Located, side: int) -> Located:
    """Detections that no surer one beats within a window of `side` × `side` pixels (odd) around their pixel."""
    keep = []
    for points, scores in some.pairs:
        pixel = np.rint(points)
        near = (np.abs(pixel[:, None] - pixel[None]) <= side // 2).all(axis=2)  # (n, n)
        keep.append(~(near & (scores[None] > scores[:, None])).any(axis=1))
    return _kept(some, keep)


def moved(some: Located, pixels: float) -> Located:
    """Detections moved right and down by so many pixels of the frame: 1-based ones among 0-based heads."""
    return replace(some, points=[points + pixels for points in some.points])


def floored(some: Located) -> Located:
    """Detections at whole pixels of the frame, rounded down."""
    return replace(some, points=[np.floor(points) for points in some.points])


def _kept(some: Located, which: Sequence[NDArray[np.bool_]]) -> Located:
    points = [points[keep] for points, keep in zip(some.points, which, strict=True)]
    return replace(some, points=points, scores=[s[keep] for s, keep in zip(some.scores, which, strict=True)])


def average_precision(some: Located, sigma: float = 20) -> dict[str, float]:
    """mAP and mAR of the paper at one σ."""
    row = localization_scores(some.pairs, some.truth, (sigma,), scale=some.scale).loc[sigma]
    return {"mAP": float(row["mAP"]), "mAR": float(row["mAR"])}


def ranked(some: Located) -> dict[tuple[str, str], dict[str, float]]:
    """mAP and mAR by (choice, value): the reference, then every choice changed alone."""
    own = 1 / some.scale  # one pixel of σ in pixels of the frame
    changed = {
        REFERENCE: some,
        ("score floor", "0.2"): above(some, 0.2),
        ("score floor", "0.5"): above(some, 0.5),
        ("score floor", "counting threshold"): above(some, some.threshold),
        ("detections per image", "100 (COCO boxes)"): at_most(some, 100),
        ("detections per image", "50"): at_most(some, 50),
        ("detections per image", "20 (COCO key points)"): at_most(some, 20),
        ("peak", "largest in 7×7"): peaks_of_window(some, 7),
        ("peak", "largest in 11×11"): peaks_of_window(some, 11),
        ("border", "zeros in the 3×3 mean"): padded_with_zeros(some),
        ("border", "30 px left out"): away_from_border(some, 30 * own),
        ("coordinates", "1-based: +1 px"): moved(some, own),
        ("coordinates", "1-based in the frame: +3.75 px"): moved(some, 1.0),
        ("coordinates", "rounded down in the frame"): floored(some),
    }
    scores = {key: average_precision(version) for key, version in changed.items()}
    scores["σ", "5"] = average_precision(some, 5)
    scores["σ", "40"] = average_precision(some, 40)
    for sigma in (5, 20):
        scores["σ", f"{sigma}, in pixels of the frame"] = average_precision(replace(some, scale=1.0), sigma)
    return scores


def of_the_field(some: Located, sizes: Sequence[Floats]) -> dict[tuple[str, str], dict[str, float]]:
    """The other metrics by (family, variant): precision, recall and F1 of counted detections, nAP, L-mAP, GAME, counts.

    Args:
        sizes: per image the diameters (m,) of the heads in pixels of the frame.
    """
    counted = above(some, some.threshold)
    points, truth, scale = counted.points, counted.truth, some.scale
    small, large = ([radii[k] for radii in map(_box_radii, truth, sizes)] for k in (0, 1))
    found: dict[tuple[str, str], dict[str, float]] = {
        ("greedy matching", "23.5 px"): radius_scores(
            points, truth, _RADIUS, scores=counted.scores, matching="greedy", scale=scale
        ),
        ("optimal matching", "23.5 px"): radius_scores(points, truth, _RADIUS, scale=scale),
        ("optimal matching", "8 px"): radius_scores(points, truth, 8, scale=scale),
        ("optimal matching", "4 px"): radius_scores(points, truth, 4, scale=scale),
        ("NWPU, σ per head", "large"): radius_scores(points, truth, large),
        ("NWPU, σ per head", "small"): radius_scores(points, truth, small),
        ("P2PNet", "ten δ"): {"nAP": normalized_ap(some.pairs, truth)["nAP"]},
        ("DroneCrowd", "1-25 px"): {"L-mAP": distance_ap(some.pairs, truth, scale=scale)["L-mAP"]},
    }
    counts = counting_errors([len(p) for p in points], [len(t) for t in truth])
    found["counts", "per image"] = counts
    for level, error in grid_errors(points, truth, some.size, (1, 2, 3)).items():
        found["grid", f"{4**level} regions"] = {f"GAME({level})": error}
    return found


def _box_radii(truth: Floats, diameter: Floats) -> tuple[Floats, Floats]:
    half = diameter[:, None] / 2
    return nwpu_radii(np.concatenate([truth - half, truth + half], axis=1))


@cache
def head_sizes(data: str, preset: str) -> tuple[list[str], list[Floats]]:
    """Names and head diameters (m,) of generated test images; a head that is cut off gets the median of its image."""
    names, sizes = [], []
    for frame in Experiment(data, preset, "gnanet", 0).load("test").frames:
        known = diameters(frame.points, frame.boxes) if frame.boxes is not None else np.full(len(frame.points), np.nan)
        middle = np.nanmedian(known) if np.isfinite(known).any() else 0.0
        names.append(frame.id)
        sizes.append(np.where(np.isfinite(known), known, middle))
    return names, sizes


def measure(table: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Scores of every run under every protocol, tidy: choice, value, metric, method, seed, score.

    Raises:
        CrowdlocError: a run keeps no points, or they belong to other heads than are generated here.
    """
    rows = []
    for name, group in table.items():
        for run in group:
            some = located(run)
            images, sizes = head_sizes(run.experiment.data, run.experiment.preset)
            if run.evidence is None or run.evidence.images != images:
                raise CrowdlocError(f"{run.experiment.id} is about other images than are generated: evaluate again")
            for (choice, value), scores in (ranked(some) | of_the_field(some, sizes)).items():
                rows += [(choice, value, metric, name, run.experiment.seed, score) for metric, score in scores.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def combined(some: Located) -> dict[str, dict[str, float]]:
    """mAP and mAR at three σ by combination of peak window, shift, score floor and most detections: 54 combinations.

    Greedy matching goes by falling score, so that what a floor or a maximum cuts off changes no match before it.
    """
    scores: dict[str, dict[str, float]] = {}
    for side, pixels in itertools.product((3, 11), (0.0, 1 / some.scale, 1.0)):
        version = moved(peaks_of_window(some, side), pixels)
        order, flags = match_images(version.pairs, version.truth, SIGMAS, scale=version.scale)
        heads = [len(truth) for truth in version.truth]
        ranked_scores = [values[by] for values, by in zip(version.scores, order, strict=True)]
        for floor, most in itertools.product((0.05, 0.2, 0.5), (None, 50, 20)):
            ends = [int((values >= floor).sum()) for values in ranked_scores]
            ends = ends if most is None else [min(end, most) for end in ends]
            cut = [values[:end] for values, end in zip(ranked_scores, ends, strict=True)]
            name = f"peak {side}×{side}, moved {pixels * some.scale:g} px, score ≥ {floor:g}, at most {most or 'all'}"
            scores[name] = {}
            for row, sigma in enumerate(SIGMAS):
                hits = [image[row, :, :end] for image, end in zip(flags, ends, strict=True)]
                found = scores_from_matches(cut, hits, heads)
                scores[name] |= {f"{metric} σ {sigma}": float(found[metric]) for metric in ("mAP", "mAR")}
    return scores


def combine(table: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """`combined` of every run, tidy as `measure`; the choice is "combination"."""
    rows = [
        ("combination", value, metric, name, run.experiment.seed, score)
        for name, group in table.items()
        for run in group
        for value, scores in combined(located(run)).items()
        for metric, score in scores.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)

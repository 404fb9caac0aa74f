"""How well heads of different sizes are found, and how exactly: from stored detections on generated test frames.

A head counts as found if a counted detection (score at or above the network's counting threshold) is matched with it
at σ = 20 and similarity .5, as in pictures. Small, middle and large are thirds of all test heads by diameter.

What decides the claims: *handles head sizes* asks for a median distance of less than a
quarter of a head's diameter (half-way from the centre to the edge) in every third; *captures scale variation* asks
that the recall of the thirds differs less with three foci than with one; *misses tiny heads* asks that the recall of
the large third is above that of the small one. Intervals are those of `metrics.statistics`: scenes and seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.metrics import matched_heads, sigma_scale
from crowdloc.metrics.statistics import Estimate, Resampled, drawn_units, estimate, independent_units
from crowdloc.models.registry import label
from crowdloc.results import evidence as ev
from crowdloc.results import formats, runs
from crowdloc.results.experiments import Experiment, experiments_of
from crowdloc.results.marking import SIGMA, SIMILARITY
from crowdloc.results.runs import Run
from crowdloc.results.verdicts import (
    FAILS,
    FRAGILE,
    HOLDS,
    INCONCLUSIVE,
    NOT_CONVERGED,
    NOT_MEASURED,
    ONE_SEED,
    combined,
    did_converge,
)
from crowdloc.studies.stored import write_study

Floats = NDArray[np.float64]
THIRDS = ("small", "middle", "large")
CLOSE = 0.25  # diameters
REPLICATES = 2000
BOOTSTRAP_SEEDS = (0, 1, 2)  # the first decides, the others show whether its draws mattered
_BINS = np.linspace(0, 4, 2001)  # of distance over diameter
METHODS = ("raznet", "frame-stack", "gnanet", "gnanet.gamma5")
DETECTORS = ("faster-rcnn", "fcos")
STUDY = "headsize_synthcrowd-sense-mini"


def diameters(points: Floats, boxes: Floats) -> Floats:
    """Head diameters (n,) in pixels from generated annotations, NaN for a head whose box the upper edge cuts off.

    A box begins 1.1 head radii above the centre of its head.
    """
    above = points[:, 1] - boxes[:, 1]
    return np.where(boxes[:, 1] > 0, 2 / 1.1 * above, np.nan)


class Heads(NamedTuple):
    """All heads of some images in a row: diameter, of the image's unit of the bootstrap, found, and by how far off.

    `distance` is in pixels, NaN for a head that was missed; so is `diameter` where it is not known.
    """

    diameter: Floats
    unit: NDArray[np.int64]
    found: NDArray[np.bool_]
    distance: Floats


@cache
def _sizes(data: str, preset: str) -> tuple[list[str], list[Floats], list[Floats]]:
    """Names, points and diameters of all test images of a generated set."""
    experiment = Experiment(data, preset, "gnanet", 0)
    if not experiment.source.generated:
        raise CrowdlocError(f"{data} is a real data set: how large its heads are is not annotated")
    frames = experiment.load("test").frames
    sizes = [diameters(frame.points, frame.boxes) for frame in frames if frame.boxes is not None]
    return [frame.id for frame in frames], [frame.points for frame in frames], sizes


def heads(run: Run) -> Heads:
    """The test heads of a run.

    Raises:
        CrowdlocError: the run has no points, or they belong to other images or heads than are generated here.
    """
    experiment = run.experiment
    folder = runs.stored(experiment) if run.source == "stored" else runs.evaluated(experiment, run.source)
    if run.threshold is None or run.evidence is None or not (folder / ev.PREDICTIONS).is_file():
        raise CrowdlocError(f"{experiment.id} keeps no points: name a localizer on generated data")
    found = formats.read_predictions(folder / ev.PREDICTIONS)
    images, truth, sizes = _sizes(experiment.data, experiment.preset)
    if found.images != images:
        raise CrowdlocError(f"{folder / ev.PREDICTIONS} is about other images than are generated: evaluate again")
    return _heads(found, truth, sizes, run.evidence.scenes, run.threshold, sigma_scale(experiment.group))


def _heads(
    found: formats.Located, truth: Sequence[Floats], sizes: Sequence[Floats], scenes: Sequence[str], threshold: float,
    scale: float,
) -> Heads:  # fmt: skip
    distances = []
    for points, scores, centres in zip(found.points, found.scores, truth, strict=True):
        counted = points[scores >= threshold]
        match = matched_heads(counted, scores[scores >= threshold], centres, SIGMA, SIMILARITY, scale=scale)
        away = np.full(len(centres), np.nan)
        away[match >= 0] = np.hypot(*(counted[match[match >= 0]] - centres[match >= 0]).T)
        distances.append(away)
    distance = np.concatenate(distances)
    unit = np.repeat(independent_units(scenes), [len(centres) for centres in truth])
    return Heads(np.concatenate(sizes), unit, np.isfinite(distance), distance)


def edges(diameter: Floats, parts: int = 3) -> Floats:
    """Limits (parts + 1,) between equally many heads, the outer ones infinite."""
    inner = np.nanquantile(diameter, np.linspace(0, 1, parts + 1)[1:-1])
    return np.concatenate([[-np.inf], inner, [np.inf]])


def _parts(some: Heads, limits: Floats) -> NDArray[np.int64]:
    """Number of the part of every head, -1 where its diameter is not known."""
    part = np.searchsorted(limits, some.diameter, side="right") - 1
    return np.where(np.isfinite(some.diameter), part, -1)


def recall(some: Heads, limits: Floats) -> Floats:
    """Share of the heads of each part that was found."""
    part = _parts(some, limits)
    return np.array([some.found[part == k].mean() for k in range(len(limits) - 1)])


def closeness(some: Heads, limits: Floats) -> Floats:
    """Median distance over diameter of the heads of each part that were found."""
    part, ratio = _parts(some, limits), some.distance / some.diameter
    return np.array([np.median(ratio[(part == k) & some.found]) for k in range(len(limits) - 1)])


def by_method(table: Mapping[str, Sequence[Run]]) -> dict[str, list[Heads]]:
    """The heads of every run, by method ("gnanet" or "gnanet.gamma5"), methods without any left out."""
    return {name: [heads(run) for run in group] for name, group in table.items() if group}


def read(source: str = "stored", seed: int = 0, names: Sequence[str] = METHODS + DETECTORS) -> dict[str, list[Run]]:
    """Runs on SynthCrowd's `sense` frames by method; deeper than "stored" only those of a seed."""
    listed = {e.id: e for table in ("II", "VIII") for e in experiments_of(table, data="synthcrowd-sense")}
    return {name: runs.read_all([e for e in listed.values() if e.name == name], source, seed=seed) for name in names}


def recall_table(found: Mapping[str, Sequence[Heads]]) -> pd.DataFrame:
    """Recall of the thirds by method, mean over seeds; `range` is the largest minus the smallest in the mean."""
    limits = edges(next(iter(found.values()))[0].diameter)
    rows = {
        full_label(name): np.mean([recall(some, limits) for some in group], axis=0) for name, group in found.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(THIRDS))
    table.insert(0, "seeds", [len(group) for group in found.values()])
    table["range"] = table[list(THIRDS)].max(axis=1) - table[list(THIRDS)].min(axis=1)
    return table


def accuracy_table(group: Sequence[Heads]) -> pd.DataFrame:
    """Of one method by third, means over seeds: diameters and distances in pixels, and both beside each other."""
    limits = edges(group[0].diameter)
    rows = {}
    for k, third in enumerate(THIRDS):
        part = [_parts(some, limits) == k for some in group]
        hits = [inside & some.found for inside, some in zip(part, group, strict=True)]
        away = [some.distance[hit] for hit, some in zip(hits, group, strict=True)]
        ratio = [some.distance[hit] / some.diameter[hit] for hit, some in zip(hits, group, strict=True)]
        rows[third] = {
            "heads": int(part[0].sum()),
            "diameter (px)": float(np.median(group[0].diameter[part[0]])),
            "found": float(np.mean([hit.sum() / inside.sum() for hit, inside in zip(hits, part, strict=True)])),
            "median distance (px)": float(np.mean([np.median(a) for a in away])),
            "distance / diameter": float(np.mean([np.median(r) for r in ratio])),
            "95th percentile": float(np.mean([np.quantile(r, 0.95) for r in ratio])),
            "inside the head": float(np.mean([(r < 0.5).mean() for r in ratio])),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def curves(found: Mapping[str, Sequence[Heads]], parts: int = 10) -> pd.DataFrame:
    """Recall against diameter, tidy: method, label, seed, diameter (median of the part, pixels), recall."""
    first = next(iter(found.values()))[0]
    limits = edges(first.diameter, parts)
    part = _parts(first, limits)
    middle = [float(np.median(first.diameter[part == k])) for k in range(parts)]
    rows = [
        (name, full_label(name), number, where, value)
        for name, group in found.items()
        for number, some in enumerate(group)
        for where, value in zip(middle, recall(some, limits), strict=True)
    ]
    return pd.DataFrame(rows, columns=["method", "label", "seed", "diameter", "recall"])


def offsets(group: Sequence[Heads], parts: int = 10) -> pd.DataFrame:
    """Distance of found heads in percent of their diameter, all seeds; index as in `curves`, columns 5, 50 and 95 %."""
    limits = edges(group[0].diameter, parts)
    diameter, ratio = (np.concatenate(arrays) for arrays in zip(
        *((some.diameter, some.distance / some.diameter) for some in group), strict=True))  # fmt: skip
    part = np.searchsorted(limits, diameter, side="right") - 1
    rows = {
        float(np.nanmedian(diameter[part == k])): 100 * np.nanquantile(ratio[part == k], (0.05, 0.5, 0.95))
        for k in range(parts)
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=pd.Index([5, 50, 95]))


def full_label(name: str) -> str:
    """ "GNANet, γ = 5" for "gnanet.gamma5"."""
    method, _, variant = name.partition(".")
    return f"{label(method)}, {label(method, variant)}" if variant else label(method)


# Statistics of one run: from what is summed over units (units, columns) to a number, also for (R, units) drawn weights.
Sums = NDArray[np.float64]


def _tallied(some: Heads, limits: Floats, value: NDArray[np.int64], columns: int) -> Sums:
    """(units, parts, columns): how many heads of each unit, part and value; a value of -1 is left out."""
    part, units, parts = _parts(some, limits), int(some.unit.max()) + 1, len(limits) - 1
    kept = (part >= 0) & (value >= 0)
    place = (some.unit[kept] * parts + part[kept]) * columns + value[kept]
    return np.bincount(place, minlength=units * parts * columns).reshape(units, parts, columns).astype(np.float64)


def _recalls(weights: Floats, sums: Sums) -> Floats:
    """(R, units) and (units, parts, 2) -> (R, parts)."""
    total = np.tensordot(weights, sums, axes=1)
    return total[..., 1] / total.sum(axis=-1)


def _medians(weights: Floats, sums: Sums) -> Floats:
    """(R, units) and (units, parts, bins) -> (R, parts): medians, as exact as the bins."""
    total = np.tensordot(weights, sums, axes=1).cumsum(axis=-1)
    place = (total < total[..., -1:] / 2).sum(axis=-1)
    return (_BINS[place] + _BINS[place + 1]) / 2


def _found_sums(some: Heads, limits: Floats) -> Sums:
    return _tallied(some, limits, some.found.astype(np.int64), 2)


def _ratio_sums(some: Heads, limits: Floats) -> Sums:
    ratio = some.distance / some.diameter
    known = np.isfinite(ratio)
    place = np.digitize(np.where(known, ratio, 0.0), _BINS) - 1
    return _tallied(some, limits, np.where(known, place.clip(0, len(_BINS) - 2), -1), len(_BINS) - 1)


def _resampled(sums: Sequence[Sums], statistic: Callable[[Floats, Sums], Floats], seed: int) -> Resampled:
    """A statistic (R,) of every seed's sums, on the data and with units drawn again, the same for every seed."""
    units = len(sums[0])
    times = drawn_units(units, REPLICATES, (seed, units)).astype(np.float64)
    values = np.array([statistic(np.ones((1, units)), one)[0] for one in sums])
    return Resampled(values, np.array([statistic(times, one) for one in sums]), units)


class Finding(NamedTuple):
    """A verdict, the claim's id, what was asked, and the numbers that decide it."""

    claim: str
    asked: str
    verdict: str
    numbers: str


def _word(estimates: Sequence[Estimate]) -> str:
    """The verdict on "above 0" by the first estimate, marked where others would say something else."""
    if estimates[0].seeds == 1:
        return ONE_SEED
    words = []
    for found in estimates:
        low, high = found.interval()
        words.append(HOLDS if low > 0 else FAILS if high < 0 else INCONCLUSIVE)
    return words[0] + (FRAGILE if len(set(words)) > 1 else "")


def _judged(sums: Sequence[Sums], statistic: Callable[[Floats, Sums], Floats]) -> tuple[str, Estimate]:
    """Is the statistic above 0?"""
    estimates = [estimate([_resampled(sums, statistic, seed)]) for seed in BOOTSTRAP_SEEDS]
    return _word(estimates), estimates[0]


def _margin(part: int, weights: Floats, sums: Sums) -> Floats:
    """How far the median of one part stays below `CLOSE`."""
    return CLOSE - _medians(weights, sums[:, [part]])[:, 0]


def accurate(group: Sequence[Heads]) -> tuple[str, str]:
    """Is the median distance below `CLOSE` diameters in every third? Verdict and numbers."""
    limits = edges(group[0].diameter)
    sums = [_ratio_sums(some, limits) for some in group]
    words, numbers = [], []
    for k, third in enumerate(THIRDS):
        word, found = _judged(sums, partial(_margin, k))
        low, high = found.interval()
        words.append(word)
        numbers.append(f"{third} {CLOSE - found.value:.3f} ({CLOSE - high:.3f} to {CLOSE - low:.3f})")
    return combined(words), "; ".join(numbers)


def varies_less(several: Sequence[Heads], one: Sequence[Heads]) -> tuple[str, str]:
    """Does the recall of the thirds differ less (largest - smallest) in the first runs? Paired in their order."""
    limits = edges(several[0].diameter)
    pairs = [np.stack([_found_sums(some, limits) for some in pair], axis=-1) for pair in zip(several, one, strict=True)]

    def less(weights: Floats, sums: Sums) -> Floats:
        more, fewer = (np.ptp(_recalls(weights, sums[..., side]), axis=-1) for side in (1, 0))
        return more - fewer

    word, found = _judged(pairs, less)
    low, high = found.interval()
    return word, f"largest - smallest recall differs by {0 - found.value:+.3f} ({0 - high:+.3f} to {0 - low:+.3f})"


def grows(group: Sequence[Heads]) -> tuple[str, str]:
    """Is the recall of the large third above that of the small one?"""
    limits = edges(group[0].diameter)

    def gain(weights: Floats, sums: Sums) -> Floats:
        found = _recalls(weights, sums)
        return found[:, -1] - found[:, 0]

    word, found = _judged([_found_sums(some, limits) for some in group], gain)
    low, high = found.interval()
    return word, f"{found.value:+.3f} ({low:+.3f} to {high:+.3f})"


def suits(large: Sequence[Heads], small: Sequence[Heads]) -> tuple[str, str]:
    """Is more of the large third found with the large γ, and more of the small with the small? Paired in order."""
    limits = edges(large[0].diameter)
    pairs = [np.stack([_found_sums(some, limits) for some in pair], axis=-1) for pair in zip(large, small, strict=True)]

    def more(part: int, better: int, weights: Floats, sums: Sums) -> Floats:
        return _recalls(weights, sums[..., better])[:, part] - _recalls(weights, sums[..., 1 - better])[:, part]

    words, numbers = [], []
    for third, part, better in (("large", -1, 0), ("small", 0, 1)):
        word, found = _judged(pairs, partial(more, part, better))
        low, high = found.interval()
        words.append(word)
        numbers.append(f"{third} {found.value:+.3f} ({low:+.3f} to {high:+.3f})")
    return combined(words), "; ".join(numbers)


Table = Mapping[str, Sequence[Run]]
Found = Mapping[str, Sequence[Heads]]


def _asked(table: Table, found: Found, names: Sequence[str], judge: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    """What `judge` says, if all methods were measured and trained well enough."""
    if any(name not in found for name in names):
        return NOT_MEASURED, f"no {' and '.join(full_label(name) for name in names if name not in found)}"
    converged = all(did_converge(run)[0] for name in names for run in table[name])
    return judge() if converged else (NOT_CONVERGED, "")


def _paired(
    table: Table, found: Found, names: tuple[str, str], judge: Callable[..., tuple[str, str]]
) -> tuple[str, str]:
    """What `judge` says of two methods' runs with the same seeds."""
    seeds = [[run.experiment.seed for run in table[name]] for name in names]
    both = [seed for seed in seeds[0] if seed in seeds[1]]
    sides = [[found[name][own.index(seed)] for seed in both] for name, own in zip(names, seeds, strict=True)]
    return judge(*sides) if both else (NOT_MEASURED, "no seed in common")


def findings(table: Table, found: Found) -> list[Finding]:
    """What Figure 3's claims come to; `found` as `by_method` makes it of `table`."""

    def detectors() -> tuple[str, str]:
        answers = {name: grows(found[name]) for name in DETECTORS}
        return combined([word for word, _ in answers.values()]), "; ".join(
            f"{full_label(n)} {t}" for n, (_, t) in answers.items()
        )

    foci = ("gnanet", "gnanet.gamma5")
    rows = [
        ("figure3-accurate", f"median distance below {CLOSE:g} diameters in every third", ["gnanet"],
         lambda: accurate(found["gnanet"])),
        ("multifocus-scale", "recall of thirds differs less with foci 3, 5, 10 than with γ = 5", foci,
         lambda: _paired(table, found, foci, varies_less)),
        ("detectors-miss-tiny", "both detectors find more of the large third than of the small", DETECTORS, detectors),
    ]  # fmt: skip
    return [Finding(claim, text, *_asked(table, found, names, judge)) for claim, text, names, judge in rows]


def findings_text(some: Sequence[Finding]) -> str:
    """A paragraph per claim."""
    return "\n".join(f"{f.claim}: {f.verdict}\n    {f.asked}\n    {f.numbers}" for f in some)


def growth_text(found: Mapping[str, Sequence[Heads]]) -> str:
    """How much more of the large third than of the small one every method finds, with the 95 % interval."""
    width = max(len(full_label(name)) for name in found)
    return "\n".join(f"{full_label(name):{width}}  {grows(group)[1]}" for name, group in found.items())


def main(arguments: Sequence[str] | None = None) -> None:
    """Write what claims on head sizes come to as a study to `build/studies/`; once promoted, the ledger reads it."""
    argparse.ArgumentParser(prog="python -m crowdloc.studies.headsize", description=main.__doc__).parse_args(arguments)
    table = read()
    rows = pd.DataFrame(findings(table, by_method(table)))
    used = {name: [run.experiment.id for run in group] for name, group in table.items() if group}
    print(write_study(STUDY, rows, {"runs": used, "thirds": THIRDS, "close": CLOSE}))


if __name__ == "__main__":
    main()

"""Verdicts on the paper's claims from measured runs.

What decides was fixed before the first comparison was trained: the comparisons (`crowdloc.paper.contrasts`), the margin
of "similar" and "without hurting" (±0.005), the level (95 %), 10,000 replicates, the convergence rule below. The
statistics are those of `crowdloc.metrics.statistics`: differences paired by seed, with the variation of scenes and of
seeds. With three or five seeds their spread itself is poorly known, and intervals are as wide as that makes them.

Verdicts: *holds* (the 95 % interval lies inside what is claimed), *does not hold* (outside), *inconclusive*,
*inconclusive (one seed)* whatever the scenes say, *not measured*, *not measured (did not converge)*. Where another seed
of the bootstrap gives another verdict, or metrics that are moved as far as threads and machines move them (`MOVED`, all
against the claim or all for it), *(fragile)* stands behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pandas as pd

from crowdloc import paper
from crowdloc.core.errors import CrowdlocError
from crowdloc.metrics import SIGMAS
from crowdloc.metrics.statistics import Estimate, holm
from crowdloc.paper import Cell, Contrast
from crowdloc.results.resampling import ERRORS, REPLICATES, Sample, Term, weighted
from crowdloc.results.runs import Run
from crowdloc.results.schemas import COUNTED_SIGNS

HOLDS, FAILS, INCONCLUSIVE = "holds", "does not hold", "inconclusive"
ONE_SEED, NOT_MEASURED = "inconclusive (one seed)", "not measured"
NOT_CONVERGED = "not measured (did not converge)"
FRAGILE = " (fragile)"
WORDS = (HOLDS, FAILS, INCONCLUSIVE, ONE_SEED, NOT_MEASURED, NOT_CONVERGED)

LEAST_OVERFIT_AP50 = 0.9  # one clip, fitted alone
# Training images at σ 20. A fifth of what looks like a person in SynthCrowd's videos is a figure that never moves, and
# no one image tells them apart: a perfect detector on single images would reach about .80 there.
LEAST_TRAIN_AP50 = 0.7
# A network that counts: on training images at most half of the error of the best constant answer, or half a head. Blind
# to people it would answer the constant; MCNN as published is at .4 on the test images of both parts of ShanghaiTech.
MOST_TRAIN_MAE, MOST_TRAIN_HEADS = 0.5, 0.5
MOST_OVERFIT_MAE = 0.1  # heads missed or too many per head of one clip, fitted alone
# How much the loss still fell from the first to the second half of the last third of the steps. What counters are
# trained on changes with the crowd of every crop: a fall within twice its standard error shows nothing.
MOST_SLOPE = 0.1
_ERROR, _OVERFIT = "last_third_loss_error", "overfit_MAE_per_head"

BOOTSTRAP_SEEDS = (0, 1, 2)  # the first decides, the others show whether its draws mattered
# How far metrics of one seed's weights may lie apart when they are predicted again, with other threads or on another
# machine: ten times what was seen with one and with two threads. Counting errors are in heads.
MOVED, MOVED_HEADS = 1e-4, 0.01
_NEAR = 0.03  # a bound farther than this part of the half-width from every limit will not cross it by other draws

RELATIONS = {
    "better": (0.0, math.inf),
    "not worse": (-paper.SIMILAR, math.inf),
    "similar": (-paper.SIMILAR, paper.SIMILAR),
}


class Row(NamedTuple):
    """Which runs stand for a row of a table of the paper, on one of its data sets."""

    table: str
    dataset: str
    row: str


@dataclass(frozen=True)
class Finding:
    """What became of one comparison: its p-value, and a word. Where they differ there are several: of every seed of the
    bootstrap, of the difference moved down, and moved up."""

    words: tuple[str, ...]
    estimate: Estimate | None = None
    p_value: float = math.nan

    @property
    def word(self) -> str:
        return _marked(self.words)


def converged(convergence: Mapping[str, float]) -> tuple[bool, str]:
    """Whether a training shows that it converged, and if not, why.

    Args:
        convergence: `last_third_loss_first_half` and `last_third_loss_second_half`, mean losses; `train_AP50_sigma20`
            for a method that locates; for one that only counts `train_MAE`, `train_MAE_of_a_constant` (the best one on
            the same images) and `last_third_loss_error`, standard error of the two halves' difference;
            `overfit_AP50` or `overfit_MAE_per_head` where one clip was fitted alone.
    """
    first, second = (convergence.get(f"last_third_loss_{half}_half", math.nan) for half in ("first", "second"))
    slope, error = ((value / abs(first) if first else 0.0) for value in (first - second, convergence.get(_ERROR, 0.0)))
    if not slope <= max(MOST_SLOPE, 2 * error):  # NaN: nothing was recorded
        return False, "no loss was recorded" if math.isnan(slope) else f"the loss still fell by {slope:.0%}"
    for key, least in (("overfit_AP50", LEAST_OVERFIT_AP50), ("train_AP50_sigma20", LEAST_TRAIN_AP50)):
        if key in convergence and not convergence[key] >= least:
            return False, f"{key} is {convergence[key]:.3f}, below {least:g}"
    if "train_MAE" in convergence:
        found, constant = convergence["train_MAE"], convergence.get("train_MAE_of_a_constant", math.nan)
        if not found <= max(MOST_TRAIN_MAE * constant, MOST_TRAIN_HEADS):
            return False, f"MAE on training images is {found:.2f}, that of a constant {constant:.2f}"
    if not convergence.get(_OVERFIT, 0.0) <= MOST_OVERFIT_MAE:
        return False, f"{_OVERFIT} is {convergence[_OVERFIT]:.3f}, above {MOST_OVERFIT_MAE:g}"
    return True, ""


def did_converge(run: Run, *, counting: bool = False) -> tuple[bool, str]:
    """`converged` of a run, by its AP on training images if it locates, else by its MAE there.

    Args:
        counting: it is the count that is asked for: a method that locates and counts by other means too (STANet) must
            also have learned to count.
    """
    signs = dict(run.convergence)
    both = run.evidence is not None and run.counts is not None
    if both and not counting:
        signs = {key: value for key, value in signs.items() if key not in COUNTED_SIGNS}
    asked = {"AP": run.evidence is not None, "MAE": run.evidence is None or (both and counting)}
    for name, missing in (("AP", "train_AP50_sigma20"), ("MAE", "train_MAE")):
        if asked[name] and missing not in signs:
            return False, f"{name} on training images was not recorded"
    return converged(signs)


def verdicts(
    runs: Mapping[Row, Sequence[Run]],
    *,
    numbers: Mapping[Cell, float | Mapping[int, float]] | None = None,
    decided: Mapping[str, str] | None = None,
    claims: Sequence[str] | None = None,
    replicates: int = REPLICATES,
) -> pd.DataFrame:
    """`paper.claims()` with the verdict of measured runs on each.

    Args:
        runs: runs by row of the paper's tables, one per seed.
        numbers: cells that do not come from evidence: exact ones (frames of a data set) or one number per seed
            (frames per second, deviations).
        decided: verdicts by claim from studies, for claims whose relation is "measured".
        claims: ids; None is all.

    Returns:
        Further columns: `parts` (comparisons), how many of them were `measured` and `held`, `verdict`, `after_holm`
        (the verdict if all claims are tested together at 5 %), `emphatic_verdict` (asked for an effect of 0.01, for
        claims of a large one), `exceptions` (comparisons that do not hold or were not measured, with difference and
        interval) and `p_value` (NaN: nothing was tested). A claim holds if all of its parts hold, and does not hold if
        any does not; else it is what its least known part is.

    Raises:
        CrowdlocError: no such claim, or a word in `decided` that is no verdict.
    """
    table = paper.claims()
    if claims is not None:
        for claim in claims:
            paper.contrasts(claim)  # names an unknown one
        table = table[table["id"].isin(claims)].reset_index(drop=True)
    judge = _Judge(runs, numbers or {}, replicates)
    rows, probabilities = [], []
    for claim in table.to_dict("records"):
        parts = paper.contrasts(claim["id"])
        found = [judge(part) for part in parts]
        strong = [judge(part.emphasized()) for part in parts] if claim["emphatic"] else []
        word = _claimed(found) if parts else _from_study(claim["id"], decided or {})
        held = sum(finding.words[0] == HOLDS for finding in found)
        open_ = [_described(p, f) for p, f in zip(parts, found, strict=True) if f.word != HOLDS]
        measured = sum(finding.words[0] not in (NOT_MEASURED, NOT_CONVERGED) for finding in found)
        counts = len(parts), measured, held
        rows.append((*counts, word, word, _claimed(strong) if strong else "", "; ".join(open_)))
        probabilities.append(_probability(word, found))
    columns = ["parts", "measured", "held", "verdict", "after_holm", "emphatic_verdict", "exceptions"]
    result = pd.DataFrame(rows, columns=columns)
    result["after_holm"] = after_holm(result["verdict"].tolist(), probabilities)
    return table.join(result.assign(p_value=probabilities))


def pair_verdicts(
    left: Sequence[Run],
    right: Sequence[Run],
    relation: str = "better",
    *,
    metrics: Sequence[str] | None = None,
    replicates: int = REPLICATES,
) -> pd.DataFrame:
    """Is `left` better than (not worse than, similar to) `right`? One run per seed, paired by seed.

    Args:
        relation: "better", "not worse" or "similar"; MAE and MSE are better when lower.
        metrics: None is mAP and mAR where both sides locate, else MAE and MSE.

    Returns:
        One row per σ and metric: left - right, its 95 % interval (texts), verdict and `after Holm`, the verdict when
        all rows are tested together at 5 %.

    Raises:
        CrowdlocError: an unknown relation, or the two sides were evaluated on different images.
    """
    if relation not in RELATIONS:
        raise CrowdlocError(f"relation {relation!r} is unknown: choose one of {', '.join(RELATIONS)}")
    if metrics is None:
        metrics = ("mAP", "mAR") if all(run.evidence is not None for run in [*left, *right]) else ERRORS
    judge = _judge({"left": left, "right": right}, replicates)
    places = [(s, m) for s in SIGMAS for m in metrics if m not in ERRORS] + [(None, m) for m in metrics if m in ERRORS]
    rows = [_difference(judge, "left", "right", sigma, metric, relation) for sigma, metric in places]
    frame = pd.DataFrame(rows).drop(columns="p_value")
    frame["after Holm"] = after_holm(frame["verdict"].tolist(), [row["p_value"] for row in rows])
    return frame


def steps(
    groups: Mapping[str, Sequence[Run]],
    pairs: Mapping[str, tuple[str, str]],
    *,
    sigmas: Sequence[int | None] = (20,),
    metrics: Sequence[str] = ("mAP",),
    relation: str = "better",
    replicates: int = REPLICATES,
) -> pd.DataFrame:
    """Several differences at once, e.g. what every component adds: as `pair_verdicts`, tested together.

    Args:
        groups: runs by name, one per seed, e.g. a table or several joined.
        pairs: what a comparison is called -> names of its left and right side.
        sigmas: None goes with MAE and MSE.

    Returns:
        One row per pair, σ and metric, with the further column `comparison`; a pair without runs is "not measured".
        Holm's correction is over all rows.
    """
    judge = _judge({name: groups.get(name, ()) for pair in pairs.values() for name in pair}, replicates)
    rows = [
        {"comparison": title} | _difference(judge, left, right, sigma, metric, relation)
        for title, (left, right) in pairs.items()
        for sigma in sigmas
        for metric in metrics
    ]
    frame = pd.DataFrame(rows).drop(columns="p_value")
    frame["after Holm"] = after_holm(frame["verdict"].tolist(), [row["p_value"] for row in rows])
    return frame


def _judge(groups: Mapping[str, Sequence[Run]], replicates: int) -> _Judge:
    judge = _Judge({Row("", "", name): runs for name, runs in groups.items()}, {}, replicates)
    if len({sample.scenes for sample in judge.samples.values()}) > 1:
        raise CrowdlocError("the two sides were evaluated on different images: compare results on the same ones")
    return judge


def _difference(judge: _Judge, left: str, right: str, sigma: int | None, metric: str, relation: str) -> dict[str, Any]:
    """Left - right of one cell, with its interval (texts), verdict and p-value."""
    sign, (low, high) = (-1.0 if metric in ERRORS else 1.0), RELATIONS[relation]
    terms = [(w, Cell("", "", side, sigma, metric)) for w, side in ((sign, left), (-sign, right))]
    finding = judge(Contrast("", "", tuple(terms), low=low, high=high))
    difference, lowest, highest = _numbers(finding.estimate, sign, 2 if metric in ERRORS else 3)
    return {
        "σ": "" if sigma is None else sigma, "metric": metric, "difference": difference, "low": lowest,
        "high": highest, "verdict": finding.word, "p_value": finding.p_value,
    }  # fmt: skip


class _Judge:
    """Findings on contrasts from runs and numbers; runs are prepared once."""

    def __init__(
        self,
        runs: Mapping[Row, Sequence[Run]],
        numbers: Mapping[Cell, float | Mapping[int, float]],
        replicates: int,
    ) -> None:
        self.runs, self.numbers, self.replicates = runs, numbers, replicates
        self.samples: dict[int, Sample] = {}
        for run in (run for group in runs.values() for run in group):
            self.samples.setdefault(id(run), Sample.of(run))
        self.good = {
            (id(run), counting): did_converge(run, counting=counting)[0]
            for group in runs.values() for run in group for counting in (False, True)
        }  # fmt: skip

    def __call__(self, contrast: Contrast) -> Finding:
        terms, by_seed, constant, moved = [], [], contrast.constant, 0.0
        for weight, cell in contrast.terms:
            number = self.numbers.get(cell)
            if isinstance(number, Mapping):
                by_seed.append((weight, number))
            elif number is not None:
                constant += weight * number
            else:
                group = self.runs.get(Row(cell.table, cell.dataset, cell.row), ())
                samples = {run.experiment.seed: self.samples[id(run)] for run in group}
                if not samples or not all(sample.has(cell.sigma, cell.metric) for sample in samples.values()):
                    return Finding((NOT_MEASURED,))
                if not all(self.good[id(run), cell.metric in ERRORS] for run in group):
                    return Finding((NOT_CONVERGED,))
                terms.append(Term(weight, samples, cell.sigma, cell.metric))
                moved += abs(weight) * (MOVED_HEADS if cell.metric in ERRORS else MOVED)
        if not terms and not by_seed:
            return Finding((HOLDS if contrast.holds(constant) else FAILS,))

        def measure(seed: int) -> Estimate | None:
            return weighted(terms, constant=constant, by_seed=by_seed, seed=seed, replicates=self.replicates)

        return _found(contrast, measure, moved)


def _found(contrast: Contrast, measure: Callable[[int], Estimate | None], moved: float = 0.0) -> Finding:
    limits = contrast.limits
    first = measure(BOOTSTRAP_SEEDS[0])
    if first is None:
        return Finding((NOT_MEASURED,))
    if first.seeds == 1:
        return Finding((ONE_SEED,), first)
    estimates = [first]
    if _is_near(first, limits):
        estimates += [e for e in map(measure, BOOTSTRAP_SEEDS[1:]) if e is not None]
    estimates += [first] * (len(BOOTSTRAP_SEEDS) - len(estimates))  # so that those of several parts stay side by side
    if first.error:  # without variation it is a method and itself, whose metrics move together
        estimates += [replace(first, value=first.value + move) for move in (-moved, moved)]
    words = tuple(_word(e, *limits) for e in estimates)
    inside, outside = first.p_values(*limits)
    return Finding(words if len(set(words)) > 1 else words[:1], first, min(inside, outside))


def _word(found: Estimate, low: float, high: float) -> str:
    bounds = found.interval()
    if found.error == 0:  # no variation at all, as between a method and itself
        return HOLDS if low < found.value < high else FAILS if not low <= found.value <= high else INCONCLUSIVE
    if low < bounds[0] and bounds[1] < high:
        return HOLDS
    return FAILS if bounds[1] < low or high < bounds[0] else INCONCLUSIVE


def _is_near(found: Estimate, limits: tuple[float, float]) -> bool:
    low, high = found.interval()
    reach = _NEAR * (high - low) / 2
    return any(abs(bound - limit) <= reach for bound in (low, high) for limit in limits if math.isfinite(limit))


def _claimed(found: Sequence[Finding]) -> str:
    """The verdict of a claim from all of its parts, for every seed of the bootstrap and both moves."""
    number = max(len(finding.words) for finding in found)
    return _marked([combined([f.words[min(i, len(f.words) - 1)] for f in found]) for i in range(number)])


def combined(words: Collection[str]) -> str:
    """One verdict from several: it does not hold if one does not; else it is what the least known of them is."""
    for word in (FAILS, NOT_CONVERGED, NOT_MEASURED, ONE_SEED, INCONCLUSIVE):
        for marked in (word, word + FRAGILE):
            if marked in words:
                return marked
    return HOLDS + FRAGILE if HOLDS + FRAGILE in words else HOLDS


def _marked(words: Sequence[str]) -> str:
    return words[0] + (FRAGILE if len(set(words)) > 1 else "")


def _probability(word: str, found: Sequence[Finding]) -> float:
    """p of a claim: of its weakest part if it holds, of its strongest exception, times the number of parts, if not."""
    tested = [finding for finding in found if not math.isnan(finding.p_value)]
    if word.startswith(HOLDS) and tested:
        return max(finding.p_value for finding in tested)
    failing = [finding.p_value for finding in tested if finding.words[0] == FAILS]
    if word.startswith(FAILS):
        # A part that fails without statistics (an exact number) leaves nothing to correct.
        exact = any(finding.words[0] == FAILS and math.isnan(finding.p_value) for finding in found)
        return math.nan if exact or not failing else min(1.0, len(tested) * min(failing))
    return 1.0 if tested else math.nan


def after_holm(words: Sequence[str], probabilities: Sequence[float]) -> list[str]:
    """Verdicts when all that were tested are tested together; NaN: there was nothing to test."""
    tested = [i for i, p in enumerate(probabilities) if not math.isnan(p)]
    kept = dict(zip(tested, holm([probabilities[i] for i in tested]), strict=True))
    return [INCONCLUSIVE if w.startswith((HOLDS, FAILS)) and not kept.get(i, True) else w for i, w in enumerate(words)]


def _from_study(claim: str, decided: Mapping[str, str]) -> str:
    word = decided.get(claim, NOT_MEASURED)
    if word.removesuffix(FRAGILE) not in WORDS:
        raise CrowdlocError(f"the verdict on {claim} is {word!r}: choose one of {', '.join(WORDS)}")
    return word


def _described(contrast: Contrast, finding: Finding) -> str:
    if finding.estimate is None:
        return f"{contrast.label}: {finding.word}"
    low, high = finding.estimate.interval()
    return f"{contrast.label}: {finding.word} ({finding.estimate.value:+.3f}, {low:+.3f} to {high:+.3f})"


def _numbers(found: Estimate | None, sign: float, digits: int) -> tuple[str, str, str]:
    """Difference and interval as texts, in the direction left - right."""
    if found is None:
        return "", "", ""
    bounds = sorted(sign * bound for bound in found.interval())
    return tuple(f"{value:+.{digits}f}" for value in (sign * found.value, *bounds))  # type: ignore[return-value]

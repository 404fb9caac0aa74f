"""Verdicts from measured runs: words, pairing, convergence, claims of several parts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdloc import paper
from crowdloc.core.errors import CrowdlocError
from crowdloc.metrics.statistics import Estimate
from crowdloc.results import resampling
from crowdloc.results import verdicts as v
from crowdloc.results.evidence import CountEvidence, Evidence
from crowdloc.results.experiments import Experiment
from crowdloc.results.runs import Run
from crowdloc.results.verdicts import Row

GOOD = {"last_third_loss_first_half": 0.1, "last_third_loss_second_half": 0.095, "train_AP50_sigma20": 0.9}
COUNTED = {"last_third_loss_first_half": 0.1, "last_third_loss_second_half": 0.095, "last_third_loss_error": 0.002,
           "train_MAE": 2.0, "train_MAE_of_a_constant": 7.0}  # fmt: skip
DRAWS = 400  # enough for words that are far from a limit


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Many short calls are faster without threads, above all beside other jobs."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def run(quality, seed, *, scenes=8, name="scene", method="gnanet", convergence=GOOD, key=0):
    """A run that finds 10 heads per image with probability `quality`, at each threshold a little less often."""
    random = np.random.default_rng([key, seed])
    images = 2 * scenes
    scores = [np.sort(random.random(12))[::-1] for _ in range(images)]
    depth = [np.where(random.random(12) < quality, random.integers(4, 11, 12), 0) for _ in range(images)]
    for found in depth:
        found[np.flatnonzero(found)[10:]] = 0  # no more matches than heads
    flags = [np.broadcast_to(np.arange(10)[:, None] < found, (3, 10, 12)) for found in depth]
    names = [f"{name}{i // 2}" for i in range(images)]
    evidence = Evidence([f"{n}/{i}" for i, n in enumerate(names)], names, np.full(images, 10), scores, flags)
    experiment = Experiment("synthcrowd-sense", "mini", method, seed)
    return Run(experiment, "stored", evidence, None, 0.5, dict(convergence), Path())


def runs(quality, seeds=3, **options):
    return [run(quality, seed, **options) for seed in range(seeds)]


def words(frame):
    return set(frame["verdict"])


def test_a_clear_difference_holds_and_the_reverse_does_not():
    left, right = runs(0.8), runs(0.4, key=1)
    better = v.pair_verdicts(left, right, replicates=DRAWS)
    assert list(better.columns) == ["σ", "metric", "difference", "low", "high", "verdict", "after Holm"]
    assert better[["σ", "metric"]].to_numpy().tolist() == [[s, m] for s in (5, 20, 40) for m in ("mAP", "mAR")]
    assert words(better) == set(better["after Holm"]) == {v.HOLDS}
    means = [np.mean([r.evidence.localization["20"]["mAR"] for r in side]) for side in (left, right)]
    assert better["difference"][3] == f"{means[0] - means[1]:+.3f}"
    worse = v.pair_verdicts(right, left, replicates=DRAWS)
    assert words(worse) == {v.FAILS}
    assert words(v.pair_verdicts(left, right, "similar", replicates=DRAWS)) == {v.FAILS}
    assert words(v.pair_verdicts(right, left, "not worse", replicates=DRAWS)) == {v.FAILS}


@settings(deadline=None, max_examples=15)
@given(st.floats(0.2, 0.9), st.floats(0.2, 0.9), st.integers(2, 4), st.integers(0, 1000))
def test_left_and_right_exchanged(one, other, seeds, key):
    left, right = runs(one, seeds, key=key, scenes=5), runs(other, seeds, key=key + 1, scenes=5)
    there, back = (v.pair_verdicts(*sides, replicates=100) for sides in ((left, right), (right, left)))
    for column, mirrored in (("difference", "difference"), ("low", "high"), ("high", "low")):
        assert there[column].astype(float).tolist() == (-back[mirrored].astype(float)).tolist()
    opposite = {v.HOLDS: v.FAILS, v.FAILS: v.HOLDS}
    opposite |= {one + v.FRAGILE: other + v.FRAGILE for one, other in opposite.items()}
    assert [opposite.get(word, word) for word in there["verdict"]] == back["verdict"].tolist()


def test_a_method_against_itself():
    same = runs(0.6)
    frame = v.pair_verdicts(same, same, replicates=50)
    assert set(frame["difference"]) == {"+0.000"} and words(frame) == set(frame["after Holm"]) == {v.INCONCLUSIVE}
    assert words(v.pair_verdicts(same, same, "similar", replicates=50)) == {v.HOLDS}


def test_the_order_of_images_and_of_runs_does_not_matter():
    left, right = runs(0.7), runs(0.6, key=1)
    order = np.random.default_rng(0).permutation(16)

    def shuffled(some):
        e = some.evidence
        images, scenes, scores, flags = ([x[i] for i in order] for x in (e.images, e.scenes, e.scores, e.flags))
        return replace(some, evidence=Evidence(images, scenes, e.heads[order], scores, flags))

    expected = v.pair_verdicts(left, right, replicates=DRAWS)
    found = v.pair_verdicts([shuffled(r) for r in left[::-1]], [shuffled(r) for r in right], replicates=DRAWS)
    assert found.equals(expected)


def test_seeds_are_paired_and_only_common_ones_count():
    left, right = runs(0.7, 5), runs(0.6, 3, key=1)
    assert v.pair_verdicts(left, right, replicates=DRAWS).equals(v.pair_verdicts(left[:3], right, replicates=DRAWS))
    # A seed that moves both sides alike moves no difference.
    shared = [(run(q, seed, key=2), run(q - 0.1, seed, key=3)) for seed, q in enumerate((0.9, 0.6, 0.3))]
    paired = v.pair_verdicts(*zip(*shared, strict=True), metrics=["mAR"], replicates=DRAWS)
    crossed = [replace(b, experiment=replace(b.experiment, seed=2 - seed)) for seed, (_, b) in enumerate(shared)]
    unpaired = v.pair_verdicts([a for a, _ in shared], crossed, metrics=["mAR"], replicates=DRAWS)
    widths = [(f["high"].astype(float) - f["low"].astype(float)).max() for f in (paired, unpaired)]
    assert widths[0] < widths[1] / 3


def test_one_seed_is_said_to_be_one():
    frame = v.pair_verdicts(runs(0.8, 1), runs(0.3, 1, key=1), replicates=DRAWS)
    assert words(frame) == set(frame["after Holm"]) == {v.ONE_SEED}
    assert (frame["low"].astype(float) > 0).all()  # the scenes alone would say "holds"


def test_nothing_measured_and_other_images():
    empty = v.pair_verdicts([], runs(0.5))
    assert words(empty) == set(empty["after Holm"]) == {v.NOT_MEASURED} and set(empty["difference"]) == {""}
    assert words(v.pair_verdicts(runs(0.5, 1), [run(0.5, 7)])) == {v.NOT_MEASURED}  # no common seed
    with pytest.raises(CrowdlocError, match="different images"):
        v.pair_verdicts(runs(0.5), runs(0.5, scenes=6))
    with pytest.raises(CrowdlocError, match="'nicer' is unknown: choose one of better, not worse, similar"):
        v.pair_verdicts([], [], "nicer")


def test_counts_are_better_when_lower():
    def counting(error, key):
        found = []
        for seed in range(3):
            one = run(0.5, seed).evidence
            noise = np.random.default_rng([key, seed]).normal(0, error, len(one.heads))
            counts = CountEvidence(one.images, one.scenes, one.heads, one.heads + noise)
            experiment = Experiment("synthcrowd-sense", "mini", "raznet", seed)
            found.append(Run(experiment, "stored", None, counts, None, COUNTED, Path()))
        return found

    good, bad = counting(1, 0), counting(9, 1)
    frame = v.pair_verdicts(good, bad, replicates=DRAWS)
    assert frame["metric"].tolist() == ["MAE", "MSE"] and words(frame) == {v.HOLDS}
    assert (frame["difference"].astype(float) < 0).all() and (frame["high"].astype(float) < 0).all()
    assert words(v.pair_verdicts(bad, good, replicates=DRAWS)) == {v.FAILS}
    assert v.pair_verdicts(good, runs(0.5), replicates=DRAWS)["metric"].tolist() == ["MAE", "MSE"]
    own = replace(run(0.5, 0), counts=good[0].counts)  # a method that does both is judged by its own counts
    assert resampling.Sample.of(own).counts.tolist() == good[0].counts.counts.tolist()
    assert words(v.pair_verdicts(good, runs(0.5), metrics=["mAP"])) == {v.NOT_MEASURED}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"overfit_AP50": 0.95}, ""),
        ({"overfit_AP50": 0.89}, "overfit_AP50 is 0.890, below 0.9"),
        ({"train_AP50_sigma20": 0.699}, "train_AP50_sigma20 is 0.699, below 0.7"),
        ({"train_AP50_sigma20": math.nan}, "train_AP50_sigma20 is nan, below 0.7"),
        ({"last_third_loss_second_half": 0.0899}, "the loss still fell by 10%"),
        ({"last_third_loss_second_half": 0.12}, ""),  # rising: converged or worse, but not on its way
        ({"last_third_loss_second_half": math.nan}, "no loss was recorded"),
    ],
)
def test_the_rule_of_convergence(change, reason):
    assert v.converged(GOOD | change) == (not reason, reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"train_MAE": 3.5}, ""),
        ({"train_MAE": 3.51}, "MAE on training images is 3.51, that of a constant 7.00"),
        ({"train_MAE": math.nan}, "MAE on training images is nan, that of a constant 7.00"),
        ({"train_MAE_of_a_constant": 0.0}, "MAE on training images is 2.00, that of a constant 0.00"),
        ({"train_MAE": 0.5, "train_MAE_of_a_constant": 0.0}, ""),  # the same crowd everywhere
        ({"last_third_loss_second_half": 0.0899}, "the loss still fell by 10%"),
        ({"last_third_loss_second_half": 0.08, "last_third_loss_error": 0.0101}, ""),  # by chance as well
        ({"last_third_loss_second_half": 0.08, "last_third_loss_error": 0.0099}, "the loss still fell by 20%"),
        ({"last_third_loss_error": math.nan}, ""),
        ({"last_third_loss_second_half": 0.08, "last_third_loss_error": math.nan}, "the loss still fell by 20%"),
        ({"overfit_MAE_per_head": 0.1}, ""),
        ({"overfit_MAE_per_head": 0.11}, "overfit_MAE_per_head is 0.110, above 0.1"),
    ],
)
def test_the_rule_of_convergence_for_methods_that_only_count(change, reason):
    assert v.converged(COUNTED | change) == (not reason, reason)


def test_a_counter_that_says_nothing_of_its_fit_has_no_verdict():
    one = run(0.5, 0).evidence
    counts = CountEvidence(one.images, one.scenes, one.heads, one.heads + 1.0)
    silent = Run(Experiment("synthcrowd-sense", "mini", "mcnn", 0), "stored", None, counts, None, GOOD, Path())
    assert v.did_converge(silent) == (False, "MAE on training images was not recorded")
    assert v.did_converge(replace(silent, convergence=COUNTED)) == (True, "")


def test_a_method_that_locates_and_counts_must_have_learned_what_is_asked_for():
    """STANet's points do not depend on the sum of its density map, nor the sum on the points."""
    one = run(0.5, 0)
    counts = CountEvidence(one.evidence.images, one.evidence.scenes, one.evidence.heads, one.evidence.heads + 1.0)
    both = replace(one, counts=counts, convergence=GOOD | COUNTED)
    poor = replace(both, convergence=both.convergence | {"train_MAE": 6.0})
    assert v.did_converge(both) == v.did_converge(both, counting=True) == v.did_converge(poor) == (True, "")
    assert v.did_converge(poor, counting=True) == (False, "MAE on training images is 6.00, that of a constant 7.00")
    silent = replace(both, convergence=GOOD)
    assert v.did_converge(silent, counting=True) == (False, "MAE on training images was not recorded")
    assert v.did_converge(replace(one, convergence=GOOD), counting=True) == (True, "")  # counts its points
    other = replace(run(0.4, 1), counts=counts, convergence=GOOD | COUNTED)
    differences = v.steps({"a": [poor], "b": [other]}, {"a − b": ("a", "b")}, sigmas=(None,), metrics=("MAE",))
    assert words(differences) == {v.NOT_CONVERGED}


def test_what_did_not_converge_is_not_called_poor():
    stuck = [*runs(0.1, 2), run(0.1, 2, convergence=GOOD | {"train_AP50_sigma20": 0.4})]
    assert words(v.pair_verdicts(stuck, runs(0.8, key=1))) == {v.NOT_CONVERGED}
    silent = {key: value for key, value in GOOD.items() if key.startswith("last")}
    assert v.did_converge(run(0.5, 0, convergence=silent)) == (False, "AP on training images was not recorded")
    assert v.converged({}) == (False, "no loss was recorded")


def test_a_verdict_that_depends_on_the_draws_is_fragile():
    contrast = paper.Contrast("", "", ())
    shares = ((1.0, 2.0),)

    def judged(*lows):  # estimates of the three bootstrap seeds with these lower bounds
        half = Estimate(0.0, 1.0, shares, 3).interval()[1]
        return v._found(contrast, lambda seed: Estimate(0.1 + lows[seed], 0.1 / half, shares, 3)).word

    assert judged(0.001, 0.002, 0.001) == v.HOLDS
    assert judged(0.001, -0.001, 0.001) == "holds (fragile)"
    assert judged(-0.001, 0.002, 0.001) == "inconclusive (fragile)"
    assert judged(0.05, -0.001, 0.001) == v.HOLDS  # far from the limit nothing else is drawn


def test_a_verdict_that_other_threads_or_machines_may_turn_is_fragile(monkeypatch):
    contrast, shares = paper.Contrast("", "", ()), ((1.0, 2.0),)
    half = Estimate(0.0, 1.0, shares, 3).interval()[1]

    def judged(low, moved):  # an interval from `low` to `low` + 0.2
        return v._found(contrast, lambda seed: Estimate(0.1 + low, 0.1 / half, shares, 3), moved).word

    assert judged(0.01, 0.009) == v.HOLDS and judged(0.01, 0.011) == "holds (fragile)"
    assert judged(-0.01, 0.009) == v.INCONCLUSIVE and judged(-0.01, 0.011) == "inconclusive (fragile)"
    same = v._found(contrast, lambda seed: Estimate(0.0, 0.0, shares, 3), 0.01)
    assert same.word == v.INCONCLUSIVE
    left, right = runs(0.62, 3), runs(0.4, 3, key=1)
    assert words(v.pair_verdicts(left, right, metrics=["mAP"], replicates=DRAWS)) == {v.HOLDS}
    monkeypatch.setattr(v, "MOVED", 0.5)
    assert words(v.pair_verdicts(left, right, metrics=["mAP"], replicates=DRAWS)) == {"holds (fragile)"}


def test_another_seed_of_the_bootstrap_draws_other_scenes():
    samples = {some.experiment.seed: resampling.Sample.of(some) for some in runs(0.6, 1)}
    term = resampling.Term(1.0, samples, 20, "mAP")
    first, again, other = (resampling.weighted([term], seed=seed, replicates=DRAWS) for seed in (0, 0, 1))
    assert first == again and first.value == other.value
    assert 0 < abs(first.error / other.error - 1) < 0.2


def test_more_draws_agree_with_few():
    left, right = runs(0.62, 3), runs(0.6, 3, key=1)
    few, many = (v.pair_verdicts(left, right, replicates=n)["high"].astype(float) for n in (2000, 10_000))
    assert np.abs(few - many).max() <= 0.005


FDST = {"GNANet": 0.85, "RAZNet": 0.5, "STANet": 0.4}


def rows(table="III", dataset="FDST", qualities=FDST, **options):
    return {
        Row(table, dataset, name): runs(quality, key=key, **options)
        for key, (name, quality) in enumerate(qualities.items())
    }


def claimed(measured, claim="gnanet-best-fdst", **options):
    frame = v.verdicts(measured, claims=[claim], replicates=DRAWS, **options)
    assert len(frame) == 1
    return frame.iloc[0]


def test_a_claim_gets_one_verdict_from_all_of_its_parts():
    measured = rows()
    row = claimed(measured)
    assert (row["verdict"], row["after_holm"], row["emphatic_verdict"]) == (v.HOLDS,) * 3
    assert (row["parts"], row["held"], row["exceptions"]) == (36, 36, "")

    alike = claimed(measured | {Row("III", "FDST", "STANet"): runs(0.85, key=9)})
    assert alike["verdict"] == v.INCONCLUSIVE and 18 <= alike["held"] < 36 and "inconclusive (" in alike["exceptions"]

    other = claimed(measured | {Row("III", "FDST", "STANet"): runs(0.99, key=9)})
    assert (other["verdict"], other["held"], other["after_holm"]) == (v.FAILS, 18, v.FAILS)
    assert "III FDST, AP.50 σ 5: GNANet better than STANet: does not hold (-0." in other["exceptions"]


def test_what_is_missing_is_said_unless_another_part_fails():
    measured = rows()
    del measured[Row("III", "FDST", "STANet")]
    row = claimed(measured)
    assert (row["verdict"], row["after_holm"], row["held"]) == (v.NOT_MEASURED, v.NOT_MEASURED, 18)
    assert row["exceptions"].count("not measured") == 18
    assert claimed(measured | {Row("III", "FDST", "RAZNet"): runs(0.99, key=9)})["verdict"] == v.FAILS
    stuck = runs(0.2, key=9, convergence=GOOD | {"train_AP50_sigma20": 0.1})
    assert claimed(measured | {Row("III", "FDST", "STANet"): stuck})["verdict"] == v.NOT_CONVERGED
    assert claimed(rows() | {Row("III", "FDST", "STANet"): runs(0.2, 1)})["verdict"] == v.ONE_SEED
    assert claimed({})["verdict"] == v.NOT_MEASURED


def test_gains_on_two_data_sets_are_compared():
    first = rows("IV", "ShanghaiTech A", {"S-GNANet*": 0.55, "S-GNANet": 0.5}, name="a")
    second = rows("V", "ShanghaiTech B", {"S-GNANet*": 0.9, "S-GNANet": 0.3}, name="b", scenes=10)
    row = claimed(first | second, "pretraining-b-more")
    assert (row["verdict"], row["parts"], row["held"]) == (v.HOLDS, 18, 18)
    swapped = {Row(*(("V", "ShanghaiTech B") if r.table == "IV" else ("IV", "ShanghaiTech A")), r.row): some
               for r, some in (first | second).items()}  # fmt: skip
    assert claimed(swapped, "pretraining-b-more")["verdict"] == v.FAILS


def test_numbers_that_need_no_scenes():
    speed = {paper.Cell("X", "SenseCrowd", times, 20, "FPS"): value for times, value in (("1", 9.0), ("3", 5.0))}
    assert claimed({}, "sampling-speed", numbers=speed)["verdict"] == v.NOT_MEASURED
    last = paper.Cell("X", "SenseCrowd", "5", 20, "FPS")
    assert claimed({}, "sampling-speed", numbers=speed | {last: 3.0})["verdict"] == v.HOLDS
    noisy = {cell: {0: value, 1: value + 0.1, 2: value - 0.1} for cell, value in (speed | {last: 4.95}).items()}
    assert claimed({}, "sampling-speed", numbers=noisy)["verdict"] == v.HOLDS  # .05 in every seed: paired
    noisy[last][2] = 7.0
    assert claimed({}, "sampling-speed", numbers=noisy)["verdict"] == v.INCONCLUSIVE
    frames = {cell: value for cell, value in paper.cells().items() if cell.table == "I"}
    assert claimed({}, "sensecrowd-size", numbers=frames)["verdict"] == v.HOLDS
    frames[paper.Cell("I", "SenseCrowd", "SenseCrowd", None, "frames")] = 62_000.0
    assert claimed({}, "sensecrowd-size", numbers=frames)["verdict"] == v.FAILS
    assert claimed({}, "split-sum")["verdict"] == v.HOLDS  # arithmetic


def test_every_claim_has_a_verdict_and_studies_decide_the_rest():
    frame = v.verdicts(rows(), decided={"error-bound": v.HOLDS}, replicates=DRAWS).set_index("id")
    assert len(frame) == len(paper.claims())
    assert set(frame["verdict"]) <= set(v.WORDS)
    assert frame.loc["error-bound", "verdict"] == frame.loc["error-bound", "after_holm"] == v.HOLDS
    assert frame.loc["walking-away", "verdict"] == v.NOT_MEASURED
    assert frame.loc["gnanet-best-fdst", "verdict"] == v.HOLDS
    assert frame.loc["ranet-poor", "verdict"] == v.NOT_MEASURED
    with pytest.raises(CrowdlocError, match="the verdict on error-bound is 'yes': choose one of holds"):
        v.verdicts({}, decided={"error-bound": "yes"})
    with pytest.raises(CrowdlocError, match="no claim 'gna-is-nice'"):
        v.verdicts({}, claims=["gna-is-nice"])


def test_holm_takes_back_what_chance_explains():
    assert v.after_holm([v.HOLDS, v.FAILS, v.INCONCLUSIVE, v.NOT_MEASURED], [0.02, 0.001, 0.5, math.nan]) == [
        v.HOLDS,
        v.FAILS,
        v.INCONCLUSIVE,
        v.NOT_MEASURED,
    ]
    assert v.after_holm([v.HOLDS, v.HOLDS, v.HOLDS], [0.02, 0.03, 0.04]) == [v.INCONCLUSIVE] * 3


def test_the_weakest_part_of_a_claim_is_what_is_tested():
    holds, fails = v.Finding((v.HOLDS,), None, 0.01), v.Finding((v.FAILS,), None, 0.004)
    weak, exact = v.Finding((v.HOLDS,), None, 0.04), v.Finding((v.FAILS,))
    assert v._probability(v.HOLDS, [holds, weak]) == 0.04
    assert v._probability(v.FAILS, [holds, weak, fails]) == pytest.approx(0.012)
    assert v._probability(v.INCONCLUSIVE, [holds]) == 1
    assert math.isnan(v._probability(v.FAILS, [holds, exact])) and math.isnan(v._probability(v.NOT_MEASURED, []))


def test_a_single_scene_decides_nothing():
    left, right = runs(0.9, scenes=1), runs(0.1, scenes=1, key=1)
    frame = v.pair_verdicts(left, right, replicates=20)
    assert words(frame) == {v.INCONCLUSIVE} and set(frame["low"]) == {"-inf"}


def test_steps_are_the_pairs_and_are_corrected_together():
    groups = {"a": runs(0.9, 5), "b": runs(0.6, 5), "none": []}
    pairs = {"b to a": ("a", "b"), "a to b": ("b", "a"), "to none": ("none", "a")}
    frame = v.steps(groups, pairs, sigmas=(5, 20), replicates=DRAWS)
    assert frame["comparison"].tolist() == ["b to a"] * 2 + ["a to b"] * 2 + ["to none"] * 2
    assert frame["verdict"].tolist() == [v.HOLDS] * 2 + [v.FAILS] * 2 + [v.NOT_MEASURED] * 2
    alone = v.pair_verdicts(groups["a"], groups["b"], metrics=("mAP",), replicates=DRAWS)
    columns = ["difference", "low", "high", "verdict"]
    assert frame[columns].head(2).to_numpy().tolist() == alone[columns].head(2).to_numpy().tolist()
    assert frame["low"].tolist()[4:] == ["", ""]


def test_a_claim_of_parts_is_its_weakest_part():
    assert v.combined([v.HOLDS, v.HOLDS]) == v.HOLDS and v.combined([v.HOLDS, v.INCONCLUSIVE]) == v.INCONCLUSIVE
    assert v.combined({v.INCONCLUSIVE, v.FAILS}) == v.FAILS
    assert v.combined({v.FAILS + v.FRAGILE, v.ONE_SEED}) == v.FAILS + v.FRAGILE
    assert v.combined([v.HOLDS, v.HOLDS + v.FRAGILE]) == v.HOLDS + v.FRAGILE

"""The joint programme: real detections are never accused, contradictions are found and explained minimally."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdloc import paper
from crowdloc.core.errors import CrowdlocError
from crowdloc.metrics import localization_scores
from crowdloc.paper import feasibility as f
from crowdloc.paper.tables import COLUMNS


def method(number, row):
    ((_, values),) = f.methods(paper.table(number).query("row == @row")).items()
    return values


def measured(seed, images=4):
    """Scores of random detections near random heads, by cell."""
    random = np.random.default_rng(seed)
    predictions, truth = [], []
    for _ in range(images):
        heads = random.uniform(0, 120, (random.integers(1, 12), 2))
        near = heads[random.random(len(heads)) < 0.8]
        points = np.concatenate(
            [near + random.normal(0, random.uniform(1, 12), near.shape), random.random((3, 2)) * 120]
        )
        predictions.append((points, random.random(len(points))))
        truth.append(heads)
    scores = localization_scores(predictions, truth)
    return {(int(sigma), metric): float(scores.loc[sigma, metric]) for sigma in scores.index for metric in COLUMNS}


def rounded(values):
    return {key: round(value, 3) for key, value in values.items()}


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_scores_of_real_detections_are_possible(seed):
    assert f.possible(rounded(measured(seed)))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6))
def test_means_over_repeated_tests_are_possible(seed):
    runs = [measured(seed + i) for i in range(3)]
    assert f.possible(rounded({key: np.mean([run[key] for run in runs]) for key in runs[0]}))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.integers(0, 17))
def test_the_true_value_lies_within_what_the_other_cells_allow(seed, place):
    values = rounded(measured(seed))
    key = sorted(values)[place]
    low, high = f.allowed(values, key)
    assert low - 1e-6 <= values[key] + f.HALF and values[key] - f.HALF <= high + 1e-6


def test_a_bound_derived_by_hand():
    # Table III, RAZNet, σ 5. Six thresholds have AR ≥ .7615, the first of them ≥ .8165; of 10 × .6065 the other four
    # keep 1.441, so their AP is at most (100 · 1.441 + 4) / 101. Five AP are at most .7405, one is at most .6475.
    values = {key: value for key, value in method("III", "RAZNet").items() if key[0] == 5}
    rest = 10 * 0.6065 - 0.8165 - 5 * 0.7615
    most = (5 * 0.7405 + 0.6475 + (100 * rest + 4) / 101) / 10
    assert f.allowed(values, (5, "mAP"))[1] == pytest.approx(most, abs=1e-7) == pytest.approx(0.5816, abs=1e-4)
    assert values[5, "mAP"] == 0.606 and not f.possible(values)


@pytest.mark.parametrize(
    ("number", "row", "cell", "excess"),
    [
        ("III", "RAZNet", "mAP σ 5", 0.024),
        ("XII", "10", "mAR σ 40", 0.0027),
        ("XI", "8", "mAP σ 40", 0.0004),
        ("II", "STANet", "AR.75 σ 40", 0.018),
        ("VIII", "Baseline", "AR.75 σ 20", 0.020),
        ("XII", "3", "AR.50 σ 20", 0.076),
    ],
)
def test_known_cells_are_found(number, row, cell, excess):
    found = f.impossible((number,)).query("row == @row and cell == @cell")
    assert len(found) and found["excess"].max() == pytest.approx(excess, abs=1e-3 if excess > 0.001 else 1e-4)


def test_what_is_found_in_print():
    found = f.impossible()
    assert found.groupby(["table", "row"], sort=False).ngroups == 13
    assert (found["excess"] > 0).all() and (found["low"] <= found["high"] + 1e-9).all()
    # Where one cell suffices and no other one does, there is a first suspect.
    sole = found[found.groupby(["table", "row"])["cell"].transform("size") == 1]
    assert {(r.table, r.row, r.cell) for r in sole.itertuples()} == {
        ("II", "STANet", "AR.75 σ 40"),
        ("III", "GNANet*", "AR.75 σ 40"),
        ("IX", "DFANet", "AR.50 σ 20"),
        ("XI", "16", "mAR σ 40"),
    }
    assert {(cell.table, cell.row) for cell in f.disputed()} == {(r.table, r.row) for r in found.itertuples()}
    assert paper.Cell("XII", "SenseCrowd", "10", 40, "mAR") in f.disputed()


@pytest.mark.parametrize(("number", "row"), [("II", "RAZNet"), ("XII", "10"), ("XI", "8"), ("V", "S-GNANet*")])
def test_explanations_suffice_and_none_is_larger_than_needed(number, row):
    values = method(number, row)
    conflicts, explanations = f.explain(values)
    assert len(explanations) == len(set(explanations)) and len({len(e) for e in explanations}) == 1
    for cells in explanations:
        assert f.possible(values, cells)
        assert not any(f.possible(values, cells - {key}) for key in cells)
        assert all(cells & conflict for conflict in conflicts)
    for conflict in conflicts:
        group = {key: values[key] for key in conflict}
        assert not f.possible(group)
        assert all(f.possible(group, {key}) for key in conflict)


def test_the_simple_bounds_find_nothing_that_the_programme_does_not():
    found = {(r.table, r.row) for r in f.impossible().itertuples()}
    assert {(r.table, r.row) for r in paper.audit().itertuples()} < found
    assert found - {(r.table, r.row) for r in paper.audit().itertuples()} == {("III", "RAZNet"), ("XI", "8")}


def test_without_the_listed_cells_every_method_is_possible():
    listed = paper.suspicious()
    listed = listed[listed["kind"].str.startswith("impossible")]
    names = {(r.table, r.row, int(r.sigma), cell) for r in listed.itertuples() for cell in r.cells.split()}
    tidy = pd.concat([paper.table(number) for number in paper.NUMBERS])
    for (number, _, row), values in f.methods(tidy).items():
        left_out = {key for key in values if (number, row, *key) in names}
        assert f.possible(values, left_out), (number, row)
        assert bool(left_out) == (not f.possible(values)), (number, row)


def test_sound_and_damaged_rows():
    values = method("II", "GNANet")
    assert f.explain(values) == ([], [])
    assert f.allowed(values, (20, "mAP"))[0] < 0.747 < f.allowed(values, (20, "mAP"))[1]
    reversed_ = {key: 1 - value for key, value in values.items()}
    with pytest.raises(CrowdlocError, match="more than 5 cells"):
        f.explain(reversed_)
    with pytest.raises(CrowdlocError, match="contradict each other"):
        f.allowed(reversed_, (5, "mAP"))


def test_extremes_of_a_difference_are_narrower_than_those_of_its_cells():
    values = method("IX", "DFANet")
    one, other = (20, "AR.50"), (20, "AR.75")
    low, high = f.extremes(values, {one: 1.0, other: -1.0}, {one})
    assert 0.0 <= low <= high
    single = f.allowed(values, one)
    assert high - low <= single[1] - single[0] + 2 * f.HALF + 1e-9

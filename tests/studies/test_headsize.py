"""Recall and distance by head size, on heads whose numbers are known."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from crowdloc.datasets.synthcrowd import build_scene
from crowdloc.datasets.synthcrowd.annotate import scene_annotations
from crowdloc.datasets.synthcrowd.geometry import UNIT
from crowdloc.datasets.synthcrowd.scene import positions
from crowdloc.datasets.synthcrowd.settings import PRESETS
from crowdloc.results.experiments import Experiment
from crowdloc.results.formats import Located
from crowdloc.results.runs import Run
from crowdloc.results.verdicts import FAILS, HOLDS, INCONCLUSIVE, NOT_CONVERGED, NOT_MEASURED, ONE_SEED
from crowdloc.studies import headsize as h

GOOD = {"train_AP50_sigma20": 0.9, "last_third_loss_first_half": 1.0, "last_third_loss_second_half": 1.0}


@pytest.fixture(autouse=True)
def fewer_replicates(monkeypatch):
    monkeypatch.setattr(h, "REPLICATES", 300)


def made(recalls=(0.5, 0.5, 0.5), ratios=(0.1, 0.1, 0.1), *, units=20, each=40, seed=0) -> h.Heads:
    """Heads of 8, 12 and 16 px, `each` of every size in every unit, found at random and off by about `ratios`."""
    random = np.random.default_rng(seed)
    diameter = np.tile(np.repeat([8.0, 12.0, 16.0], each), units)
    unit = np.repeat(np.arange(units), 3 * each)
    found = random.random(len(diameter)) < np.tile(np.repeat(recalls, each), units)
    ratio = np.tile(np.repeat(ratios, each), units) * random.uniform(0.9, 1.1, len(diameter))
    return h.Heads(diameter, unit, found, np.where(found, ratio * diameter, np.nan))


def run(method: str, seed: int = 0, variant: str = "", convergence: dict[str, float] = GOOD) -> Run:
    experiment = Experiment("synthcrowd-sense", "mini", method, seed, variant=variant)
    return Run(experiment, "stored", None, None, 0.5, convergence, Path())


def test_diameters_are_those_of_the_generators_heads():
    scene = build_scene("sense", "val", 0)
    notes = scene_annotations(scene, 0)
    x, y, z, _, _ = (part[notes.track_ids] for part in positions(scene.figures, 0, scene.reach, scene.near, scene.far))
    scale = scene.camera.focal * PRESETS["mini"][0] / scene.camera.project(x, y, z)[2]
    found = h.diameters(notes.points / UNIT, notes.boxes / UNIT)
    known = np.isfinite(found)
    assert known.sum() > 10
    np.testing.assert_allclose(found[known], (2 * scale * scene.figures.radius[notes.track_ids])[known], atol=2 / UNIT)


def test_a_head_cut_off_above_has_no_diameter_and_belongs_to_no_part():
    found = h.diameters(np.array([[10.0, 20.0], [10.0, 3.0]]), np.array([[0, 14.5, 20, 60], [0, 0, 20, 60]]))
    np.testing.assert_allclose(found, [10.0, np.nan])
    heads = h.Heads(np.array([8.0, 12, 16, np.nan]), np.zeros(4, int), np.array([1, 0, 1, 0], bool), np.ones(4))
    assert h.recall(heads, np.array([-np.inf, 10, 14, np.inf])).tolist() == [1, 0, 1]


def test_heads_are_found_by_counted_detections_within_reach():
    """At similarity .5 and σ 20 of 1080 rows a match may be 6.28 px away in 288 rows."""
    truth = [np.array([[10.0, 10], [40, 10], [70, 10], [100, 10]])]
    points = np.array([[13.0, 14], [40, 16.2], [70, 16.4], [100, 10]])
    located = Located(["a"], [points], [np.array([0.9, 0.8, 0.7, 0.49])])
    found = h._heads(located, truth, [np.array([10.0, 10, 10, 10])], ["s"], 0.5, 3.75)
    assert found.found.tolist() == [True, True, False, False]  # too far; not counted
    np.testing.assert_allclose(found.distance, [5, 6.2, np.nan, np.nan])


def test_thirds_hold_equally_many_heads_and_recall_and_distance_are_theirs():
    heads = h.Heads(
        np.array([5.0, 6, 7, 8, 9, 10]), np.arange(6), np.array([1, 0, 1, 1, 1, 1], bool),
        np.array([1.0, np.nan, 0.7, 1.6, 0.9, 3.0]),
    )  # fmt: skip
    limits = h.edges(heads.diameter)
    np.testing.assert_allclose(limits[1:-1], [5 + 5 / 3, 5 + 10 / 3])
    assert h.recall(heads, limits).tolist() == [0.5, 1, 1]
    np.testing.assert_allclose(h.closeness(heads, limits), [0.2, 0.15, 0.2])
    table = h.accuracy_table([heads])
    assert table["heads"].tolist() == [2, 2, 2] and table["found"].tolist() == [0.5, 1, 1]
    np.testing.assert_allclose(table["median distance (px)"], [1, 1.15, 1.95])
    np.testing.assert_allclose(table["distance / diameter"], [0.2, 0.15, 0.2])


def test_tables_and_curves_average_over_seeds():
    seeds = {"gnanet": [made((0.0, 0.5, 1.0)), made((1.0, 1.0, 1.0))], "gnanet.gamma5": [made((1.0, 1.0, 1.0))]}
    table = h.recall_table(seeds)
    assert table.index[1].startswith("GNANet, ") and table["seeds"].tolist() == [2, 1]
    assert table.iloc[0]["small"] == 0.5 and table.iloc[0]["large"] == 1 and table.iloc[0]["range"] == 0.5
    curves = h.curves(seeds, parts=3)
    assert curves.groupby("method").size().to_dict() == {"gnanet": 6, "gnanet.gamma5": 3}
    assert curves["diameter"].unique().tolist() == [8, 12, 16] and curves["recall"].iloc[:3].tolist()[::2] == [0, 1]
    away = h.offsets(seeds["gnanet"], parts=3)
    assert away.index.tolist() == [8, 12, 16] and away[50].to_numpy() == pytest.approx(10, abs=0.2)


def test_binned_medians_agree_with_medians():
    heads = made((0.7, 0.6, 0.9), (0.1, 0.2, 0.4))
    limits = h.edges(heads.diameter)
    (binned,) = h._medians(np.ones((1, 20)), h._ratio_sums(heads, limits))
    np.testing.assert_allclose(binned, h.closeness(heads, limits), atol=2 * (h._BINS[1] - h._BINS[0]))
    (recalls,) = h._recalls(np.ones((1, 20)), h._found_sums(heads, limits))
    np.testing.assert_allclose(recalls, h.recall(heads, limits))


def test_units_drawn_twice_count_twice():
    heads = h.Heads(np.full(4, 9.0), np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0], bool), np.ones(4))
    sums = h._found_sums(heads, np.array([-np.inf, np.inf]))
    weights = np.array([[1.0, 1], [2, 0], [3, 1]])
    assert h._recalls(weights, sums)[:, 0].tolist() == [0.5, 1, 0.75]


@pytest.mark.parametrize(("ratios", "word"), [((0.1, 0.1, 0.1), HOLDS), ((0.4, 0.1, 0.1), FAILS)])
def test_accurate_asks_every_third(ratios, word):
    assert h.accurate([made(ratios=ratios, seed=s) for s in range(3)])[0] == word


def test_one_seed_decides_nothing():
    assert h.accurate([made()])[0] == ONE_SEED
    assert h.grows([made((0.1, 0.5, 0.9))])[0] == ONE_SEED


def test_recall_that_grows_with_size_or_falls():
    up, down, even = ([made(r, seed=s) for s in range(3)] for r in ((0.3, 0.5, 0.8), (0.8, 0.5, 0.3), (0.5,) * 3))
    assert h.grows(up)[0] == HOLDS and h.grows(down)[0] == FAILS and h.grows(even)[0] == INCONCLUSIVE
    assert float(h.grows(up)[1].split()[0]) == pytest.approx(0.5, abs=0.04)


def test_varying_less_is_a_smaller_range():
    wide, narrow = ([made(r, seed=s) for s in range(3)] for r in ((0.3, 0.5, 0.8), (0.6, 0.5, 0.6)))
    word, numbers = h.varies_less(narrow, wide)
    assert word == HOLDS and float(numbers.split()[0]) == pytest.approx(-0.4, abs=0.05)  # ranges .1 and .5
    assert h.varies_less(wide, narrow)[0] == FAILS


def test_findings_of_what_is_there():
    table = {"gnanet": [run("gnanet", s) for s in range(4)]}
    table["gnanet.gamma5"] = [run("gnanet", s, "gamma5") for s in (3, 1, 2)]
    found = {name: [made(seed=r.experiment.seed) for r in group] for name, group in table.items()}
    by_claim = {f.claim: f for f in h.findings(table, found)}
    assert by_claim["figure3-accurate"].verdict == HOLDS
    # paired by seed, whatever the order: the same heads on both sides differ in nothing
    assert by_claim["multifocus-scale"].numbers.startswith(("+0.000 (", "-0.000 ("))
    assert by_claim["detectors-miss-tiny"].verdict == NOT_MEASURED
    assert "Faster R-CNN and FCOS" in by_claim["detectors-miss-tiny"].numbers
    falling = {**GOOD, "last_third_loss_second_half": 0.5}
    table["gnanet.gamma5"][1] = run("gnanet", 1, "gamma5", falling)
    assert {f.claim: f.verdict for f in h.findings(table, found)}["multifocus-scale"] == NOT_CONVERGED
    assert "figure3-accurate: holds\n" in h.findings_text(h.findings(table, found))


def test_detectors_must_both_grow():
    table = {name: [run(name, s) for s in range(3)] for name in h.DETECTORS}
    up, down = (partial(made, r) for r in ((0.3, 0.5, 0.8), (0.8, 0.5, 0.3)))
    for second, word in ((up, HOLDS), (down, FAILS)):
        sides = zip(h.DETECTORS, (up, second), strict=True)
        found = {name: [make(seed=s) for s in range(3)] for name, make in sides}
        assert {f.claim: f.verdict for f in h.findings(table, found)}["detectors-miss-tiny"] == word

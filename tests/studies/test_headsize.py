"""Recall and distance by head size: by hand, against NumPy on repeated values, and verdicts on made runs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import read_json
from crowdloc.datasets.synthcrowd import build_scene, scene_annotations
from crowdloc.datasets.synthcrowd.geometry import UNIT
from crowdloc.datasets.synthcrowd.scene import positions
from crowdloc.results.experiments import Experiment
from crowdloc.results.formats import Located
from crowdloc.results.runs import Run
from crowdloc.results.verdicts import FAILS, HOLDS, INCONCLUSIVE, NOT_CONVERGED, NOT_MEASURED, ONE_SEED
from crowdloc.studies import headsize as h


def made(found, distance=1.0, diameter=None, units=6) -> h.Heads:
    """Heads of three sizes, 4, 8 and 16 pixels, spread over units; `found` (n,) for each size in turn."""
    found = np.asarray(found, dtype=bool)
    size = np.resize([4.0, 8.0, 16.0], len(found)) if diameter is None else np.asarray(diameter, dtype=float)
    away = np.where(found, distance * np.ones(len(found)), np.nan)
    return h.Heads(size, np.arange(len(found)) // 3 % units, found, away)


def test_a_diameter_is_that_of_the_generated_head():
    scene = build_scene("sense", "dev", 2)
    found = scene_annotations(scene, 3)
    sizes = h.diameters(found.points / UNIT, found.boxes / UNIT)
    x, y, z, _, _ = (part[found.track_ids] for part in positions(scene.figures, 3, scene.reach, scene.near, scene.far))
    scale = scene.camera.focal * 288 / scene.camera.project(x, y, z)[2]
    assert sizes == pytest.approx(2 * scale * scene.figures.radius[found.track_ids], abs=2 / UNIT)
    assert 5 < sizes.min() < sizes.max() < 40


def test_a_head_that_the_upper_edge_cuts_has_no_diameter():
    sizes = h.diameters(np.array([[5.0, 9.8], [5.0, 2.0]]), np.array([[0, 4.3, 9, 20], [0, 0.0, 9, 20]]))
    assert sizes[0] == pytest.approx(10) and math.isnan(sizes[1])


def test_heads_are_matched_with_what_is_counted():
    """σ 20 at a scale of 2 allows 11.77 pixels; the third detection is too unsure to be counted."""
    found = Located(
        ["a", "b"],
        [np.array([[10.0, 13.0], [40.0, 10.0], [70.0, 10.0]]), np.array([[22.0, 10.0]])],
        [np.array([0.9, 0.8, 0.4]), np.array([0.9])],
    )
    truth = [np.array([[10.0, 10.0], [40.0, 10.0], [70.0, 10.0]]), np.array([[10.0, 10.0]])]
    some = h._heads(found, truth, [np.array([4.0, 6, 8]), np.array([5.0])], ["s", "t"], 0.5, 2.0)
    assert some.found.tolist() == [True, True, False, False]  # in the second image 12 pixels are too many
    assert some.distance[:2].tolist() == [3, 0] and np.isnan(some.distance[2:]).all()
    assert some.diameter.tolist() == [4, 6, 8, 5]


def test_thirds_by_hand():
    some = made([1, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1, 1], distance=2.0)
    limits = h.edges(some.diameter)
    assert h.recall(some, limits).tolist() == [0.75, 0.5, 0.5]
    assert h.closeness(some, limits).tolist() == [0.5, 0.25, 0.125]
    table = h.recall_table({"gnanet": [some, some]})
    assert table.loc["GNANet"].tolist() == [2, 0.75, 0.5, 0.5, 0.25]
    exact = h.accuracy_table([some])
    assert exact.loc["large", ["heads", "diameter (px)", "found", "median distance (px)"]].tolist() == [4, 16, 0.5, 2]
    assert exact["inside the head"].tolist() == [0, 1, 1]  # 2 pixels are the edge of a head of 4
    assert h.full_label("gnanet.gamma5") == "GNANet, γ = 5" and h.full_label("raznet") == "RAZNet"


def test_unknown_diameters_belong_to_no_part():
    some = made([1, 0, 1, 1], diameter=[4, 8, 16, np.nan])
    assert h._parts(some, h.edges(some.diameter)).tolist() == [0, 1, 2, -1]
    assert h._found_sums(some, h.edges(some.diameter)).sum() == 3


def test_curves_and_offsets_have_a_row_for_every_part():
    rng = np.random.default_rng(0)
    some = made(rng.random(400) < 0.8, diameter=rng.uniform(6, 30, 400), distance=3.0)
    curves = h.curves({"gnanet": [some], "gnanet.gamma5": [some, some]}, parts=4)
    assert len(curves) == 12 and set(curves["label"]) == {"GNANet", "GNANet, γ = 5"}
    assert curves.groupby("method")["recall"].mean().to_numpy() == pytest.approx(some.found.mean())
    offsets = h.offsets([some], parts=4)
    assert (offsets[50].diff().dropna() < 0).all()  # the same distance is a smaller part of larger heads
    assert offsets.index.tolist() == curves["diameter"].unique().tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_sums_with_weights_are_the_statistics_of_repeated_units(seed):
    rng = np.random.default_rng(seed)
    some = made(np.ones(60), distance=rng.uniform(0, 6, 60))
    some = some._replace(found=rng.random(60) < 0.7)
    some = some._replace(distance=np.where(some.found, some.distance, np.nan))
    limits = h.edges(some.diameter)
    times = rng.integers(1, 4, (1, 6))
    repeated = np.repeat(np.arange(60), times[0][some.unit])
    again = h.Heads(*(part[repeated] for part in some))
    weights = times.astype(float)
    assert h._recalls(weights, h._found_sums(some, limits))[0] == pytest.approx(h.recall(again, limits))
    ratio, part = again.distance / again.diameter, h._parts(again, limits)
    for k, median in enumerate(h._medians(weights, h._ratio_sums(some, limits))[0]):
        values = np.sort(ratio[(part == k) & again.found])
        assert median == pytest.approx(values[(len(values) - 1) // 2], abs=0.002)  # the lower one of two, within a bin


def test_accuracy_is_judged_against_the_size():
    near = [made(np.ones(90), distance=d) for d in (0.4, 0.5, 0.45)]
    far = [made(np.ones(90), distance=d) for d in (1.9, 2.0, 2.1)]  # 2 pixels: half of a small head
    assert h.accurate(near)[0] == HOLDS
    word, numbers = h.accurate(far)
    assert word == FAILS and numbers.startswith("small 0.50") and "large 0.12" in numbers
    assert h.accurate(near[:1])[0] == ONE_SEED


def test_growth_and_its_absence():
    rng = np.random.default_rng(1)
    chance = np.resize([0.5, 0.7, 0.9], 900)
    growing = [made(rng.random(900) < chance, units=12) for _ in range(4)]
    level = [made(rng.random(900) < 0.7, units=12) for _ in range(4)]
    assert h.grows(growing)[0] == HOLDS and h.grows(growing)[1].startswith("+0.")
    assert h.grows([some._replace(found=~some.found) for some in growing])[0] == FAILS
    assert h.grows(level)[0] == INCONCLUSIVE
    assert h.varies_less(level, growing)[0] == HOLDS and h.varies_less(growing, level)[0] == FAILS
    assert h.varies_less(level, level)[0] == INCONCLUSIVE
    assert "GNANet" in h.growth_text({"gnanet": growing})


def run(name: str, seed: int, *, loss: float = 1.0) -> Run:
    experiment = Experiment.parse(f"synthcrowd-sense-mini/{name}/seed{seed}")
    shown = {"train_AP50_sigma20": 0.8, "last_third_loss_first_half": 1.0, "last_third_loss_second_half": loss}
    locates: Any = object()  # evidence of points, which nobody reads here: a run without any only counts
    return Run(experiment, "stored", locates, None, 0.5, shown, Path())


def test_findings_say_what_was_not_measured():
    some = made(np.ones(90), distance=0.4)
    table = {"gnanet": [run("gnanet", s) for s in (0, 1, 2)], "gnanet.gamma5": [run("gnanet.gamma5", 5)], "fcos": []}
    found = {"gnanet": [some] * 3, "gnanet.gamma5": [some]}
    words = {finding.claim: finding for finding in h.findings(table, found)}
    assert words["figure3-accurate"].verdict == HOLDS
    assert (
        words["multifocus-scale"].verdict == NOT_MEASURED and words["multifocus-scale"].numbers == "no seed in common"
    )
    assert words["detectors-miss-tiny"].verdict == NOT_MEASURED
    assert words["detectors-miss-tiny"].numbers == "no Faster R-CNN and FCOS"
    table["gnanet"][1] = run("gnanet", 1, loss=0.5)
    found["gnanet.gamma5"] = [some]
    table["gnanet.gamma5"] = [run("gnanet.gamma5", 2)]
    words = {finding.claim: finding for finding in h.findings(table, found)}
    assert words["figure3-accurate"].verdict == NOT_CONVERGED == words["multifocus-scale"].verdict
    text = h.findings_text(list(words.values()))
    assert text.count("\n    ") == 6 and "figure3-accurate: not measured (did not converge)" in text


def test_runs_are_paired_by_seed():
    """Seed 2 of the one stands beside seed 2 of the other, wherever they are in their lists."""
    rng = np.random.default_rng(3)
    level = [made(rng.random(900) < 0.7, units=12) for _ in range(2)]
    table = {
        "gnanet": [run("gnanet", s) for s in (0, 1, 2)],
        "gnanet.gamma5": [run("gnanet.gamma5", s) for s in (2, 1)],
    }
    found = {"gnanet": [made(np.resize([0, 1, 1], 900), units=12), *level], "gnanet.gamma5": level[::-1]}
    word = {f.claim: f for f in h.findings(table, found)}["multifocus-scale"]
    assert word.numbers == "largest - smallest recall differs by +0.000 (+0.000 to +0.000)"


def test_gamma_against_size_by_hand():
    """3/4 of small and 1/4 of large heads with the small γ, the reverse with the large one: +.5 on both sides."""
    rng = np.random.default_rng(0)

    def heads_of(rates):
        found = rng.permuted(np.arange(120) < 120 * np.array(rates)[:, None], axis=1).T.ravel()  # exactly, of each size
        return made(found, units=12)

    small, large = ([heads_of(rates) for _ in range(3)] for rates in ([0.75, 0.5, 0.25], [0.25, 0.5, 0.75]))
    word, numbers = h.suits(large, small)
    assert word == HOLDS and numbers.startswith("large +0.500 (") and "; small +0.500 (" in numbers
    assert h.suits(small, large)[0] == FAILS
    assert h.suits(large[:1], small[:1])[0] == ONE_SEED
    uneven = [heads_of([0.5, 0.5, 0.75]) for _ in range(3)]  # more of the large heads, and no fewer small ones
    assert h.suits(uneven, [heads_of([0.5, 0.5, 0.25]) for _ in range(3)])[0] == INCONCLUSIVE


def test_the_study_has_a_row_per_claim(tmp_path, monkeypatch):
    names = ["gnanet", "gnanet.gamma5", "raznet"]
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(h, "read", lambda: {n: [run(n, s) for s in (0, 1, 2)] for n in names} | {"fcos": []})
    monkeypatch.setattr(h, "heads", lambda some: made(np.ones(90), distance=0.4))
    h.main([])
    table = pd.read_csv(tmp_path / "studies" / f"{h.STUDY}.csv")
    assert dict(zip(table["claim"], table["verdict"], strict=True)) == {
        "figure3-accurate": HOLDS,
        "multifocus-scale": INCONCLUSIVE,
        "detectors-miss-tiny": NOT_MEASURED,
    }
    facts = read_json(tmp_path / "studies" / f"{h.STUDY}.json")
    assert facts["runs"]["gnanet"] == [f"synthcrowd-sense-mini/gnanet/seed{s}" for s in (0, 1, 2)]
    assert list(facts["runs"]) == names


def test_real_heads_have_no_size():
    with pytest.raises(CrowdlocError, match="mall is a real data set"):
        h._sizes("mall", "mini")
    with pytest.raises(CrowdlocError, match="keeps no points"):
        h.heads(replace(run("gnanet", 0), threshold=None))


def test_stored_runs_are_read_by_name():
    table = h.read(names=["raznet", "fcos"])
    assert [r.experiment.seed for r in table["raznet"]][:3] == [0, 1, 2] and set(table) == {"raznet", "fcos"}

"""The lists of trainings: every one can be made, is told from every other, and looks at no test image."""

from __future__ import annotations

import dataclasses
import re

import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.models import METHODS, build_model
from crowdloc.models.registry import accepts
from crowdloc.results.experiments import CHOSEN, STAGE1, Chosen, Experiment
from crowdloc.studies.plans import ATTENTIONS, COUNTERS, MULTISCALE, SECOND_RATES, STUDIES, plan_of
from crowdloc.studies.rows import Best, Row

PLANS = [(name, data) for name, study in STUDIES.items() for data in study.data or (None,)]


@pytest.mark.parametrize(("name", "data"), PLANS)
def test_every_row_can_be_made(name, data):
    _, rows = plan_of(name, data)
    labels = [row.label for row in rows]
    assert len(set(labels)) == len(labels)
    for number, row in enumerate(rows):
        assert re.fullmatch(r"[\w.-]+", row.label, re.ASCII)
        starts = (
            [label for group in row.start.groups for label in group] if isinstance(row.start, Best) else [row.start]
        )
        assert all(start in labels[:number] for start in starts if start is not None), "a start comes earlier"
        recipe = row.full_recipe
        behind = row.start is not None and not row.label.startswith("whole")
        assert recipe.frozen == (behind or recipe.pretrained is not None)
        assert row.describe()["recipe"]["learning_rate"] == recipe.learning_rate
        small = {"width": 1 / 64} if accepts(row.method, "width") else {}  # 8 channels: deformable has 8 heads
        build_model(row.method, **small, **row.options)
        assert all(images.split in ("val", "dev") for images in row.images)
        assert all(images.split == "val" or images.data.startswith("synthcrowd") for images in row.images)


@pytest.mark.parametrize(
    ("data", "methods", "variants", "first_rates", "rates", "seeds"),
    [
        (
            "synthcrowd-sense", ["raznet", "frame-stack", "gnanet"], (*ATTENTIONS, *MULTISCALE), (1e-3, 4e-3),
            SECOND_RATES, (100, 101),
        ),
        ("mall", ["raznet", "frame-stack", "gnanet", "s-gnanet"], (), (1e-3, 4e-3), (1e-3, 4e-3), (100,)),
        ("shanghaitech_b", ["raznet", "s-gnanet"], (), (5e-4, 1e-3, 2e-3), (1e-3, 4e-3), (100,)),
    ],
)  # fmt: skip
def test_rates_are_searched_alike(data, methods, variants, first_rates, rates, seeds):
    full_name, rows = plan_of("rates", data)
    assert full_name == f"rates_{data}"
    rows = [row for row in rows if not METHODS[row.method].counts and not row.label.startswith("longer")]
    first, second = [r for r in rows if r.start is None], [r for r in rows if r.start is not None]
    assert [(r.method, r.recipe["learning_rate"], r.seed) for r in first] == [
        ("raznet", rate, seed) for seed in seeds for rate in first_rates
    ]
    searched = [(name, seeds[0]) for name in (*methods, *variants)] + [(n, s) for s in seeds[1:] for n in methods]
    assert [(r.label.split("-0.")[0], r.recipe["learning_rate"], r.seed) for r in second] == [
        (name, rate, seed) for name, seed in searched for rate in rates
    ]
    seeds = {row.label: row.seed for row in first}
    for row in second:
        assert isinstance(row.start, Best)
        assert all(seeds[group[row.start.place]] == row.seed for group in row.start.groups)  # the backbone of its seed


def test_shanghaitech_has_longer_trainings_beside_the_search():
    """Part A as one of the first stages, part B beside them: it is no start of anything."""
    (longer,) = [row for row in plan_of("rates", "shanghaitech_b")[1] if row.label.startswith("longer")]
    assert (longer.method, longer.seed, longer.start) == ("raznet", 100, None)
    assert longer.full_recipe.steps == 1600 + 1200 and longer.full_recipe.learning_rate == 5e-4
    first = [row for row in plan_of("rates", "shanghaitech_a")[1] if row.start is None and row.method == "raznet"]
    assert [(r.full_recipe.learning_rate, r.full_recipe.steps) for r in first] == [
        (5e-4, 1200), (1e-3, 1200), (2e-3, 1200), (4e-3, 1200), (1e-3, 3600),
    ]  # fmt: skip


@pytest.mark.parametrize("data", COUNTERS)
def test_counters_are_searched_alike_behind_a_backbone_and_whole(data):
    _, rows = plan_of("rates", data)
    found = {row.label: row for row in rows if METHODS[row.method].counts}
    assert {row.seed for row in found.values()} == {100}
    for name in COUNTERS[data]:
        searched = [found.pop(f"{name}-{rate:g}-seed100") for rate in (1e-3, 4e-3)]
        assert [row.full_recipe.learning_rate for row in searched] == [1e-3, 4e-3]
        staged = METHODS[name].start is not None
        assert all(row.full_recipe.frozen == isinstance(row.start, Best) == staged for row in searched)
        if staged:
            whole = found.pop(f"{name}-whole-0.002-seed100")
            assert whole.start is None and whole.full_recipe.learning_rate == 2e-3
            assert {**CHOSEN[f"{data}-mini"].counters}.items() <= dataclasses.asdict(whole.full_recipe).items()
        else:
            assert searched[0].full_recipe.steps == CHOSEN[f"{data}-mini"].counters["steps"]
    assert not found


def test_recipes_are_those_of_the_stage(monkeypatch):
    chosen = Chosen({"steps": 50}, {"": 4e-3}, second={"steps": 20, "frozen": True}, second_rates={"gnanet": 1e-3})
    monkeypatch.setitem(CHOSEN, "mall-mini", chosen)
    stage1 = Experiment("mall", "mini", "raznet", 3, variant=STAGE1).recipe
    assert Row("a", "mall", "gnanet", 3).full_recipe == stage1
    assert (stage1.steps, stage1.learning_rate, stage1.frozen) == (50, 4e-3, False)
    behind = Row("b", "mall", "gnanet", 3, start="a", recipe={"learning_rate": 7e-3}).full_recipe
    assert (behind.steps, behind.learning_rate, behind.frozen) == (20, 7e-3, True)
    with pytest.raises(CrowdlocError, match="a recipe has no field 'step'"):
        _ = Row("a", "mall", "gnanet", 3, recipe={"step": 3}).full_recipe


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("rate", "mall", "unknown study 'rate': choose one of rates"),
        ("rates", None, "study rates on data set None: choose one of synthcrowd-sense, mall"),
        ("rates", "ucsd", "study rates on data set 'ucsd': choose one of"),
        ("transfer", "mall", "choose one of none, it chooses them itself"),
    ],
)
def test_wrong_names_are_one_line(name, data, message):
    with pytest.raises(CrowdlocError, match=message):
        plan_of(name, data)


def test_a_study_on_one_data_set_needs_no_name_of_it():
    assert plan_of("control", None)[0] == "control_synthcrowd-sense"

"""Lists of experiments, where each begins, and with which recipe."""

from __future__ import annotations

import dataclasses

import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.models.registry import METHODS
from crowdloc.paper import table
from crowdloc.results.experiments import CHOSEN, TABLES, Experiment, all_experiments, experiments_of, with_starts


def line(id: str) -> list[str]:
    """An experiment and all that it goes back to."""
    found = [Experiment.parse(id)]
    while (start := found[-1].start) is not None:
        found.append(start)
    return [e.id for e in found]


@pytest.mark.parametrize(
    ("id", "before"),
    [
        ("synthcrowd-sense-mini/raznet.stage1/seed2", []),
        ("synthcrowd-sense-mini/stanet/seed2", ["synthcrowd-sense-mini/raznet.stage1/seed2"]),
        (
            "synthcrowd-fdst-mini/gnanet.pretrained/seed1",
            ["synthcrowd-fdst-mini/raznet.stage1-pretrained/seed1", "synthcrowd-sense-mini/raznet.stage1/seed1"],
        ),
        (
            "shanghaitech_a-mini/s-gnanet.pretrained/seed0",
            ["shanghaitech_a-mini/raznet.stage1-pretrained/seed0", "synthcrowd-sense-mini/raznet.stage1/seed0"],
        ),
        # In one stage the network itself is pre-trained; real data on the real set.
        ("synthcrowd-fdst-paper/gnanet.pretrained/seed0", ["synthcrowd-sense-paper/gnanet/seed0"]),
        ("fdst-paper/gnanet.pretrained/seed0", ["sensecrowd-paper/gnanet/seed0"]),
        ("synthcrowd-sense-mini/mcnn/seed0", []),
    ],
)
def test_where_experiments_begin(id, before):
    assert line(id) == [id, *before]


def test_pretraining_changes_where_the_first_stage_starts_and_nothing_else():
    plain, starred = (Experiment.parse(f"synthcrowd-sha-mini/s-gnanet{v}/seed1") for v in ("", ".pretrained"))
    for one, other in ((plain, starred), (plain.start, starred.start)):
        assert one is not None and other is not None
        assert (one.recipe, one.options) == (other.recipe, other.options)
    assert starred.start is not None and not starred.start.recipe.frozen and starred.recipe.frozen
    assert starred.describe()["start"] == "synthcrowd-sha-mini/raznet.stage1-pretrained/seed1"


@pytest.mark.parametrize(
    "id", ["synthcrowd-sense-mini/gnanet.pretrained/seed0", "sensecrowd-paper/gnanet.pretrained/seed0"]
)
def test_the_data_set_for_pretraining_has_nothing_pretrained(id):
    with pytest.raises(CrowdlocError, match=r"is what others are pre-trained on: leave \.pretrained out"):
        Experiment.parse(id)


def test_every_experiment_comes_after_all_that_it_goes_back_to():
    everything = all_experiments()
    assert len(set(everything)) == len(everything)
    for number, experiment in enumerate(everything):
        assert experiment.start is None or experiment.start in everything[:number]
        assert Experiment.parse(experiment.id) == experiment
    last = Experiment.parse("synthcrowd-fdst-mini/gnanet.pretrained/seed1")
    assert [e.id for e in with_starts([last])] == list(reversed(line(last.id)))


@pytest.mark.parametrize("number", ["II", "III", "IV", "V", "VI", "VII"])
def test_every_row_of_the_paper_is_listed(number):
    known = {row: (name, variant) for name, e in METHODS.items() for row, variant in e.rows.get(number, {}).items()}
    for listed in {one.data for one in TABLES[number]}:
        names = {(e.method, e.variant) for e in experiments_of(number, data=listed)}
        assert {known[row] for row in set(table(number)["row"])} <= names


def test_counters_stand_in_tables_on_generated_and_real_data():
    sets = {number: {one.data for one in TABLES[number]} for number in ("VI", "VII")}
    assert sets["VI"] == {*(f"synthcrowd-{d}" for d in ("sense", "fdst", "sha", "shb")),
                          "shanghaitech_a", "shanghaitech_b"}  # fmt: skip
    assert sets["VII"] == {"synthcrowd-sense", "synthcrowd-fdst", "mall"}
    assert {e.seed for number in sets for e in experiments_of(number)} == {0, 1, 2}
    assert Experiment("mall", "mini", "mcnn", 0) in experiments_of("VII")


@pytest.mark.parametrize(("data", "frame", "within"), [
    ("synthcrowd-sense", 288 * 512, 0.0), ("synthcrowd-sha", 288 * 512, 0.0),
    ("mall", 480 * 640, 0.005), ("shanghaitech_b", 768 * 1024, 0.005),
])  # fmt: skip
def test_counters_see_as_many_pixels_whole_as_behind_a_backbone(data, frame, within):
    whole, behind = (Experiment(data, "mini", name, 0) for name in ("mcnn", "csrnet"))
    assert (whole.start, whole.recipe.frozen) == (None, False)
    assert behind.start == Experiment(data, "mini", "raznet", 0, variant="stage1") and behind.recipe.frozen
    crop = whole.recipe.crop
    assert crop is not None and behind.recipe.crop is None
    seen = whole.recipe.steps * whole.recipe.batch_size * crop[0] * crop[1]
    assert seen == pytest.approx(behind.recipe.steps * behind.recipe.batch_size * frame, rel=within, abs=0)


def test_a_counter_may_be_said_to_train_whole(monkeypatch):
    chosen = dataclasses.replace(CHOSEN["mall-mini"], whole=("lstn",), rates={"": 4e-3, "lstn": 3e-3})
    monkeypatch.setitem(CHOSEN, "mall-mini", chosen)
    lstn, epf = (Experiment("mall", "mini", name, 0) for name in ("lstn", "epf"))
    assert (lstn.start, lstn.recipe.frozen, lstn.recipe.learning_rate) == (None, False, 3e-3)
    assert {**chosen.counters}.items() <= dataclasses.asdict(lstn.recipe).items()
    assert epf.start is not None and epf.recipe.frozen


def test_what_locates_or_comes_from_outside_does_not_take_the_recipe_of_counters():
    stage1 = Experiment("mall", "mini", "raznet", 0, variant="stage1").recipe
    assert (stage1.batch_size, stage1.steps) == (6, 800)
    assert {name for name, entry in METHODS.items() if entry.counts} == {
        name for name, entry in METHODS.items() if entry.load().yields == ("count",)
    }


def test_all_data_sets_of_tables_have_a_recipe():
    assert {e.group for e in all_experiments()} <= set(CHOSEN)

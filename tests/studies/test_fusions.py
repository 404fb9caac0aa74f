"""Ways to join attention and feature: every row against every other network, and factors from weights."""

from __future__ import annotations

import pytest
import torch

from crowdloc.models import build_model
from crowdloc.results import runs
from crowdloc.results.experiments import TABLES, Experiment, experiments_of
from crowdloc.results.runs import Run
from crowdloc.studies import fusions


def test_rows_are_all_that_the_table_lists():
    listed = {e.name for e in experiments_of("Fusion", data=TABLES["Fusion"][0].data)}
    assert listed == {*fusions.ROWS.values(), *fusions.AGAINST.values()}


@pytest.mark.parametrize("title", fusions.AGAINST)
def test_without_runs_every_gain_that_the_table_lists_is_not_measured(title):
    found = fusions.gains({key: [] for key in (*fusions.ROWS.values(), *fusions.AGAINST.values())})[f"over {title}"]
    assert found["comparison"].tolist() == list(fusions.ROWS) and set(found["verdict"]) == {"not measured"}
    mall = {e.name: [] for e in experiments_of("Fusion", data="mall")}
    found = fusions.gains(mall)[f"over {title}"]
    assert found["comparison"].tolist() == ["mean, not sum", "learned factor", "1×1 of all, concatenated"]


def test_learned_factors_are_read_from_the_weights(tmp_path, monkeypatch):
    model = build_model("gnanet", width=1 / 64, fusion="gated")
    model.fusion.gate.data = torch.tensor([0.25, -0.5])
    monkeypatch.setattr(runs, "load_model", lambda experiment, path: model)
    run = Run(Experiment("mall", "mini", "gnanet", 2, variant="gated"), "stored", None, None, None, {}, tmp_path)
    assert fusions.gates_text([run]) == "no weights"
    (tmp_path / runs.WEIGHTS).touch()
    assert fusions.gates_text([run]) == "seed 2: +0.250 -0.500"

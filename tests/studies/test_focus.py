"""γ on maps: shares by counting, and the γ that a network learned, read from its weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdloc.models import build_model
from crowdloc.results import runs
from crowdloc.results.experiments import Experiment
from crowdloc.results.runs import Run
from crowdloc.studies import focus


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 7), st.integers(1, 7), st.floats(0, 9))
def test_covered_cells_are_those_that_counting_finds(height, width, radius):
    grid = np.stack(np.divmod(np.arange(height * width), width), axis=-1)
    squared = ((grid[:, None] - grid) ** 2).sum(axis=-1)
    assert focus.covered_share(height, width, radius) == pytest.approx((squared <= radius**2).mean())


def test_the_paper_s_map_and_ours():
    table = focus.reach_table({"paper": (135, 240), "mini": (36, 64)}, gammas=(10, 15)).set_index(["map", "γ"])
    wide, narrow = table.loc[("paper, 135×240", 10)], table.loc[("mini, 36×64", 10)]
    assert wide["as on the first"] == 10 and narrow["as on the first"] == pytest.approx(37.5)
    assert narrow["γ / height (%)"] == pytest.approx(100 * 10 / 36)
    circle = math.pi * 20**2 / (135 * 240)  # away from the border
    assert 0.8 * circle < wide["cells within 2γ (%)"] / 100 < circle
    assert narrow["cells within 2γ (%)"] > 7 * wide["cells within 2γ (%)"]
    assert narrow["draws outside (%)"] == pytest.approx(32, abs=0.5)


def test_learned_gamma_is_read_from_the_weights(tmp_path, monkeypatch):
    model = build_model("gnanet", width=1 / 64, gamma=(5.0,), sampling="limit", learn_gamma=True)
    with torch.no_grad():
        model.temporal_gna.log_gamma.fill_(math.log(7.0))
    monkeypatch.setattr(runs, "load_model", lambda experiment, path: model)
    ids = [Experiment("synthcrowd-sense", "mini", "gnanet", seed, variant="learned") for seed in (0, 1)]
    made = [Run(id, "stored", None, None, None, {}, tmp_path / str(id.seed)) for id in ids]
    assert focus.learned_table(made).empty  # neither keeps its weights
    made[1].folder.mkdir()
    (made[1].folder / runs.WEIGHTS).touch()
    table = focus.learned_table(made)
    assert table["seed"].tolist() == [1, 1, 1] and table["γ before"].tolist() == [5.0] * 3
    assert dict(zip(table["module"], table["γ after"].round(4), strict=True)) == {
        "scene": 5.0, "keyframe": 5.0, "temporal": 7.0}  # fmt: skip
    assert focus.learned_table([Run(made[0].experiment, "stored", None, None, None, {}, Path("/nowhere"))]).empty

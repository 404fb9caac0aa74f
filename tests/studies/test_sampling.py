"""Other draws in a trained network: modules are changed, rows are averaged, times are of what they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crowdloc.benchmarks.attention import Case
from crowdloc.core.errors import CrowdlocError
from crowdloc.models import build_model
from crowdloc.studies import sampling


def test_the_stored_study_of_draws(store_study):
    store_study(
        "draws",
        "sampling,S,draws,mAP σ5,mAP σ20,mAP σ40,mAR σ20,MAE\n"
        "qmc,1,0,0.1,0.2,0.3,0.8,4\nqmc,1,1,0.1,0.4,0.3,0.8,6\nlimit,1,0,0.1,0.5,0.3,0.8,4\n",
    )
    table = sampling.table("draws")
    assert table.loc[("qmc", 1), ["mAP σ20", "MAE", "± MAE"]].tolist() == pytest.approx([0.3, 5, 2**0.5])
    assert np.isnan(table.loc[("limit", 1), "± MAE"])
    with pytest.raises(CrowdlocError, match="not found: restore it"):
        sampling.table("none")


def test_every_attention_module_is_changed():
    model = build_model("gnanet", width=1 / 64)
    sampling.change(model, "qmc", 5, 7)
    modules = [model.scene_gna, model.keyframe_gna, model.temporal_gna]
    assert [(m.sampling, m.num_samples) for m in modules] == [("qmc", 5)] * 3
    assert model.run_seed == 7


def test_cost_by_points_has_a_row_for_each():
    table = sampling.points_cost((2, 4), case=Case(1, 4, 5, 6, 1), turns=2)
    assert table["P"].tolist() == [2, 4, 2, 4] and set(table["backend"]) == {"fused kernel", "eager"}
    assert (table["ms"] > 0).all()


def test_the_stored_studies_of_points(store_study):
    store_study(
        "points",
        "P,sampling,S,draws,mAP σ5,mAP σ20,mAR σ20\n"
        "16,independent,1,0,0.1,0.2,0.8\n16,independent,1,1,0.1,0.4,0.8\n8,independent,1,0,0.1,0.5,0.8\n",
    )
    lines = sampling.points_text("points").splitlines()
    assert lines[-1].split() == ["16", "0.1000", "0.3000", "0.8000", "0.0000", "0.1414", "0.0000", "2"]
    assert lines[-2].split()[:3] == ["1", "8", "0.1000"]
    store_study("cost", "backend,P,ms,extra MiB\neager,8,1.25,3\neager,16,2.5,6\n")
    assert sampling.cost_text("cost").splitlines()[-1].split() == ["16", "2.5", "6.0"]


def test_every_network_of_table_xi_is_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(sampling, "in_the_network",
                        lambda id, variants: asked.append((id, variants)) or pd.DataFrame({"S": [1, 3]}))  # fmt: skip
    table = sampling.by_points("mall-mini/gnanet.gamma5/seed2")
    assert [id for id, _ in asked] == [f"mall-mini/gnanet.{v}/seed2" for v in ("points8", "points16", "gamma5")]
    assert {variants for _, variants in asked} == {(("independent", 1), ("independent", 3))}
    assert table["P"].tolist() == [8, 8, 16, 16, 32, 32]

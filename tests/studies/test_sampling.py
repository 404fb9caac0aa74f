"""Other draws in a trained network: modules are changed, rows are averaged, times are of what they say."""

from __future__ import annotations

import numpy as np
import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.models import build_model
from crowdloc.studies import sampling


def test_the_stored_study_of_draws(tmp_path, monkeypatch):
    monkeypatch.setattr("crowdloc.studies.stored.RESULTS", tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "draws.csv").write_text(
        "sampling,S,draws,mAP σ5,mAP σ20,mAP σ40,mAR σ20,MAE\n"
        "qmc,1,0,0.1,0.2,0.3,0.8,4\nqmc,1,1,0.1,0.4,0.3,0.8,6\nlimit,1,0,0.1,0.5,0.3,0.8,4\n"
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

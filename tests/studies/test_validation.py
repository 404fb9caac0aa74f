"""Stored studies as text: means over seeds, learned γ in the order of size."""

from __future__ import annotations

import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.paths import RESULTS
from crowdloc.studies import validation as studies

HEADER = "group,model,learning_rate,steps,seed,options,mAP σ5,mAP σ20,mAP σ40,mAR σ20,MAE,learned gamma\n"


@pytest.fixture
def stored(tmp_path, monkeypatch):
    (tmp_path / "studies").mkdir()
    monkeypatch.setattr(studies, "RESULTS", tmp_path)
    learn = "\"{'learn_gamma': True, 'gamma': (1.0, 2.0)}\""
    (tmp_path / "studies" / "two.csv").write_text(
        HEADER
        + "g,gnanet,0.004,9,0,{},0.1,0.2,0.3,0.4,5.0,\n"
        + "g,gnanet,0.004,9,1,{},0.1,0.4,0.3,0.4,7.0,\n"
        + f"g,gnanet,0.004,9,0,{learn},0.1,0.2,0.3,0.4,5.0,scene 4.00 1.00; temporal 2.00 3.00\n"
        + f"g,gnanet,0.004,9,1,{learn},0.1,0.2,0.3,0.4,5.0,scene 2.00 2.00; temporal 2.00 3.00\n"
    )
    return "two"


def test_means_and_deviations_over_seeds(stored):
    lines = studies.seeds_text(stored).splitlines()
    assert len(lines) == 3  # the header and two groups
    assert "0.300 ± 0.141" in lines[1]  # (.2 + .4) / 2 and their deviation .2 / √2
    assert "6.00 ± 1.41" in lines[1]
    assert "5.00 ± 0.00" in lines[2]


def test_learned_gamma_is_paired_with_its_start_by_size(stored):
    table = studies.learned_gamma(stored).set_index(["module", "γ before"])
    assert table.loc[("scene", 1.0), ["mean", "lowest", "highest"]].tolist() == [1.5, 1.0, 2.0]
    assert table.loc[("scene", 2.0), ["mean", "lowest", "highest"]].tolist() == [3.0, 2.0, 4.0]
    assert table.loc[("temporal", 2.0), "mean"] == 3.0
    assert len(table) == 4  # the fixed runs have none


def test_every_run_of_a_study_has_its_own_folder():
    for name, runs in studies.STUDIES.items():
        labels = [studies._label(run) for run in runs("synthcrowd-mini")]
        assert len(set(labels)) == len(labels), name
        assert all(set(label) <= set("abcdefghijklmnopqrstuvwxyzT0123456789._-") for label in labels), labels


def test_a_missing_study_names_its_file():
    with pytest.raises(CrowdlocError, match="none.csv not found: restore it"):
        studies.read_study("none")


PLANNED = [
    (name, path.stem)
    for path in sorted((RESULTS / "studies").glob("*.csv"))
    for name in studies.STUDIES
    if path.stem.startswith(f"{name}_")
]


@pytest.mark.parametrize(("name", "stem"), PLANNED, ids=[stem for _, stem in PLANNED])
def test_stored_studies_are_complete(name, stem):
    """Every stored study holds each run of its plan: models, rates, seeds and options as the code states them."""
    runs = studies.STUDIES[name](stem.removeprefix(f"{name}_"))
    planned = {(run["model"], run["learning_rate"], run["seed"], str(run["options"])) for run in runs}
    rows = studies.read_study(stem)
    assert set(zip(rows["model"], rows["learning_rate"], rows["seed"], rows["options"], strict=True)) == planned

"""Stored studies as text: means over seeds, learned γ in the order of size, what comes back as it was written."""

from __future__ import annotations

import pandas as pd
import pytest

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import read_json
from crowdloc.core.provenance import validate
from crowdloc.results.store import promote
from crowdloc.studies import stored as studies

HEADER = "group,model,learning_rate,steps,seed,options,mAP σ5,mAP σ20,mAP σ40,mAR σ20,MAE,learned gamma\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "RESULTS", tmp_path)
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"


@pytest.fixture
def stored(folder):
    learn = "\"{'learn_gamma': True, 'gamma': (1.0, 2.0)}\""
    (folder / "two.csv").write_text(
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
    assert len(studies.seeds_text(stored, by=["model"]).splitlines()) == 2
    assert "seed" not in studies.as_text(stored).split() and studies.as_text(stored).count("\n") == 4


def test_methods_that_only_count_have_no_localization(stored, folder):
    path = folder / "two.csv"
    path.write_text(path.read_text() + "g,mcnn,0.004,9,0,{},,,,,3.0,\n")
    lines = studies.seeds_text(stored, by=["model"]).splitlines()
    assert len(lines) == 3 and "0.250 ± 0.100" in lines[1]  # mAP σ20: .2, .4, .2, .2
    assert lines[2].split() == ["mcnn", "1", "3.00"]
    alone = studies.seeds_text(stored, by=["model"], only=["mcnn"])
    assert alone.split() == ["model", "seeds", "MAE", "mcnn", "1", "3.00"]


def test_rows_are_paired_by_seed_whatever_their_order_and_rate(folder):
    rows = [("whole-b", "", 1, 0.5), ("b", "-0.001", 0, 0.2), ("whole-b", "", 0, 0.25), ("b", "-0.004", 1, 0.7)]
    lines = [f"{name}{rate}-seed{seed},{seed},{value}\n" for name, rate, seed, value in rows]
    (folder / "p.csv").write_text("label,seed,mAP σ20\n" + "".join(lines))
    text = studies.pairs_text("p", {"whole − frozen": ("whole-b", "b")})
    assert text.split() == "mAP σ20 seed 0 seed 1 whole − frozen +0.050 -0.200".split()


def test_learned_gamma_is_paired_with_its_start_by_size(stored):
    table = studies.learned_gamma(stored).set_index(["module", "γ before"])
    assert table.loc[("scene", 1.0), ["mean", "lowest", "highest"]].tolist() == [1.5, 1.0, 2.0]
    assert table.loc[("scene", 2.0), ["mean", "lowest", "highest"]].tolist() == [3.0, 2.0, 4.0]
    assert table.loc[("temporal", 2.0), "mean"] == 3.0
    assert len(table) == 4  # the fixed runs have none


def test_a_missing_study_names_its_file(folder):
    with pytest.raises(CrowdlocError, match="none.csv not found: restore it"):
        studies.read_study("none")


@pytest.mark.parametrize("column", ["trained on", "data"])
def test_transfer_averages_seeds(folder, column):
    """Of the stored table, and of one that the runner makes, whose column has another name."""
    (folder / "transfer.csv").write_text(
        f"{column},tested on,height,seed,images,MAE\n"
        "sense,mall,as is,0,150,4.0\nsense,mall,as is,1,150,6.0\nsense,mall,288,0,150,3.0\n"
    )
    rows = studies.transfer_table().to_dict("records")
    assert rows[0] == {
        "trained on": "sense", "tested on": "mall", "height": "as is", "images": 150.0, "MAE": 5.0, "seeds": 2,
    }  # fmt: skip
    assert (rows[1]["height"], rows[1]["MAE"], rows[1]["seeds"]) == ("288", 3.0, 1)


def test_stored_studies_can_be_shown():
    for path in sorted((paths.RESULTS / "studies").glob("*.csv")):
        assert len(studies.as_text(path.stem).splitlines()) == len(path.read_text().splitlines())
    lines = [line.split()[:3] for line in studies.transfer_text(["sense"]).splitlines()[1:]]
    assert {tested for _, tested, _ in lines} == {"mall", "shanghaitech_b"}  # no generated images among them
    assert {trained for trained, _, _ in lines} - {"sense"} == {"mall", "shanghaitech_b"}
    assert len(lines) == 6
    assert len(studies.learned_gamma("gamma_synthcrowd-mini")) == 18


def test_what_is_written_can_be_promoted(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    table = pd.DataFrame([{"label": "a", "mAP σ20": 0.5, "MAE": float("nan")}])
    path = studies.write_study("tried", table, {"rows": 1})
    assert read_json(path.with_suffix(".json"))["rows"] == 1
    validate(read_json(path.with_suffix(".json"))["provenance"])
    (tmp_path / "results").mkdir()
    assert promote("studies/tried").read_text() == "label,mAP σ20,MAE\na,0.5,\n"

"""The tables of notebook 01 on stored censuses that the tests choose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets import census
from crowdloc.studies import overview


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CROWDLOC_DATA", raising=False)


def test_stored_looks_at_no_folder_that_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROWDLOC_DATA", str(tmp_path))
    assert overview.real_root("stored", "") is None
    assert overview.real_root("stored", str(tmp_path)) == tmp_path
    assert overview.real_root("weights", "") == overview.real_root("train", "") == tmp_path
    monkeypatch.setenv("CROWDLOC_DATA", str(tmp_path / "gone"))
    assert overview.real_root("stored", "") is None
    with pytest.raises(CrowdlocError, match="gone is not a folder"):
        overview.real_root("weights", "")


def test_without_a_data_root_there_is_none(no_environment: None) -> None:
    assert overview.real_root("train", "") is None
    with pytest.raises(CrowdlocError, match="source='full': choose stored, weights, train"):
        overview.real_root("full")


def test_this_run_measures_what_the_depth_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(census, "is_present", lambda name, root: root == tmp_path and name in ("mall", "ucsd"))
    monkeypatch.setattr(census, "measure", lambda name, root, progress: asked.append((name, root)) or {"name": name})
    assert list(overview.this_run("stored", None)) == ["synthcrowd-sense"]
    assert list(overview.this_run("weights", None)) == list(census.GENERATED)
    assert list(overview.this_run("stored", tmp_path)) == ["synthcrowd-sense", "mall", "ucsd"]
    assert asked[-1] == ("ucsd", tmp_path)


def test_totals_keep_the_four_kinds_of_number_apart() -> None:
    mall = census.read("mall")
    assert mall is not None
    rows = overview.totals({"mall": mall | {"annotations": 62_000, "images": 0, "sizes": 0}})
    found = rows[rows["data set"] == "Mall"].set_index("numbers")
    assert found["heads"].to_dict() == {"paper": "62,316", "stored": "62,315", "this run": "62,000"}
    assert found["heads per frame"].to_dict() == {"paper": "31.2", "stored": "31.2", "this run": "31.0"}
    assert found["resolution"].to_dict() == {"paper": "640×480", "stored": "640×480", "this run": "·"}
    part = rows[rows["data set"] == "ShanghaiTech A"].set_index("numbers")["heads"]
    assert part.to_dict() == {"Zhang et al. 2016": "241,677", "stored": "241,677"}
    for name in ("UCSD", "WorldExpo", "FDST", "DroneCrowd", "SenseCrowd"):
        absent = rows[rows["data set"] == name]
        assert absent["numbers"].tolist() == ["paper", "not measured"]
        assert set(absent.iloc[1, 2:]) == {"·"}


def test_resolution() -> None:
    assert overview.resolution({"sizes": 1, "width": [640, 640], "height": [480, 480]}) == "640×480"
    assert overview.resolution({"sizes": 3, "width": [20, 640], "height": [10, 480]}) == "20–640×10–480"
    assert overview.resolution({"sizes": 0, "width": None, "height": None}) == "·"


def test_findings_are_those_of_the_stored_files() -> None:
    table = overview.findings()
    assert set(table.columns) == {"Mall", "ShanghaiTech A", "ShanghaiTech B"}
    assert table.loc["images absent", "Mall"] == "600" and table.loc["most heads in a frame", "Mall"] == "53"
    assert table.loc["images that are copies"].to_dict() == {"Mall": "0", "ShanghaiTech A": "1", "ShanghaiTech B": "0"}
    assert table.loc["points outside the image", "ShanghaiTech A"] == "403"


def test_doubts_name_the_printed_number_and_the_counted_one() -> None:
    table = overview.doubts()
    row = table[table["where"] == "Table I, Mall"].iloc[0]
    assert row["printed"] == "62316" and "62,315" in row["problem"]
    assert "394,000 annotated heads" in table["printed"].tolist() and len(table) == 3


def test_agreement_names_every_set_and_what_differs() -> None:
    sense, mall = census.read("synthcrowd-sense"), census.read("mall")
    assert sense is not None and mall is not None
    lines = overview.agreement({"synthcrowd-sense": sense, "mall": mall | {"images": 2000, "absent": 0}}).splitlines()
    found = {line[:18].strip(): line[18:] for line in lines}
    assert found["SynthCrowd sense"] == "equal to what is stored"
    assert found["Mall"] == "differs from what is stored: absent, images"
    assert found["SynthCrowd sha"] == found["ShanghaiTech B"] == "not measured in this run" and len(found) == 7
    assert "UCSD" in overview.agreement({"ucsd": mall | {"name": "ucsd"}})


def test_contents_are_the_stored_splits() -> None:
    table = overview.contents()
    assert table.index.tolist() == [(d, s) for d in ("sense", "fdst", "sha", "shb") for s in ("train", "val", "test")]
    assert table.loc[("sense", "test"), ["scenes", "frames"]].tolist() == [24, 240]
    row = table.loc[("sha", "test")]
    assert row["mean"] == pytest.approx(row["heads"] / row["frames"]) and row["fewest"] <= row["mean"] <= row["most"]


def test_sets_that_table_1_only_gives_means_of() -> None:
    marks = overview.imitated()
    assert {d: (name, round(mean, 1)) for d, (name, mean) in marks.items()} == {
        "synthcrowd-sense": ("SenseCrowd", 37.2),
        "synthcrowd-fdst": ("FDST", 26.3),
    }


# widths read by eye


@pytest.fixture
def widths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "datasets" / "head_widths.csv"
    path.parent.mkdir()
    path.write_text(
        "name,rows,read,true\nmall,480,8,\nmall,480,4,\nmall,480,,\n"
        "synthcrowd-sha,288,6,8\nsynthcrowd-sha,288,7,14\nsynthcrowd-sha,288,,3\n"
    )
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    return path


def test_widths_are_corrected_by_what_is_known(widths: Path) -> None:
    ratio, deviation, count = overview.reading_ratio()
    assert (ratio, count) == (0.625, 2) and deviation == pytest.approx(0.25 / 2**0.5)
    assert {n: v.tolist() for n, v in overview.read_widths().items()} == {"mall": [4 * 0.6 / 0.625, 8 * 0.6 / 0.625]}


def test_damaged_widths_are_named(widths: Path) -> None:
    widths.write_text("name,rows,read,true\nmall,480,wide,\n")
    with pytest.raises(CrowdlocError, match="head_widths.csv cannot be read: restore it"):
        overview.head_widths()
    widths.unlink()
    with pytest.raises(CrowdlocError, match="head_widths.csv cannot be read: restore it"):
        overview.head_widths()


def test_stored_widths_are_thirty_heads_of_each_set() -> None:
    table = overview.head_widths()
    assert table["name"].value_counts().to_dict() == {
        "mall": 30, "shanghaitech_a": 30, "shanghaitech_b": 30, "synthcrowd-sense": 15, "synthcrowd-sha": 15,
    }  # fmt: skip
    assert (table["true"].notna() == table["name"].str.startswith("synthcrowd")).all()
    assert list(table.columns) == ["name", "rows", "read", "true"]  # no coordinate, no image


def test_quantiles_and_crowding() -> None:
    table = overview.quantiles()
    mall = census.read("mall")
    assert mall is not None
    spread = mall["distributions"]["nearest head"]
    assert table.loc[("nearest head", "Mall")].tolist() == [spread["n"], *spread["quantiles"]]
    by_eye = overview.read_widths()["mall"]
    assert table.loc[("head width", "Mall"), "50 %"] == np.median(by_eye)
    medians = overview.crowding()
    assert len(medians) == 7 and not medians.isna().any(axis=None)
    assert medians.loc["Mall", "nearest in head widths"] == pytest.approx(spread["quantiles"][2] / np.median(by_eye))

"""Rows that must coincide, sums and rates, Table X's times, cells off the pattern: values derived by hand."""

from __future__ import annotations

import pytest

from crowdloc import paper
from crowdloc.paper import coherence as c
from crowdloc.paper import tables


@pytest.fixture
def misprint(monkeypatch):
    """A function that changes one printed cell."""

    def change(number, row, sigma, metric, printed):
        tidy = tables._tidy(number).copy()
        here = (tidy["row"] == row) & (tidy["metric"] == metric) & ((tidy["sigma"] == sigma) if sigma else True)
        assert here.sum() == 1
        tidy.loc[here, ["printed", "value"]] = [printed, float(printed)]
        original = tables._tidy
        monkeypatch.setattr(tables, "_tidy", lambda n: tidy if n == number else original(n))
        tables.cells.cache_clear()

    yield change
    monkeypatch.undo()
    tables.cells.cache_clear()


def test_rows_of_one_model_coincide():
    found = c.coinciding()
    assert found["cells"].tolist() == [12, 20, 12, 6]  # two or three further rows of six cells, two of Table X
    assert (found["differ"] == "").all()
    assert found["rows"][1] == "IX GNANet = XI 32 = XII 5 = VIII SM + K-GNA + T-GNA = X 3"


def test_rows_that_differ_are_named(misprint):
    misprint("XI", "32", 20, "AR.75", "0.863")
    assert c.coinciding()["differ"].tolist() == ["", "AR.75", "", ""]


def test_the_arithmetic_of_the_text():
    found = c.arithmetic().set_index("what")
    assert found["agrees"].all() and len(found) == 13
    assert found.loc["heads in a shot: 2,344,276 / 634", "computed"] == "3,697.6"
    assert found.loc["training shots, %: 497 / 634", "computed"] == "78.4"


def test_a_sum_that_is_off_is_seen(misprint):
    misprint("I", "SenseCrowd", None, "annotations", "2354276")
    found = c.arithmetic().set_index("what")["agrees"]
    assert list(found[~found].index) == ["heads in a shot: 2,344,276 / 634"]


def test_times_of_table_x():
    found = c.times()
    assert found.loc[1, "ms"] == pytest.approx(1000 / 3.45)
    assert found.loc[3, "ms per sampling"] == pytest.approx((1000 / 3.16 - 1000 / 3.45) / 2)
    # The two steps cannot be equal, however the speeds were rounded: the fourth and fifth sampling cost six times more.
    assert found.loc[5, "low"] / found.loc[3, "high"] > 6
    assert found.loc[5, "linear FPS"] == pytest.approx(2.915, abs=1e-3)
    assert found.loc[3, "± mAP by 1/√S"] == pytest.approx(0.004 / 3**0.5)
    assert found.loc[1, "linear FPS"] == pytest.approx(3.45) and found.loc[3, "linear FPS"] == pytest.approx(3.16)
    # (.001 / .004)² · 3 = .1875 with 4 and 4 degrees of freedom: F's distribution is x² (3 + x) / (1 + x)³.
    ratio = 3 / 16
    assert found.loc[3, "p mAP"] == pytest.approx(2 * ratio**2 * (3 + ratio) / (1 + ratio) ** 3)


def test_unusual_cells_are_those_off_the_pattern():
    found = c.unusual()
    rows = {(r.table, r.row, r.sigma, r.kind): r.rules for r in found.itertuples()}
    assert rows["IX", "DFANet", 20, "AP"] == rows["V", "S-GNANet*", 40, "AR"] == "side"
    assert rows["II", "STANet", 40, "AR"] == "side and distance" and rows["III", "RAZNet", 5, "AR"] == "distance"
    assert ("II", "GNANet", 20, "AR") not in rows and not any(key[0] == "X" for key in rows)
    listed = paper.suspicious()
    listed = {(r.table, r.row, int(r.sigma)) for r in listed.itertuples() if r.sigma}
    assert {(r.table, r.row, r.sigma) for r in found.itertuples() if r.sigma > 5} - listed == {
        ("II", "Faster-RCNN", 40)
    }


def test_text_against_tables_starts_with_what_nearly_holds():
    found = c.text_against_tables()
    assert found["failed"].is_monotonic_increasing and (found["exceptions"] != "").all()
    assert set(found["holds_in_print"]) <= {"partly", "no", "undecidable"}
    row = found.set_index("id").loc["gnanet-best-video-counting"]
    assert (row["failed"], row["parts"]) == (1, 16) and "EPF" in row["exceptions"]

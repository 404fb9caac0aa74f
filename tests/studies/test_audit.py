"""The audit in words: explanations side by side, slips by the cells they change, claims that hang on them."""

from __future__ import annotations

import pandas as pd
import pytest

from crowdloc import paper
from crowdloc.paper import feasibility, repairs
from crowdloc.studies import audit


@pytest.fixture(scope="module")
def impossible():
    return feasibility.impossible(("III", "VIII"))


def test_every_explanation_has_a_line(impossible):
    table = audit.contradictions(impossible)
    assert len(table) == impossible.groupby(["table", "row", "changes"]).ngroups == 5
    assert table.iloc[0].tolist() == ["III", "RAZNet", "", "mAP σ 5 .606 (.3972–.5816)"]
    assert table.iloc[1].tolist() == ["", "", "or", "mAR σ 5 .606 (.6306–.7900)"]


def test_slips_are_grouped_by_the_cells_they_change():
    found = repairs.repairs(("VIII", "II"))
    table = audit.slips(found)
    assert table[table["row"] == "STANet"]["undone"].tolist() == ["AR.75 σ 40: .855 → .875, .885, .895"]
    assert table[table["slip"] == repairs.SWAP]["undone"].tolist() == ["AR.50 AR.75 σ 20: .868 .889 → .889 .868"]
    rows = table[table["slip"] == repairs.ROW_DIGIT]["undone"].tolist()
    assert rows[0] == "AR.50 AR.75 mAR σ 20: .870 .855 .844 → .830 .815 .804 (one of 2 ways)" and len(rows) == 2


def test_a_slip_over_two_rows_is_written_row_by_row():
    found = repairs.repairs(("IX",)).query("slip == @repairs.ROWS")
    (row,) = audit.slips(found)["undone"]
    first, second = row.split("; ")
    assert first == "AR.50 AR.75 mAR σ 20: .872 .859 .852 → .833 .825 .824"
    assert second == "AR.50 AR.75 mAR σ 40: .833 .825 .824 → .872 .859 .852"


def test_claims_that_a_correction_would_decide():
    table = audit.deciding(repairs.repairs(("VIII", "V")))
    swap = table[table["undone"] == "AR.50 AR.75 σ 20: .868 .889 → .889 .868"]
    assert swap[["answer", "in"]].to_numpy().tolist() == [["partly → yes", ""]]
    assert swap["claim"].tolist() == ["SM is better than the baseline in every column"]
    ways = table[table["claim"].str.startswith("at σ 20 LANet is not worse")]
    assert ways[["row", "answer", "in"]].to_numpy().tolist() == [["Baseline", "partly → yes", "3 of 4 ways"]]


def test_claims_that_hang_on_disputed_cells():
    table = audit.hanging()
    assert (table["in print"] != table["whatever the cells are"]).all()
    assert set(table["whatever the cells are"]) == {"undecidable"}
    counts = audit.answers()
    assert (counts.sum() == len(paper.claims())).all()
    assert counts.loc["undecidable", "whatever disputed cells are"] == counts.loc["undecidable", "in print"] + len(
        table
    )


def test_sentences_that_nearly_hold():
    table = audit.nearly()
    assert "1 of 16" in set(table["against"]) and table["the text"].str.len().max() <= 72
    assert "VII FDST, MSE: GNANet better than EPF (-0.3)" in set(table["which"])
    place = table.index[table["against"] == "2 of 72"][0]  # the second cell has a line of its own
    assert table.loc[place + 1, ["section", "the text", "against"]].tolist() == ["", "", ""]


def test_text_is_flush_left_and_says_what_is_missing():
    table = pd.DataFrame({"a": ["x", "long"], "b": [0.12345, float("nan")], "c": [1, 20]})
    assert audit.as_text(table).splitlines() == ["a         b   c", "x     0.123   1", "long      –  20"]

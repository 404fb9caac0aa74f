"""Slips that would explain contradictions, and the claims that hang on them."""

from __future__ import annotations

import pytest

from crowdloc import paper
from crowdloc.paper import repairs as r
from crowdloc.paper.feasibility import disputed, methods, possible


def method(number, row):
    ((_, values),) = methods(paper.table(number).query("row == @row")).items()
    return values


@pytest.fixture(scope="module")
def found():
    return r.repairs()


def test_every_contradiction_has_a_slip_that_explains_it(found):
    broken = {(cell.table, cell.row) for cell in disputed()}
    assert set(zip(found["table"], found["row"], strict=True)) == broken


@pytest.mark.parametrize(
    ("number", "row", "slip", "changes"),
    [
        ("VIII", "Baseline", r.SWAP, "AR.50 σ 20: .868 → .889; AR.75 σ 20: .889 → .868"),
        ("III", "GNANet*", r.SWAP, "AR.50 σ 40: .905 → .909; AR.75 σ 40: .909 → .905"),
        ("V", "S-GNANet*", r.SWAP, "AR.75 σ 40: .831 → .838; mAR σ 40: .838 → .831"),
        ("IV", "S-GNANet*", r.DIGITS, "AR.50 σ 20: .843 → .834"),
        ("II", "STANet", r.DIGIT, "AR.75 σ 40: .855 → .895"),
        ("XII", "3", r.DIGIT, "AR.50 σ 20: .782 → .872; mAR σ 40: .856 → .876"),
        ("IX", "LANet", r.ROW_DIGIT, "AR.50 σ 40: .833 → .883; AR.75 σ 40: .825 → .875; mAR σ 40: .824 → .874"),
    ],
)
def test_slips_one_would_look_for(found, number, row, slip, changes):
    rows = found.query("table == @number and row == @row")
    assert (slip, changes) in set(zip(rows["slip"], rows["changes"], strict=True))


def test_exchanging_the_rows_of_raznet_does_not_help_but_those_of_lanet_it_does(found):
    slips = found.groupby(["table", "row"])["slip"].agg(set)
    assert r.ROWS not in slips["II", "RAZNet"] and r.ROWS in slips["IX", "LANet"]


@pytest.mark.parametrize(("number", "row"), [("VIII", "Baseline"), ("IX", "LANet"), ("XII", "10"), ("II", "GNANet")])
def test_what_is_undone_is_possible(number, row):
    values = method(number, row)
    for _, changed in r.undone(values):
        assert possible({**values, **changed})
        assert all(changed[key] != values[key] for key in changed)
    assert bool(r.undone(values)) == (not possible(values))


def test_one_misprint_changes_one_digit_or_exchanges_two():
    slips = dict.fromkeys(r._misprints(0.782))
    assert (r.DIGITS, 0.872) in slips and (r.DIGITS, 0.728) in slips and (r.DIGIT, 0.732) in slips
    assert len(slips) == 2 + 27
    assert len(list(r._misprints(0.606))) == 2 + 27 and len(list(r._misprints(0.776))) == 1 + 27
    assert (r.DIGITS, 0.05) in list(r._misprints(0.005)) and (r.DIGIT, 0.205) in list(r._misprints(0.005))


def test_unswapping_the_baseline_decides_a_claim(found):
    (effect,) = found.query("row == 'Baseline' and slip == @r.SWAP")["effects"]
    assert effect == "scene-modeling-both: partly → yes"
    (lost,) = found[found["changes"].str.contains("AR.50 σ 40: .833 → .883")]["effects"]
    assert lost == "dfanet-recall: yes → no"


def test_effects_of_a_change():
    cell = paper.Cell("VII", "FDST", "GNANet", None, "MSE")
    assert "gnanet-best-video-counting: partly → yes" in r.effects({cell: 2.5})
    assert r.effects({cell: 2.9}) == r.effects({}) == ""


def test_claims_are_decided_by_what_is_undisputed():
    table = r.open_claims().set_index("id")
    print_ = paper.check_claims().set_index("id")["holds_in_print"]
    assert (table["holds_in_print"] == print_).all() and len(table) == len(print_)
    untouched = table["disputed"] == 0
    assert (table.loc[untouched, "holds_whatever"] == table.loc[untouched, "holds_in_print"]).all()
    assert table.loc["dfanet-recall", "holds_whatever"] == "undecidable"  # LANet's cells may be higher or lower
    assert table.loc["detectors-not-capable", "holds_whatever"] == "yes"  # by far, whatever STANet's cell is
    assert table.loc["gnanet-best-sensecrowd", "holds_whatever"] == "partly"  # a part that fails needs no open cell
    changed = {"yes": {"yes", "undecidable"}, "partly": {"partly", "undecidable"}, "undecidable": {"undecidable"}}
    for row in table[~untouched].itertuples():
        assert row.holds_whatever in changed[row.holds_in_print], row.Index

"""The study of Appendix A on one network: a summary with verdicts, and what it is computed from."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import read_json
from crowdloc.results.verdicts import FAILS, HOLDS, INCONCLUSIVE
from crowdloc.studies import appendix_errors
from crowdloc.studies import appendix_study as study
from crowdloc.studies.appendix_maps import EVERY
from crowdloc.studies.neighborhoods import smooth_map
from crowdloc.studies.stored import read_study

FIELD = torch.cat([smooth_map(6, 9, 10, seed=seed) for seed in range(3)])


def frames(*, low=-0.3, high=-0.1, verdicts=(HOLDS, HOLDS), broken=False):
    """What `summary` joins, for one kind "a" of two maps."""
    steps = {"error": 1.0, "triangle": 2.0, "product": 0.5 if broken else 3.0, "halved": 4.0, "bound": 5.0}
    walked = pd.DataFrame([steps | {"diameter": 9.0, "kind": "a", "‖qK₂ᵀ‖": 2.0, "‖V₁‖": 1.0}] * 3)
    compared = pd.DataFrame({"kind": ["a"], "appendix": 8.0, "drawn": 2.0, "variation": 3.0, "mass": 3.0,
                             "distinct": 2.0, "identity": 2.0})  # fmt: skip
    found = pd.DataFrame({"correlation": [-0.2], "low": [low], "high": [high]}, index=["a"])
    index = pd.MultiIndex.from_product([["a"], ["3", "3 5 10"]], names=["kind", "γ"])
    foci = pd.DataFrame({"difference": [-0.1, -0.2], "verdict": verdicts}, index=index)
    rows = [("a", cells, p, m, e) for m in (0, 1) for p, errors in ((2, (1, 2)), (8, (1, 0.5)))
            for cells, e in zip((appendix_errors.GAUSSIAN, appendix_errors.RANDOM), errors, strict=True)]  # fmt: skip
    return walked, compared, found, foci, pd.DataFrame(rows, columns=["kind", "cells", "P", "map", "error"])


def test_summary_by_hand():
    row = study.summary(*frames()).loc["a"]
    assert (row["queries"], row["violations"], row["error"], row["bound"]) == (3, 0, 1, 5)
    assert (row["bound / error: tightest"], row["bound / error: loosest"], row["TV bound / error"]) == (5, 5, 1.5)
    assert row[["bound holds", "similarity falls", "GNA errs less"]].tolist() == [HOLDS] * 3
    assert row["γ 3 5 10: Gaussian − random"] == -0.2 and row["P*"] == pytest.approx(4)


@pytest.mark.parametrize(
    ("changes", "column", "word"),
    [
        ({"broken": True}, "bound holds", FAILS),
        ({"high": 0.1}, "similarity falls", INCONCLUSIVE),
        ({"low": 0.1, "high": 0.2}, "similarity falls", FAILS),
        ({"verdicts": (HOLDS, INCONCLUSIVE)}, "GNA errs less", INCONCLUSIVE),
        ({"verdicts": (INCONCLUSIVE, FAILS)}, "GNA errs less", FAILS),
    ],
)
def test_one_exception_decides(changes, column, word):
    assert study.summary(*frames(**changes)).loc["a", column] == word


def test_the_command_writes_three_tables_that_agree(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(study, "trained_maps", lambda id, number: {"backbone": (FIELD, FIELD)})
    study.main(["--id", "mall-mini/gnanet/seed0"])
    facts = read_json(tmp_path / "studies" / "appendix_mall-mini.json")
    assert facts["network"] == "mall-mini/gnanet/seed0" and facts["map"] == [9, 10]
    with pytest.raises(CrowdlocError, match="appendix_none-mini"):
        study.stored("none-mini")
    monkeypatch.setattr("crowdloc.studies.stored.RESULTS", tmp_path)
    found = study.stored("mall-mini")
    row = found["summary"].loc["backbone"]
    assert row["similarity falls"] == HOLDS == row["bound holds"] and row["queries"] == 2 * len(range(0, 90, EVERY))
    crossover = appendix_errors.crossovers(found["errors"]).loc["backbone", "P*"]
    assert row["P*"] == pytest.approx(crossover, rel=0.01)
    assert sorted(found["similarity"]["map"].unique()) == [0, 1, 2]


def test_stored_rows_stand_below_those_of_now():
    here = pd.DataFrame({"kind": ["a"], "error": [1.0]})
    found = study.beside(here, pd.DataFrame({"kind": ["a", "b"], "error": [2.0, 3.0], "more": 0}))
    assert found.to_dict("list") == {"kind": ["a", "Mall: a", "Mall: b"], "error": [1, 2, 3]}
    table = study.beside(here.set_index("kind"), pd.DataFrame({"more": 0, "error": [2.0]}, index=["a"]))
    assert table["error"].to_dict() == {"a": 1, "Mall: a": 2}


def test_summaries_beside_each_other():
    text = study.as_text(study.summary(*frames()), study.summary(*frames(low=0.1, high=0.2)))
    assert text.splitlines()[0].split() == ["SynthCrowd", "Mall"] and text.splitlines()[1].split() == ["maps", "a", "a"]
    line = next(line for line in text.splitlines() if line.startswith("similarity falls"))
    assert line.split(maxsplit=2)[2].split("does")[0].strip() == HOLDS and line.endswith(FAILS)


@pytest.mark.parametrize("group", ["mall-mini"])
def test_stored_summaries_follow_from_stored_maps(group):
    """Of the stored study: P* again from the errors of every map, the verdicts from their intervals."""
    found = study.stored(group)
    crossover = appendix_errors.crossovers(found["errors"])["P*"]
    table = found["summary"]
    assert table["P*"].to_dict() == pytest.approx(crossover.to_dict(), rel=0.01)
    words = [appendix_errors.verdict(*ends) for ends in zip(table["low"], table["high"], strict=True)]
    assert table["similarity falls"].tolist() == words and (table["violations"] == 0).all()
    assert len(found["similarity"]) == found["similarity"]["map"].nunique() * 41 * len(table)


@pytest.mark.parametrize("group", ["synthcrowd-sense-mini", "mall-mini"])
def test_the_ledger_finds_its_columns(group):
    table = read_study(study.SUMMARY.format(group))
    assert {"maps", "bound holds", "similarity falls", "GNA errs less"} <= set(table)

"""A film by parts: cut by hand, counted by hand, and the stored study against the stored evidence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.results import runs
from crowdloc.results.evidence import Evidence
from crowdloc.results.experiments import Experiment
from crowdloc.studies import drift


def evidence(first: int, scores: list[list[float]], heads: list[int]) -> Evidence:
    """Frames in a row; of every frame the first so many detections as it has heads are hits."""
    flags = [np.tile(np.arange(len(s)) < n, (3, 10, 1)) for s, n in zip(scores, heads, strict=True)]
    names = [f"seq_{first + k:06d}" for k in range(len(heads))]
    return Evidence(names, ["film"] * len(heads), np.array(heads), [np.array(s) for s in scores], flags)


def test_parts_are_consecutive_and_named_by_their_frames():
    found = evidence(801, [[0.9]] * 5, [1, 1, 0, 1, 1])
    cut = dict(drift.parts(found, size=2))
    assert list(cut) == ["801-802", "803-804", "805-805"]
    assert cut["803-804"].heads.tolist() == [0, 1] and cut["803-804"].images == ["seq_000803", "seq_000804"]
    assert [len(part.flags) for part in cut.values()] == [2, 2, 1]


def test_a_part_is_counted_by_hand():
    """Two frames of two heads. At .5 one detection each is counted; from .3 to .4 two and two; at .2 one too many."""
    row = drift.line(evidence(1, [[0.9, 0.4, 0.2], [0.8, 0.45]], [2, 2]), 0.5)
    assert (row["frames"], row["heads"], row["MAE"], row["too many"]) == (2, 2.0, 1.0, -1.0)
    assert (row["precision"], row["recall"]) == (1.0, 0.5)
    assert (row["best"], row["MAE best"]) == (0.4, 0.0)  # the highest of those that count both frames right
    assert (row["lowest"], row["highest"]) == (0.21, 0.4)


def test_tables_by_hand():
    columns = ["name", "seed", "part", "heads", "mAP σ20", "precision", "recall", "threshold", "MAE", "too many",
               "best", "MAE best", "lowest", "highest"]  # fmt: skip
    whole = pd.DataFrame({"name": "", "part": ["601-700", "701-800", "801-900", "901-1000"], "heads": [9, 8, 4, 2.0]})
    rows = [
        ("a", 0, "701-800", 8, 0.8, 0.9, 0.9, 0.5, 1.0, 0.0, 0.5, 1.0, 0.4, 0.6),
        ("a", 0, "801-900", 4, 0.6, 0.9, 0.7, 0.5, 3.0, -3.0, 0.3, 1.5, 0.2, 0.3),
        ("a", 1, "701-800", 8, 0.6, 0.9, 0.9, 0.7, 1.0, 0.0, 0.7, 1.0, 0.6, 0.8),
        ("a", 1, "801-900", 4, 0.4, 0.9, 0.7, 0.7, 1.0, -1.0, 0.8, 0.5, 0.2, 0.3),
    ]
    table = pd.concat([whole, pd.DataFrame(rows, columns=columns)])
    by_part = drift.by_part(table)
    assert by_part.index.tolist() == ["701-800", "801-900", "901-1000"]
    assert by_part.loc["801-900", ["heads", "mAP σ20", "too many", "lower", "of"]].tolist() == [4, 0.5, -2.0, 1, 2]
    assert by_part.loc["901-1000", "heads"] == 2 and by_part.loc["901-1000"].isna().sum() == len(by_part.columns) - 1
    by_network = drift.by_network(table).loc["a"]
    assert by_network[["chosen", "as good from", "to"]].tolist() == pytest.approx([0.6, 0.5, 0.7])
    assert by_network[["best later, lowest", "MAE", "MAE best"]].tolist() == pytest.approx([0.55, 2.0, 1.0])
    assert drift.with_fullness(table) == pytest.approx(1)  # two points lie on a line


def test_the_stored_study_is_what_the_stored_evidence_says():
    table = drift._read()
    rows = table[table["part"] == "1301-1400"].set_index(["name", "seed"])
    for name, seed in (("raznet", 0), ("gnanet", 2)):
        run = runs.read(Experiment("mall", "mini", name, seed))
        assert run is not None and run.evidence is not None and run.threshold is not None
        found = drift.line(dict(drift.parts(run.evidence))["1301-1400"], run.threshold)
        stored = rows.loc[(name, seed)]
        assert {key: stored[key] for key in found} == pytest.approx(found)


def test_what_notebook_20_says_of_it():
    by_part = drift.by_part()
    later = by_part.loc["801-900":].dropna()
    assert (later["too many"] < 0).all() and (later["MAE"] > by_part.loc["701-800", "MAE"]).all()
    assert by_part.loc["1301-1400", "MAE"] == later["MAE"].max()
    assert drift.with_fullness() > 0.7
    networks = drift.by_network()
    assert (networks["best later, lowest"] < networks["as good from"] - 0.05).all()


def test_texts_name_parts_and_leave_out_what_is_not_here():
    lines = drift.parts_text().splitlines()
    assert len(lines) == 14 and lines[1].split()[:2] == ["701-800", "35.8"] and lines[-1].split()[0] == "1901-2000"
    assert all(word == "-" for word in lines[-1].split()[2:])
    assert [line.split()[0] for line in drift.networks_text().splitlines()[1:]] == sorted(
        ["raznet", "frame-stack", "s-gnanet", "gnanet"]
    )


def test_the_picture_has_a_bar_for_every_part_and_a_point_for_every_measured_one():
    from crowdloc.figures import drift as figures

    along, against = figures.parts(drift.by_part()).axes
    assert len(along.patches) == 13
    assert sorted(text.get_text() for text in against.texts) == sorted(f"{k}01" for k in range(7, 14))


def test_without_a_stored_result_there_is_nothing_to_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RESULTS", tmp_path)
    with pytest.raises(CrowdlocError, match="mall-mini/raznet/seed0 has no stored result with a threshold"):
        drift.measure(Experiment("mall", "mini", "raznet", 0))

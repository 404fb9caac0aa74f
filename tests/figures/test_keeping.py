"""Pictures and the numbers that they show, by hand."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from crowdloc.figures import keeping


@pytest.fixture
def figure():
    made, (left, right) = plt.subplots(1, 2)
    left.plot([1, 2], [3.5, 4.5], label="one")
    left.axhline(7)  # for orientation
    left.scatter([5], [6], label="two")
    left.set_title("left")
    right.bar([0, 1], [2, 3], width=0.5)
    right.barh([0.0], [9.0], height=0.2, left=1.0)
    right.errorbar([1], [2], yerr=[[0.5], [1.0]], fmt="o", label="three")
    right.fill_between([0, 1], [0, 0], [1, 2], label="four")
    right.imshow([[1, 2]])
    yield made
    plt.close(made)


def test_numbers_are_those_that_are_drawn(figure):
    table = keeping.numbers(figure)
    rows = list(table.itertuples(index=False, name=None))
    assert rows[:3] == [
        ("left", "line", "one", 1, 3.5),
        ("left", "line", "one", 2, 4.5),
        ("left", "points", "two", 5, 6),
    ]
    right = [row[1:] for row in rows if row[0] == "1"]
    assert ("line", "three", 1, 2) in right  # the point of the error bar
    assert [row for row in right if row[0] == "bar"][:2] == [("bar", "", 0, 2), ("bar", "", 1, 3)]
    assert [row[2:] for row in right if row[0] == "interval"] == [(1, 1.5), (1, 3)]
    assert {row[2:] for row in right if row[:2] == ("band", "four")} >= {(0, 0), (1, 2)}
    assert not any(7 in row for row in rows)


def test_a_picture_without_numbers_has_no_table(tmp_path):
    made, axes = plt.subplots()
    axes.imshow([[1, 2]])
    keeping.write(made, tmp_path / "00.png")
    plt.close(made)
    assert [path.name for path in tmp_path.iterdir()] == ["00.png"]


def test_what_is_shown_is_kept_once_and_in_order(figure, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(plt, "show", lambda: told.append("shown"))
    monkeypatch.delenv(keeping.FOLDER, raising=False)
    keeping.keep_what_is_shown()
    plt.show()
    assert told == ["shown"]
    monkeypatch.setenv(keeping.FOLDER, str(tmp_path / "02"))
    keeping.keep_what_is_shown()
    keeping.keep_what_is_shown()  # a second call changes nothing
    plt.show()
    plt.show()
    assert told == ["shown"] * 3
    assert sorted(path.name for path in (tmp_path / "02").iterdir()) == ["00.csv", "00.png", "01.csv", "01.png"]
    assert list(pd.read_csv(tmp_path / "02" / "00.csv")["label"].dropna().unique()) == ["one", "two", "three", "four"]

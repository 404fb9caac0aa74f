"""Artefacts of the paper: their names, and rough times."""

from __future__ import annotations

import pytest

from crowdloc import paper
from crowdloc.reproduce import artefacts
from crowdloc.results.experiments import Experiment


def test_tables_are_those_of_the_paper_and_every_notebook_is_listed_once():
    assert [name.removeprefix("Table ") for name in artefacts.ARTEFACTS if name.startswith("Table ")] == [
        *paper.NUMBERS
    ]
    found = artefacts.artefacts()
    assert [a.path for a in found if a.path is not None] == artefacts.notebooks.numbered()
    assert len({a.number for a in found}) == len(found)


DURATIONS = [(20, "20 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (7200, "2.0 h")]


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_durations(seconds, text):
    assert artefacts._duration(seconds) == text


def test_training_takes_longer_than_weights_which_take_longer_than_what_is_stored():
    one = [Experiment("synthcrowd-sense", "mini", "gnanet", seed) for seed in range(3)]
    stored, weights, train = (artefacts._seconds(one, source) for source in ("stored", "weights", "train"))
    assert stored < weights < train
    assert artefacts._seconds(one[:1], "train") == train  # one seed of each below "stored"

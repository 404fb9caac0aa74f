"""Networks on footage that they were not trained on: a line by hand, and what the default rests on."""

from __future__ import annotations

import numpy as np
import pytest

from crowdloc.results.evidence import Evidence
from crowdloc.results.networks import PREFERRED
from crowdloc.studies import foreign
from crowdloc.studies.stored import read_study


def test_a_line_by_hand():
    """Two heads, one of them found: half of them at most are ever detected, and .4 counts both frames right."""
    flags = [np.tile([[True, False]], (3, 10, 1)), np.zeros((3, 10, 0), bool)]
    found = Evidence(["a", "b"], ["s"] * 2, np.array([2, 0]), [np.array([0.9, 0.4]), np.zeros(0)], flags)
    row = foreign.line(found, 0.5)
    assert (row["images"], row["heads"], row["ceiling"]) == (2, 1.0, 0.5)
    assert (row["MAE"], row["best"], row["MAE best"]) == (0.5, 0.4, 0.0)


def test_the_stored_study_is_of_the_default_and_its_rivals():
    rows = read_study(foreign.STUDY)
    assert set(rows["trained on"]) == {group.removesuffix("-mini") for group in PREFERRED}
    assert set(rows["tested on"]) == {foreign.FILM, *foreign._SETS} and len(rows) == 16


@pytest.mark.parametrize("method", foreign.METHODS)
def test_the_default_is_ahead_where_neither_was_trained(method):
    """By mAP and by what is detected at all; counts need `calibrate`, for no threshold is the best one elsewhere."""
    rows = read_study(foreign.STUDY)
    rows = rows[rows["method"] == method].set_index(["tested on", "trained on"])
    default, other = (group.removesuffix("-mini") for group in PREFERRED)
    for place in ("ShanghaiTech B", foreign.FILM):
        for column in ("mAP σ20", "ceiling"):
            assert float(rows.loc[(place, default), column]) > float(rows.loc[(place, other), column]) + 0.05
        assert float(rows.loc[(place, default), "MAE"]) > float(rows.loc[(place, default), "MAE best"])

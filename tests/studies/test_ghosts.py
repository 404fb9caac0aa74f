"""False detections where a head was a frame ago."""

import numpy as np
import pytest

from crowdloc.results.tables import read_table
from crowdloc.studies.ghosts import Ghosts, ghosts, ghosts_table

NOBODY = np.zeros((0, 2))


def at(*places: tuple[float, float]) -> np.ndarray:
    return np.array(places, dtype=np.float64).reshape(-1, 2)


def test_a_false_detection_is_a_ghost_where_someone_was_and_nobody_is():
    false = at((10, 10), (20, 10), (30, 10), (90, 90))
    before, now, after = at((10, 13), (20, 10)), at((20, 12)), at((30, 6), (33, 10))
    assert ghosts(false, before, now, after, reach=4.0) == Ghosts(false=4, before=1, after=1)


def test_exactly_the_reach_is_near_and_a_little_more_is_not():
    assert ghosts(at((0, 0)), at((3, 4)), NOBODY, NOBODY, reach=5.0).before == 1
    assert ghosts(at((0, 0)), at((3, 4)), NOBODY, NOBODY, reach=4.999).before == 0


@pytest.mark.parametrize("false", [NOBODY, at((5, 5))])
def test_empty_frames_have_no_ghosts(false):
    assert ghosts(false, NOBODY, NOBODY, NOBODY, reach=5.0) == Ghosts(len(false), 0, 0)


def test_a_method_that_sees_one_frame_errs_as_often_on_the_last_frames_heads_as_on_the_nexts():
    table = read_table("II", data="synthcrowd-sense", preset="mini")
    rows = ghosts_table({"raznet": table["raznet"], "nothing": []})
    assert rows["method"].tolist() == ["RAZNet"]
    before, after = (float(rows.loc[0, side].split(" ±")[0]) for side in ("before (%)", "after (%)"))
    assert abs(before - after) <= 1

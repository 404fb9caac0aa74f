"""False detections where a head was a frame ago."""

import numpy as np
import pytest

from crowdloc.results.tables import read_table
from crowdloc.studies import ghosts as module
from crowdloc.studies.ghosts import Ghosts, ghosts, ghosts_table

NOBODY = np.zeros((0, 2))


def at(*places: tuple[float, float]) -> np.ndarray:
    return np.array(places, dtype=np.float64).reshape(-1, 2)


def test_a_false_detection_is_a_ghost_where_someone_was_and_nobody_is():
    false = at((10, 10), (20, 10), (30, 10), (90, 90))
    before, now, after = at((10, 13), (20, 10)), at((20, 12)), at((30, 6), (33, 10))
    assert ghosts(false, before, now, after, far=4.0) == Ghosts(false=4, before=1, after=1)


def test_exactly_the_reach_is_near_and_a_little_more_is_not():
    assert ghosts(at((0, 0)), at((3, 4)), NOBODY, NOBODY, far=5.0).before == 1
    assert ghosts(at((0, 0)), at((3, 4)), NOBODY, NOBODY, far=4.999).before == 0


@pytest.mark.parametrize("false", [NOBODY, at((5, 5))])
def test_empty_frames_have_no_ghosts(false):
    assert ghosts(false, NOBODY, NOBODY, NOBODY, far=5.0) == Ghosts(len(false), 0, 0)


def test_a_method_that_sees_one_frame_errs_as_often_on_the_last_frames_heads_as_on_the_nexts():
    table = read_table("II", data="synthcrowd-sense", preset="mini")
    rows = ghosts_table({"raznet": table["raznet"], "nothing": []})
    assert rows["method"].tolist() == ["RAZNet"]
    before, after = (float(rows.loc[0, side].split(" ±")[0]) for side in ("before (%)", "after (%)"))
    assert abs(before - after) <= 1


def test_the_frame_shown_is_the_one_whose_people_moved_farthest(monkeypatch):
    """By track ids, whatever a network finds there; in a first frame nobody has moved."""
    group = read_table("II", data="synthcrowd-sense", preset="mini")["raznet"]
    shown = []
    monkeypatch.setattr(module, "examples", lambda group, indices: shown.extend(indices) or ["seen"])
    moved = module.farthest(group)
    dataset = group[0].experiment.load("val")
    (index,) = shown
    before, now = (dataset.frame(i) for i in dataset.neighbours(index, (-1, 0)))
    assert moved.now == "seen" and before.scene == now.scene and before is not now
    np.testing.assert_array_equal(moved.heads, before.points)
    steps = []
    for i in range(len(dataset)):
        first, second = (dataset.frame(k) for k in dataset.neighbours(i, (-1, 0)))
        places = dict(zip(first.track_ids, first.points, strict=True))
        walked = [
            np.hypot(*(p - places[t])) for t, p in zip(second.track_ids, second.points, strict=True) if t in places
        ]
        steps.append(np.median(walked) if walked else 0)
    assert np.argmax(steps) == index and steps[0] == 0

"""The drawn film of notebook 22: heads are where the table says, and it is what `datasets.own` describes."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.own import load_own
from crowdloc.results.recording import Located, Recording
from crowdloc.studies import footage


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return footage.draw(tmp_path_factory.mktemp("drawn"), frames=10)


def test_the_table_is_complete_and_true(drawn):
    data = load_own(drawn / "plaza")
    truth = pd.read_csv(drawn / "truth.csv")["heads"].tolist()
    assert len(truth) == 10 and [len(frame.points) for frame in data.frames] == truth[::2]
    assert cv2.VideoCapture(str(drawn / "film.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 10
    frame, image = data.frames[0], data.image(0).astype(float)
    red = cv2.blur(image[..., 0] - image[..., 2], (3, 3))  # faces are redder than tiles and wall
    assert len(frame.points) > 5
    bare = []
    for k, (x, y) in enumerate(frame.points.astype(int)):
        if np.hypot(*(np.delete(frame.points, k, axis=0) - frame.points[k]).T).min() > 40:  # nobody stands before it
            bare.append(red[max(y - 6, 0) : y + 7, max(x - 6, 0) : x + 7].max())
    assert min(bare) > red[:40].max() + 5


def test_the_same_seed_draws_the_same_and_another_does_not(drawn, tmp_path):
    table = "plaza/points.csv"
    again, other = footage.draw(tmp_path / "a", frames=10), footage.draw(tmp_path / "b", frames=10, seed=1)
    assert (again / table).read_bytes() == (drawn / table).read_bytes() != (other / table).read_bytes()


def test_the_error_over_the_film(drawn, tmp_path):
    heads = pd.read_csv(drawn / "truth.csv")["heads"]
    with Recording(tmp_path / "out", {}) as recording:
        for number, count in enumerate(heads[:-1]):
            recording.add(Located(number, np.zeros((count + number % 2, 2)), np.ones(count + number % 2)))
        with pytest.raises(CrowdlocError, match="holds 9 of 10 frames"):
            footage.film_error(drawn, tmp_path / "out")
        recording.add(Located(9, np.zeros((0, 2)), np.ones(0)))
    assert footage.film_error(drawn, tmp_path / "out") == pytest.approx((4 + heads.iloc[-1]) / 10)


def test_stills_beyond_the_end_are_refused(drawn, tmp_path):
    (tmp_path / "annotated.mp4").write_bytes((drawn / "film.mp4").read_bytes())
    assert [still.shape for still in footage.stills(tmp_path, (0, 9))] == [(footage.HEIGHT, footage.WIDTH, 3)] * 2
    with pytest.raises(CrowdlocError, match="ends before frame 10"):
        footage.stills(tmp_path, (10,))

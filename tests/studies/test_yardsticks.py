"""Yardsticks of localization: centres of boxes by hand, and points drawn anywhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.paths import RESULTS
from crowdloc.datasets.base import ClipDataset
from crowdloc.metrics import COLUMNS
from crowdloc.results.formats import read_truth
from crowdloc.studies import stored, yardsticks
from tests.helpers import disc_video


def test_the_annotations_are_those_that_results_are_measured_against():
    truth = read_truth(RESULTS / "truth" / "synthcrowd-sense-mini-test.parquet")
    frames = yardsticks.annotated("synthcrowd-sense").frames
    assert [frame.id for frame in frames] == truth.images and [frame.scene for frame in frames] == truth.scenes
    assert all((frame.points == points).all() for frame, points in zip(frames, truth.points, strict=True))
    assert all(frame.boxes is not None and len(frame.boxes) == len(frame.points) for frame in frames)


def boxed(video: ClipDataset, shift: float) -> ClipDataset:
    """The discs with boxes whose centres lie so many pixels below them."""
    low, high = (-6.0, shift - 6.0), (6.0, shift + 6.0)
    frames = [dataclasses.replace(f, boxes=np.hstack([f.points + low, f.points + high])) for f in video.frames]
    return ClipDataset(frames, name=video.name)


def test_centres_of_boxes_lose_what_their_distance_from_the_head_costs(tmp_path, monkeypatch):
    video = disc_video(tmp_path, frames=2)
    # 5 pixels of a 1080-row frame: similarity exp(-1/2) = .607 at σ 5, above three of the ten thresholds.
    monkeypatch.setattr(yardsticks, "annotated", lambda *_: boxed(video, 5 / 3.75))
    found = yardsticks.box_centres("synthcrowd-sense")
    assert found.loc[5].tolist() == pytest.approx([1, 0, 0.3, 1, 0, 0.3])
    assert found.loc[20, "mAP"] == 1  # exp(-1/32) = .969
    assert yardsticks.offsets("synthcrowd-sense").tolist() == pytest.approx([0, 5, 5, 5])


def test_drawn_points_are_as_many_as_the_heads_and_anywhere_in_the_image(tmp_path):
    video = disc_video(tmp_path, frames=3)
    sizes = [(64, 48)] * 3
    first, again, other = (yardsticks.drawn(video, sizes, seed) for seed in (0, 0, 1))
    for prediction, same, another, frame in zip(first, again, other, video.frames, strict=True):
        assert prediction.points is not None and prediction.points.shape == frame.points.shape
        assert (prediction.points == same.points).all() and (prediction.points != another.points).all()
        assert (prediction.points >= -0.5).all() and (prediction.points < (63.5, 47.5)).all()
        assert (np.diff(prediction.scores) <= 0).all()


def test_the_study_has_means_over_draws(tmp_path, monkeypatch):
    video = disc_video(tmp_path, frames=2)
    monkeypatch.setattr(yardsticks, "_test_images", lambda *_: video)
    table = yardsticks.make(["shanghaitech_a"], draws=3)
    assert table["sigma"].tolist() == [5, 20, 40] and (table["draws"] == 3).all() and (table["images"] == 2).all()
    assert (table[list(COLUMNS)].diff().dropna() >= 0).all(axis=None)  # a larger σ forgives more
    single = pd.concat([yardsticks.make(["mall"], draws=n)[["mAP"]] for n in (1, 3)], axis=1).to_numpy()
    assert (single[1:, 0] != single[1:, 1]).all()
    monkeypatch.setattr(stored, "RESULTS", tmp_path)
    (tmp_path / "studies").mkdir()
    table.to_csv(tmp_path / "studies" / "random_points.csv", index=False)
    assert (yardsticks.random_points("shanghaitech_a").to_numpy() == table[list(COLUMNS)].to_numpy()).all()
    with pytest.raises(CrowdlocError, match="study random_points has no data set 'ucsd'"):
        yardsticks.random_points("ucsd")

"""Statistics of data sets, by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.datasets.statistics import box_sizes, heads_per_frame, nearest_distances, summarise


@pytest.fixture
def dataset(tmp_path: Path) -> ClipDataset:
    """Frames of 40 x 50 pixels with three, one and no heads; the first has boxes."""
    points = [[(0, 0), (3, 4), (3, 16)], [(5, 5)], []]
    boxes = [[(0, 0, 4, 9), (0, 0, 2, 2), (5, 5, 5, 9)], None, None]
    frames = []
    for number, (where, around) in enumerate(zip(points, boxes, strict=True)):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.zeros((40, 50, 3), np.uint8))
        frames.append(Frame(str(number), "scene", path, np.array(where), None if around is None else np.array(around)))
    return ClipDataset(frames, name="tiny")


def test_values_by_hand(dataset: ClipDataset) -> None:
    assert heads_per_frame(dataset).tolist() == [3, 1, 0]
    assert box_sizes(dataset).tolist() == [6, 2, 0]
    assert nearest_distances(dataset).tolist() == [5, 5, 12]


def test_sizes_scale_with_the_image_height(dataset: ClipDataset) -> None:
    assert box_sizes(dataset, height=80).tolist() == [12, 4, 0]
    assert nearest_distances(dataset, height=10).tolist() == [1.25, 1.25, 3]


def test_summary(dataset: ClipDataset) -> None:
    table = summarise(dataset)
    assert table.index.tolist() == ["heads per frame", "box size", "nearest head"]
    assert table["count"].tolist() == [3, 3, 3] and table.loc["nearest head", "50%"] == 5
    assert table.loc["heads per frame", "mean"] == pytest.approx(4 / 3)


def test_a_set_without_boxes_or_neighbours(dataset: ClipDataset) -> None:
    lonely = dataset.subset([1, 2])
    assert box_sizes(lonely).shape == nearest_distances(lonely).shape == (0,)
    assert summarise(lonely).loc["box size", "count"] == 0

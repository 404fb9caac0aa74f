"""Statistics of data sets, by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.datasets.statistics import (
    EDGES,
    box_sides,
    box_sizes,
    heads_per_frame,
    nearest,
    nearest_distances,
    spread,
    summarise,
)


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


def test_spread_by_hand() -> None:
    found = spread(np.array([0, 0.5, 1, 2, 4.0]))
    assert found["n"] == 5 and found["mean"] == 1.5 and found["quantiles"] == [0.1, 0.5, 1, 2, 3.6]
    where = {float(EDGES[i]): n for i, n in enumerate(found["histogram"]) if n}
    assert where == {0.5: 1, 1.0: 1, 2.0: 1, 4.0: 1}  # 0 lies below the first edge
    assert EDGES[0] == 0.25 and EDGES[-1] == 4096


def test_spread_of_nothing() -> None:
    found = spread(np.zeros(0))
    assert found["n"] == 0 and found["mean"] is None and set(found["quantiles"]) == {None}
    assert sum(found["histogram"]) == 0 and len(found["histogram"]) == len(EDGES) - 1


def test_nearest_and_sides_by_hand() -> None:
    assert nearest(np.array([[0, 0], [3, 4], [3, 16.0]])).tolist() == [5, 5, 12]
    assert nearest(np.zeros((1, 2))).shape == nearest(np.zeros((0, 2))).shape == (0,)
    assert nearest(np.ones((2, 2))).tolist() == [0, 0]  # repeated points
    assert box_sides(np.array([[0, 0, 4, 9], [5, 5, 5, 9.0], [9, 9, 1, 1]])).tolist() == [6, 0, 0]

"""Which head a detection takes: consistent with the flags from which every metric follows."""

from __future__ import annotations

import numpy as np
import pytest

from crowdloc.metrics import match_image, matched_heads


def test_a_head_goes_to_the_surer_detection_and_the_other_is_false() -> None:
    points, scores = [[11.0, 10.0], [10.0, 10.0], [50.0, 10.0]], [0.3, 0.9, 0.5]
    truth = [[10.0, 10.0], [90.0, 10.0]]
    assert matched_heads(points, scores, truth, 5).tolist() == [1, -1]
    assert matched_heads(points, scores, truth, 40).tolist() == [1, 2]
    assert matched_heads(points, scores, truth, 5, scale=0.1).tolist() == [1, 2]  # 40 px are 4
    assert matched_heads([], [], truth, 5).tolist() == [-1, -1] and matched_heads(points, scores, [], 5).size == 0


@pytest.mark.parametrize("similarity", [0.5, 0.75])
def test_matched_detections_are_those_of_the_flags(similarity: float) -> None:
    random = np.random.default_rng(3)
    for _ in range(30):
        points, truth = random.random((40, 2)) * 60, random.random((25, 2)) * 60
        scores = np.round(random.random(40), 1)  # ties
        order, flags = match_image(points, scores, truth, 5, [similarity])
        found = matched_heads(points, scores, truth, 5, similarity)
        taken = found[found >= 0]
        assert sorted(taken) == sorted(order[flags[0]]) and len(set(taken)) == len(taken)
        distance = np.linalg.norm(points[taken] - truth[found >= 0], axis=1)
        assert (np.exp(-(distance**2) / 50) >= similarity).all()

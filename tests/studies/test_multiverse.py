"""Every choice of a protocol by hand, its neutral value changes nothing, and shortcuts equal the long way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.metrics import localization_scores
from crowdloc.models.decoding import find_peaks
from crowdloc.results import runs
from crowdloc.results.experiments import Experiment
from crowdloc.studies import multiverse
from crowdloc.studies.multiverse import Located

SIZE = (36, 64)


def images(points, scores, truth=None, scale=1.0, threshold=0.5) -> Located:
    places = [np.array(p, dtype=np.float64).reshape(-1, 2) for p in points]
    heads = places if truth is None else [np.array(t, dtype=np.float64).reshape(-1, 2) for t in truth]
    return Located(places, [np.array(s, dtype=np.float64) for s in scores], heads, SIZE, scale, threshold)


def random_images(seed: int, number: int = 4, heads: int = 12) -> Located:
    rng = np.random.default_rng(seed)
    truth = [rng.random((heads, 2)) * (63, 35) for _ in range(number)]
    points = [np.concatenate([t + rng.normal(0, 1.5, t.shape), rng.random((8, 2)) * (63, 35)]) for t in truth]
    scores = [np.sort(rng.integers(4, 20, len(p)) / 20)[::-1] for p in points]
    return images(points, scores, truth)


def test_floor_and_number_cut_the_falling_scores():
    some = images([[(1, 1), (2, 2), (3, 3)], []], [[0.9, 0.5, 0.2], []])
    assert [s.tolist() for s in multiverse.above(some, 0.5).scores] == [[0.9, 0.5], []]
    assert [p.tolist() for p in multiverse.at_most(some, 1).points] == [[[1, 1]], []]
    assert multiverse.above(some, 0.5).truth is some.truth  # heads stay


def test_what_lies_near_the_border_is_left_out_on_both_sides():
    some = images([[(5, 5), (4.9, 9), (58, 30), (58.1, 9), (9, 30.5)]], [[0.9, 0.8, 0.7, 0.6, 0.5]], [[(4, 9), (9, 9)]])
    cut = multiverse.away_from_border(some, 5)
    assert cut.points[0].tolist() == [[5, 5], [58, 30]] and cut.truth[0].tolist() == [[9, 9]]
    assert cut.scores[0].tolist() == [0.9, 0.7]


def test_zeros_outside_lower_scores_at_the_border_as_they_do_in_a_map():
    rng = np.random.default_rng(0)
    probability = rng.random(SIZE).astype(np.float32)
    found = find_peaks(probability, subpixel=True)
    some = images([found.points], [found.scores])
    lowered = multiverse.padded_with_zeros(some)
    padded = np.pad(probability.astype(np.float64), 1)
    mean = sum(padded[y : y + SIZE[0], x : x + SIZE[1]] for y in range(3) for x in range(3)) / 9
    x, y = np.rint(lowered.points[0]).astype(int).T
    assert lowered.scores[0] == pytest.approx(mean[y, x], abs=1e-6)
    assert (np.diff(lowered.scores[0]) <= 0).all() and (lowered.scores[0] < found.scores.max()).any()
    corner = multiverse.padded_with_zeros(images([[(0, 0), (63, 9), (9, 9), (0, 1)]], [[0.9, 0.9, 0.6, 0.06]]))
    assert corner.scores[0] == pytest.approx([0.6, 0.6, 0.4])  # 0.06 at the border falls below the floor
    assert corner.points[0].tolist() == [[63, 9], [9, 9], [0, 0]]


@pytest.mark.parametrize("side", [3, 7, 11])
def test_peaks_of_a_wider_window_are_among_those_that_remain(side):
    rng = np.random.default_rng(side)
    probability = rng.random(SIZE).astype(np.float32)
    peaks = find_peaks(probability, subpixel=True, smoothing=False)
    kept = multiverse.peaks_of_window(images([peaks.points], [peaks.scores]), side)
    reach = side // 2
    expected = {
        (x, y)
        for y in range(SIZE[0])
        for x in range(SIZE[1])
        if probability[y, x] >= 0.05
        and probability[y, x] == probability[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].max()
    }
    found = {(int(x), int(y)) for x, y in np.rint(kept.points[0])}
    assert expected <= found
    assert len(found) == len(peaks.scores) if side == 3 else len(found) < len(peaks.scores)


def test_windows_by_hand():
    some = images([[(10, 10), (10.4, 6.6), (13, 13), (14, 10)]], [[0.9, 0.9, 0.8, 0.7]])
    kept = multiverse.peaks_of_window(some, 7)  # 3 px away counts, 4 px not; equal ones stay
    assert kept.scores[0].tolist() == [0.9, 0.9]
    assert multiverse.peaks_of_window(some, 5).scores[0].tolist() == [0.9, 0.9, 0.8, 0.7]


def test_moving_and_rounding_coordinates():
    some = images([[(1.9, 2.5)]], [[0.9]], scale=3.75)
    assert multiverse.moved(some, 1).points[0].tolist() == [[2.9, 3.5]]
    assert multiverse.floored(some).points[0].tolist() == [[1, 2]]


def test_one_pixel_is_one_of_the_pixels_of_sigma():
    exact = images([[(10, 10)]], [[0.9]], [[(10, 10)]], scale=4.0)
    scores = multiverse.ranked(exact)
    assert scores[multiverse.REFERENCE] == pytest.approx({"mAP": 1, "mAR": 1})
    # √2 px at σ 5 is a similarity of .96, 4√2 px one of .53: at one threshold of ten.
    near = multiverse.average_precision(multiverse.moved(exact, 1 / 4), 5)
    far = multiverse.average_precision(multiverse.moved(exact, 1.0), 5)
    assert near["mAP"] == pytest.approx(1) and far["mAP"] == pytest.approx(0.1)
    assert scores["coordinates", "1-based: +1 px"]["mAP"] == pytest.approx(1)
    away = multiverse.ranked(multiverse.moved(exact, 1.0))  # by √2 px of the frame: .96 at its σ 5, as above
    assert away["σ", "5, in pixels of the frame"]["mAP"] == pytest.approx(1) != away["σ", "5"]["mAP"]


def test_choices_are_changed_alone():
    some = replace(random_images(1), threshold=0.9)
    scores = multiverse.ranked(some)
    before = scores[multiverse.REFERENCE]
    assert scores["detections per image", "100 (COCO boxes)"] == before  # no image has so many
    assert scores["detections per image", "50"] == before
    assert scores["σ", "20, in pixels of the frame"] == before  # at scale 1
    assert scores["σ", "5, in pixels of the frame"] == scores["σ", "5"]
    assert scores["σ", "5"]["mAP"] < before["mAP"] <= scores["σ", "40"]["mAP"]
    assert scores["score floor", "counting threshold"] == multiverse.average_precision(multiverse.above(some, 0.9))
    assert scores["score floor", "counting threshold"]["mAR"] < before["mAR"]


def test_the_field_s_metrics_by_hand():
    some = images([[(10, 10), (20, 13), (40, 30)]], [[0.9, 0.8, 0.3]], [[(10, 10), (20, 10)]], threshold=0.5)
    found = multiverse.of_the_field(some, [np.array([4.0, 6.0])])
    assert found["NWPU, σ per head", "small"]["F1"] == 1.0  # radii 2 and 3
    assert found["NWPU, σ per head", "large"]["F1"] == 1.0
    smaller = multiverse.of_the_field(some, [np.array([4.0, 4.2])])
    assert smaller["NWPU, σ per head", "small"]["recall"] == 0.5  # 2.1 px for 3
    assert smaller["NWPU, σ per head", "large"]["recall"] == 0.5  # 2.97 px for 3
    assert found["optimal matching", "4 px"]["precision"] == 1.0  # the third is not counted
    assert found["counts", "per image"]["MAE"] == 0 and found["grid", "4 regions"] == {"GAME(1)": 0}
    assert found["optimal matching", "23.5 px"]["recall"] == found["greedy matching", "23.5 px"]["recall"] == 1
    scaled = multiverse.of_the_field(replace(some, scale=2.0), [np.array([4.0, 6.0])])
    assert scaled["optimal matching", "4 px"]["recall"] == 0.5  # 3 px are 6 there
    assert scaled["NWPU, σ per head", "small"] == found["NWPU, σ per head", "small"]  # per head: no scale


@pytest.mark.parametrize(("floor", "most"), [(0.5, 50), (0.2, 20), (0.5, 20), (0.05, None)])
def test_combinations_equal_the_long_way(floor, most):
    some = replace(random_images(3, heads=30), scale=2.0)
    scores = multiverse.combined(some)
    assert len(scores) == 54 and all(len(row) == 6 for row in scores.values())
    long = multiverse.above(multiverse.moved(multiverse.peaks_of_window(some, 11), 0.5), floor)
    long = long if most is None else multiverse.at_most(long, most)
    row = localization_scores(long.pairs, long.truth, (5, 20, 40), scale=2.0)
    found = scores[f"peak 11×11, moved 1 px, score ≥ {floor:g}, at most {most or 'all'}"]
    for sigma in (5, 20, 40):
        for metric in ("mAP", "mAR"):
            assert found[f"{metric} σ {sigma}"] == row.loc[sigma, metric]


def test_stored_runs_give_the_stored_numbers():
    run = runs.read(Experiment("synthcrowd-sense", "mini", "raznet", 0))
    some = multiverse.located(run)
    assert multiverse.average_precision(some, 20)["mAP"] == run.metrics["localization"]["20"]["mAP"]
    assert (np.concatenate(some.truth).max(axis=0) < (512, 288)).all() and some.size == (288, 512)
    real = runs.read(Experiment("mall", "mini", "raznet", 0))
    if real is not None:
        with pytest.raises(CrowdlocError, match="keeps no points"):
            multiverse.located(real)

"""Metrics: pycocotools and a literal greedy loop as oracles, hand-computed cases, properties, bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crowdloc.benchmarks.matching import pycocotools_scores, random_crowd
from crowdloc.metrics import (
    COLUMNS,
    counting_errors,
    f1_at,
    localization_scores,
    match_image,
    match_images,
    scores_from_matches,
    sigma_scale,
)


def literal_greedy(points, scores, truth, sigma, thresholds):
    """COCO's loops as they stand in pycocotools' evaluateImg, one threshold, detection and head at a time."""
    order = sorted(range(len(points)), key=lambda i: -scores[i])
    flags = np.zeros((len(thresholds), len(points)), dtype=bool)
    for level, threshold in enumerate(thresholds):
        taken = set()
        for rank, i in enumerate(order):
            best, chosen = min(threshold, 1 - 1e-10), None
            for j in range(len(truth)):
                offset = points[i] - truth[j]
                similarity = np.exp(-((offset[0] ** 2 + offset[1] ** 2) / sigma**2 / 2))
                if j not in taken and similarity >= best:
                    best, chosen = similarity, j
            if chosen is not None:
                taken.add(chosen)
                flags[level, rank] = True
    return np.array(order, dtype=int), flags


def random_set(seed, images, *, integer, tied, heads=25, size=120.0):
    """Images with heads and detections, without one of them, without both; duplicates on purpose."""
    rng = np.random.default_rng(seed)
    predictions, ground_truth = [], []
    for image in range(images):
        m = 0 if image % 5 == 3 else int(rng.integers(1, heads))
        n = 0 if image % 5 in (2, 3) and image % 2 else int(rng.integers(1, heads + 10))
        truth = rng.uniform(0, size, (m, 2))
        points = np.concatenate(
            [truth[: n // 2] + rng.normal(0, 5, (len(truth[: n // 2]), 2)), rng.uniform(0, size, (n, 2))]
        )[:n]
        if integer:
            truth, points = np.round(truth / 3), np.round(points / 3)
        scores = rng.integers(0, 4, n) / 4 if tied else rng.random(n)
        if n > 3:
            points[1] = points[0]
        if m > 3:
            truth[2] = truth[0]
        predictions.append((points, scores))
        ground_truth.append(truth)
    return predictions, ground_truth


@pytest.mark.parametrize("integer", [False, True], ids=["continuous", "integer"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_equal_to_pycocotools_to_the_last_bit(integer, tied):
    for seed in range(5):
        predictions, ground_truth = random_set(seed, 10, integer=integer, tied=tied)
        ours = localization_scores(predictions, ground_truth, (2, 5, 20, 40))
        theirs = pycocotools_scores(predictions, ground_truth, (2, 5, 20, 40))
        assert ours["mAP"].between(0.001, 0.999).any()
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


@pytest.mark.parametrize(
    ("detections", "heads"),
    [([0, 0], [0, 0]), ([3, 0], [0, 0]), ([0, 0], [2, 1]), ([0, 3], [2, 0]), ([1], [1]), ([], [])],
    ids=["neither", "no heads", "no detections", "apart", "one", "no images"],
)
def test_equal_to_pycocotools_on_empty_sets(detections, heads):
    rng = np.random.default_rng(1)
    predictions = [(rng.uniform(0, 30, (n, 2)), rng.random(n)) for n in detections]
    ground_truth = [rng.uniform(0, 30, (m, 2)) for m in heads]
    ours = localization_scores(predictions, ground_truth)
    assert list(ours.columns) == list(COLUMNS) and ours.index.name == "sigma" and list(ours.index) == [5, 20, 40]
    if sum(heads) == 0:
        assert ours.isna().all(axis=None)
    if detections:
        pd.testing.assert_frame_equal(ours, pycocotools_scores(predictions, ground_truth), check_exact=True)


def test_scaled_pixels_equal_pycocotools_on_scaled_points():
    predictions, ground_truth = random_set(7, 8, integer=False, tied=False)
    factor = sigma_scale("synthcrowd-sense-mini")
    assert factor == 3.75 and sigma_scale("mall-mini") == 1.0
    scaled = (
        [(points * factor, scores) for points, scores in predictions],
        [truth * factor for truth in ground_truth],
    )
    ours = localization_scores(predictions, ground_truth, scale=factor)
    pd.testing.assert_frame_equal(ours, pycocotools_scores(*scaled), check_exact=True)
    assert not ours.equals(localization_scores(predictions, ground_truth))


grid_points = hnp.arrays(np.int64, st.tuples(st.integers(0, 9), st.just(2)), elements=st.integers(0, 6))


@settings(max_examples=80, deadline=None)
@given(points=grid_points, truth=grid_points, data=st.data(), sigma=st.sampled_from([0.5, 1, 2, 5, 40]))
def test_rounds_of_proposals_equal_the_greedy_loop(points, truth, data, sigma):
    scores = data.draw(hnp.arrays(np.float64, len(points), elements=st.sampled_from([0.1, 0.5, 0.9])))
    levels = [0.05, 0.5, 0.75, 0.95, 1.0]
    order, flags = match_image(points, scores, truth, sigma, levels)
    expected_order, expected = literal_greedy(points, scores, truth, sigma, levels)
    assert order.tolist() == expected_order.tolist()
    assert np.array_equal(flags, expected)


def test_distance_exactly_on_the_threshold_matches():
    # At d = 3, 4 → 5 and σ = 5 the similarity is exp(-1/2).
    level = np.exp(-0.5)
    _, flags = match_image([(3, 4)], [1.0], [(0, 0)], 5, [np.nextafter(level, 0), level, np.nextafter(level, 1)])
    assert flags[:, 0].tolist() == [True, True, False]
    _, flags = match_image([(0, 0)], [1.0], [(0, 0)], 5, [1.0])
    assert flags.all()


def test_two_detections_on_one_head_give_one_match_to_the_higher_score():
    order, flags = match_image([(0, 0), (1, 0)], [0.3, 0.8], [(0, 0)], 20)
    assert order.tolist() == [1, 0]
    assert flags[:, 0].all() and not flags[:, 1].any()


def test_last_of_equally_similar_heads_is_taken():
    # The first detection is as near to (-1, 0) as to (1, 0); the second reaches only (1, 0).
    points, scores = [(0, 0), (2, 0)], [0.9, 0.8]
    assert match_image(points, scores, [(-1, 0), (1, 0)], 1, [0.6])[1].tolist() == [[True, False]]
    assert match_image(points, scores, [(1, 0), (-1, 0)], 1, [0.6])[1].tolist() == [[True, True]]


def test_greedy_is_not_the_best_assignment():
    # The better-scored detection takes the only head that the other one reaches.
    _, flags = match_image([(0, 0), (-6, 0)], [0.9, 0.8], [(-1, 0), (4, 0)], 5, [0.5])
    assert flags.tolist() == [[True, False]]


def test_hand_computed_average_precision():
    # Ranked: hit, miss, hit of 4 heads. Recall .25, .25, .5; precision 1, 1/2, 2/3, its envelope 1, 2/3, 2/3.
    # 26 recall points (0 to .25) see 1, 25 (.26 to .50) see 2/3, 50 see 0.
    truth = [(0, 0), (100, 0), (200, 0), (300, 0)]
    row = localization_scores([([(0, 0), (50, 50), (200, 0)], [0.9, 0.8, 0.7])], [truth], [5]).loc[5]
    assert row["AP.50"] == pytest.approx((26 + 25 * 2 / 3) / 101, abs=1e-12)
    assert row["AR.50"] == row["mAR"] == 0.5
    # An image without heads adds a false positive; one without anything adds nothing.
    more = localization_scores(
        [([(0, 0), (50, 50), (200, 0)], [0.9, 0.8, 0.7]), ([(1, 1)], [0.95]), ([], [])],
        [truth, [], np.empty((0, 2))],
        [5],
    ).loc[5]
    assert more["AP.50"] == pytest.approx(51 * 0.5 / 101, abs=1e-12)
    assert more["AR.50"] == 0.5


def test_perfect_predictions_score_one_and_have_no_limit():
    truth = np.random.default_rng(0).uniform(0, 2000, (500, 2))
    assert (localization_scores([(truth, np.linspace(1, 0.1, 500))], [truth]) == 1).all(axis=None)


def test_order_of_images_is_irrelevant_without_ties():
    predictions, ground_truth = random_set(3, 9, integer=False, tied=False)
    shuffled = np.random.default_rng(0).permutation(9)
    again = localization_scores([predictions[i] for i in shuffled], [ground_truth[i] for i in shuffled])
    assert again.equals(localization_scores(predictions, ground_truth))


def test_memory_and_time_stay_small_for_thousands_of_heads():
    predictions, ground_truth = random_crowd(1, 5000, seed=2)
    assert localization_scores(predictions, ground_truth).loc[20, "AR.50"] > 0.8


coordinates = hnp.arrays(np.int64, st.tuples(st.integers(0, 12), st.just(2)), elements=st.integers(-400, 400))


@settings(max_examples=80, deadline=None)
@given(images=st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_scores_never_fall_when_sigma_grows_or_the_threshold_is_lowered(images, seed):
    # Proven in matching.py; the audit of the printed tables rests on it. Eighths of a pixel: many ties.
    rng = np.random.default_rng(seed)
    predictions = [(points / 8, rng.random(len(points))) for points, _ in images]
    ground_truth = [truth / 8 for _, truth in images]
    if sum(map(len, ground_truth)) == 0:
        return
    table = localization_scores(predictions, ground_truth)
    assert (table >= 0).all(axis=None) and (table <= 1).all(axis=None)
    for kind in ("AP", "AR"):
        loose, strict, mean = table[f"{kind}.50"], table[f"{kind}.75"], table[f"m{kind}"]
        assert (loose >= strict).all()
        assert (mean <= (loose + strict) / 2 + 1e-12).all()
        assert (mean >= (loose + 5 * strict) / 10 - 1e-12).all()
        assert all(table[column].is_monotonic_increasing for column in (loose.name, strict.name, mean.name))
        # Radii in pixels: 1.6 to 5.9 at σ 5, 6.4 to 23.5 at σ 20, 12.8 to 47.1 at σ 40, .75 at σ 40 is 30.3.
        assert table.loc[20, f"m{kind}"] >= table.loc[5, f"{kind}.50"] - 1e-12
        assert table.loc[40, f"{kind}.75"] >= table.loc[20, f"{kind}.50"]
    # AP of a curve is at most its last recall, rounded up to the recall grid.
    for suffix in (".50", ".75"):
        reached = np.floor(table["AR" + suffix] * 100 + 1e-9) + 1
        assert (table["AP" + suffix] <= reached / 101 + 1e-12).all()


def test_radii_in_pixels_are_those_of_the_formula():
    for sigma, radius in ((5, 5.89), (20, 23.55), (40, 47.10)):
        inside, outside = ([(radius - 0.01, 0)], [(radius + 0.01, 0)])
        assert match_image(inside, [1.0], [(0, 0)], sigma, [0.5])[1].all()
        assert not match_image(outside, [1.0], [(0, 0)], sigma, [0.5])[1].any()


def test_scores_from_stored_flags_are_bit_equal():
    predictions, ground_truth = random_set(11, 12, integer=True, tied=True)
    table = localization_scores(predictions, ground_truth)
    order, flags = match_images(predictions, ground_truth, (5, 20, 40))
    scores = [s[o] for (_, s), o in zip(predictions, order, strict=True)]
    for row, sigma in enumerate((5, 20, 40)):
        again = scores_from_matches(scores, [image[row] for image in flags], [len(t) for t in ground_truth])
        assert again == table.loc[sigma].to_dict()
    # The detections above a score keep their flags: greedy matching never looks ahead.
    for (points, values), truth, matched in zip(predictions, ground_truth, flags, strict=True):
        _, fewer = match_image(points[values >= 0.5], values[values >= 0.5], truth, 5)
        assert np.array_equal(fewer, matched[0][:, : fewer.shape[1]])
    for i, ((points, values), truth) in enumerate(zip(predictions, ground_truth, strict=True)):
        alone_order, alone = match_image(points, values, truth, 20)
        assert np.array_equal(alone_order, order[i]) and np.array_equal(alone, flags[i][1])


def test_flags_and_heads_that_do_not_belong_together_are_refused():
    hit = np.ones((10, 1), dtype=bool)
    for scores, flags, heads, message in [
        ([[0.5]], [hit], [0], r"heads\[0\] is 0"),
        ([[0.5], [0.4]], [hit, hit[:3]], [1, 1], r"flags\[1\]"),
        ([[0.5, 0.6]], [np.zeros((10, 2), bool)], [2], r"scores\[0\] must be finite and falling"),
        ([[np.nan]], [hit], [1], r"scores\[0\]"),
        ([[0.5]], [hit], [1, 2], "1, 1 and 2 images"),
    ]:
        with pytest.raises(ValueError, match=message):
            scores_from_matches(scores, flags, heads)


ok = (np.zeros((2, 2)), np.array([0.5, 0.4]))


@pytest.mark.parametrize(
    ("predictions", "truth", "message"),
    [
        ([ok], [], "1 images and ground_truth 0"),
        ([ok, ok], [np.zeros((1, 2)), [(np.nan, 1)]], r"ground_truth\[1\] are not all finite"),
        (
            [ok, ([(1, np.inf)], [1.0])],
            [np.zeros((1, 2))] * 2,
            r"points of predictions\[1\] are not all finite",
        ),
        ([([(1, 2)], [np.nan])], [[]], r"scores of predictions\[0\] are not all finite"),
        ([(np.zeros((2, 3)), [1, 2])], [[]], r"predictions\[0\] have shape \(2, 3\)"),
        ([(np.zeros((2, 2)), [1, 2, 3])], [[]], r"scores of predictions\[0\] have shape \(3,\) for 2 points"),
        ([ok], [np.zeros((2, 0))], r"ground_truth\[0\] have shape \(2, 0\)"),
        ([ok], [[(1, 2), (3,)]], r"ground_truth\[0\] are not an array of numbers"),
        ([np.zeros((3, 2))], [[]], r"predictions\[0\] is not a pair"),
    ],
)
def test_bad_images_are_named(predictions, truth, message):
    for call in (localization_scores, lambda p, t: f1_at(0.5, p, t)):
        with pytest.raises(ValueError, match=message):
            call(predictions, truth)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigmas": [0]}, "sigmas"),
        ({"sigmas": [5, np.nan]}, "sigmas"),
        ({"sigmas": [5], "scale": -1}, "scale"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        localization_scores([ok], [np.zeros((1, 2))], **options)
    for thresholds in ([0.0], [1.1], []):
        with pytest.raises(ValueError, match="thresholds"):
            match_image(*ok, [(0, 0)], 5, thresholds)


def test_counting_errors_follow_equations_4_and_5():
    assert counting_errors([10, 7, 4], [8, 7, 9]) == {
        "MAE": pytest.approx(7 / 3),
        "MSE": pytest.approx(np.sqrt(29 / 3)),
    }
    with pytest.raises(ValueError, match="shape"):
        counting_errors([1, 2], [1])
    with pytest.raises(ValueError, match="empty"):
        counting_errors([], [])
    with pytest.raises(ValueError, match="image 1 are not finite"):
        counting_errors([1, np.nan], [1, 2])


def test_f1_counts_one_to_one_matches_above_the_threshold():
    # 23.55 px is the radius at σ 20 and .5. Image 0: two detections on one head, one below the threshold.
    predictions = [([(0, 0), (5, 0), (100, 0)], [0.9, 0.8, 0.2]), ([(0, 23.5)], [0.5])]
    ground_truth = [[(1, 0), (100, 0)], [(0, 0)]]
    quality = f1_at(0.5, predictions, ground_truth)
    assert quality == {
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "F1": pytest.approx(2 / 3),
        "detections_per_head": 1.0,
    }
    assert f1_at(0.5, predictions, ground_truth, scale=1.01)["recall"] == pytest.approx(1 / 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nothing = f1_at(2, predictions, [[], []])
    assert all(np.isnan(value) for value in nothing.values())

"""nAP, L-AP and GAME: literal loops as oracles, hand-computed cases, what must hold for any data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crowdloc.metrics import counting_errors, distance_ap, grid_errors, head_spacing, localization_scores, normalized_ap


def curve_area(recall: list[float], precision: list[float]) -> float:
    """VOC's area in its own steps: sentinels, envelope, sum over the changes of recall."""
    r, p = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for i in range(len(p) - 2, -1, -1):
        p[i] = max(p[i], p[i + 1])
    return sum((r[i] - r[i - 1]) * p[i] for i in range(1, len(r)) if r[i] != r[i - 1])


def literal_ap(predictions, ground_truth, radii) -> float:
    """One detection and head at a time, images one after the other, radii per image and head."""
    ranked = []
    for (points, scores), truth, radius in zip(predictions, ground_truth, radii, strict=True):
        free = set(range(len(truth)))
        for i in sorted(range(len(points)), key=lambda i: -scores[i]):
            near = [(math.dist(points[i], truth[j]), -j) for j in free if math.dist(points[i], truth[j]) <= radius[j]]
            if near:
                free.remove(-min(near)[1])
            ranked.append((scores[i], bool(near)))
    heads = sum(map(len, ground_truth))
    ranked.sort(key=lambda row: -row[0])
    hits = np.cumsum([hit for _, hit in ranked])
    return curve_area([h / heads for h in hits], [h / (i + 1) for i, h in enumerate(hits)])


def random_images(seed: int, images: int = 6):
    rng = np.random.default_rng(seed)
    truth = [rng.integers(0, 60, (int(rng.integers(0, 14)), 2)) / 2 for _ in range(images)]
    points = [np.concatenate([t + rng.integers(-6, 7, t.shape) / 2, rng.integers(0, 60, (5, 2)) / 2]) for t in truth]
    return [(p, rng.integers(0, 8, len(p)) / 8) for p in points], truth


def spacing_by_hand(truth, neighbours):
    distances = [sorted(math.dist(a, b) for k, b in enumerate(truth) if k != i) for i, a in enumerate(truth)]
    return [float(np.mean(row[:neighbours])) if row else 1e9 for row in distances]


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_literal_loops(seed):
    predictions, truth = random_images(seed)
    found = distance_ap(predictions, truth, (1, 2.5, 5))
    expected = [literal_ap(predictions, truth, [[d] * len(t) for t in truth]) for d in (1, 2.5, 5)]
    assert [found[f"L-AP@{d:g}"] for d in (1, 2.5, 5)] == pytest.approx(expected, abs=1e-12)
    assert found["L-mAP"] == pytest.approx(np.mean(expected)) and 0.05 < found["L-mAP"] < 0.95
    for neighbours in (1, 3):
        # parts at which no distance of these half pixels equals a radius up to rounding
        normalized = normalized_ap(predictions, truth, (0.2137, 0.5171), neighbours=neighbours)
        spaced = [np.array(spacing_by_hand(t, neighbours)) for t in truth]
        expected = [literal_ap(predictions, truth, [delta * s for s in spaced]) for delta in (0.2137, 0.5171)]
        assert [normalized["nAP@0.2137"], normalized["nAP@0.5171"]] == pytest.approx(expected, abs=1e-12)
        assert normalized["nAP"] == pytest.approx(np.mean(expected))


def test_hand_computed_distance_ap():
    # Ranked: hit, miss, hit of 4 heads: two steps of 1/4, at precision 1 and 2/3.
    truth = [[(0, 0), (100, 0), (200, 0), (300, 0)]]
    predictions = [([(3, 4), (50, 50), (200, 0)], [0.9, 0.8, 0.7])]
    found = distance_ap(predictions, truth)
    assert list(found) == ["L-mAP", *(f"L-AP@{d}" for d in range(1, 26))]
    assert found["L-AP@5"] == found["L-AP@25"] == pytest.approx((1 + 2 / 3) / 4)
    assert found["L-AP@4"] == pytest.approx(1 / 3 / 4)  # the first one is a miss: one hit, at rank 3
    assert found["L-mAP"] == pytest.approx((4 * 1 / 12 + 21 * 5 / 12) / 25)
    # An image without heads adds a false detection before all others; 10 px are 5 of twice the scale.
    more = distance_ap([*predictions, ([(1, 1)], [0.95])], [*truth, []], (10,), scale=2)
    assert more["L-AP@10"] == pytest.approx((0.5 + 0.5) / 4)
    assert math.isnan(distance_ap([([(1, 1)], [0.9])], [[]])["L-mAP"])
    assert distance_ap([([], [])], truth)["L-mAP"] == 0


def test_hand_computed_density_normalised_ap():
    truth = [[(0, 0), (10, 0), (0, 20)]]
    assert head_spacing(truth[0], 1).tolist() == [10, 10, 20]
    assert head_spacing(truth[0]).tolist() == pytest.approx([15, (10 + math.sqrt(500)) / 2, (20 + math.sqrt(500)) / 2])
    # The same 3 px are more than a quarter of the spacing at the first head, less at the last.
    predictions = [([(3, 0), (0, 23)], [0.9, 0.8])]
    found = normalized_ap(predictions, truth, (0.25, 0.3), neighbours=1)
    assert found == {
        "nAP": pytest.approx((1 / 6 + 2 / 3) / 2), "nAP@0.25": pytest.approx(1 / 6), "nAP@0.3": pytest.approx(2 / 3)
    }  # fmt: skip
    # A head alone has no spacing: any detection will do; heads in one place need an exact hit.
    assert normalized_ap([([(500, 0)], [0.1])], [[(0, 0)]])["nAP"] == 1
    assert normalized_ap([([(1, 0), (1, 1)], [0.1, 0.2])], [[(0, 0), (0, 0)]])["nAP"] == 0
    assert head_spacing([]).shape == (0,)
    with pytest.raises(ValueError, match="neighbours: 0"):
        head_spacing(truth[0], 0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.sampled_from([0.5, 4.0]))
def test_ranked_metrics_are_shares_and_do_not_see_units(seed, factor):
    predictions, truth = random_images(seed, images=3)
    if not sum(map(len, truth)):
        return
    for values in (distance_ap(predictions, truth, range(1, 9)), normalized_ap(predictions, truth)):
        parts = list(values.values())[1:]
        assert all(0 <= part <= 1 for part in parts)
    larger = [(points * factor, scores) for points, scores in predictions]
    assert normalized_ap(larger, [t * factor for t in truth]) == normalized_ap(predictions, truth)
    assert distance_ap(predictions, truth, (4,), scale=factor) == distance_ap(larger, [t * factor for t in truth], (4,))
    # Scores only order: squares of them say the same.
    squared = [(points, scores**2) for points, scores in predictions]
    assert distance_ap(squared, truth, (4,)) == distance_ap(predictions, truth, (4,))
    # COCO's area at the same radius differs by the grid of 101 recalls only.
    coco = localization_scores(predictions, truth, (4 / math.sqrt(2 * math.log(2)) * (1 + 1e-9),)).iloc[0]["AP.50"]
    assert abs(coco - distance_ap(predictions, truth, (4,))["L-AP@4"]) < 0.011


def literal_game(points, truth, size, level):
    height, width = size
    total = 0.0
    for row in range(2**level):
        for column in range(2**level):
            left, right = ((k / 2**level) * width - 0.5 for k in (column, column + 1))
            top, bottom = ((k / 2**level) * height - 0.5 for k in (row, row + 1))
            counts = [sum(left <= x < right and top <= y < bottom for x, y in part) for part in (points, truth)]
            total += abs(counts[0] - counts[1])
    return total


places = hnp.arrays(np.int64, st.tuples(st.integers(0, 20), st.just(2)), elements=st.integers(0, 63))


@settings(max_examples=60, deadline=None)
@given(images=st.lists(st.tuples(places, places), min_size=1, max_size=3), width=st.sampled_from([64, 72]))
def test_game_is_the_literal_grid_and_never_falls(images, width):
    points, truth = [p for p, _ in images], [t for _, t in images]
    found = grid_errors(points, truth, (64, width), range(5))
    for level in range(5):
        expected = np.mean([literal_game(p, t, (64, width), level) for p, t in images])
        assert found[level] == pytest.approx(expected)
    assert all(found[level] <= found[level + 1] for level in range(4))
    assert found[0] == counting_errors([len(p) for p in points], [len(t) for t in truth])["MAE"]


def test_game_by_hand():
    # Two of a kind in the wrong half: the count is right, the halves are not.
    points, truth = [[(0, 0), (9, 9)]], [[(0, 0), (0, 9)]]
    assert grid_errors(points, truth, (10, 10)) == {0: 0, 1: 2, 2: 2, 3: 2}
    assert grid_errors(points, truth, [(20, 20)]) == {0: 0, 1: 0, 2: 2, 3: 2}
    # The middle between two pixels belongs to the second region, and what lies outside to the nearest.
    assert grid_errors([[(4.5, 0)]], [[(9, 0)]], (10, 10), (1,)) == {1: 0}
    assert grid_errors([[(4.49, 0)]], [[(9, 0)]], (10, 10), (1,)) == {1: 2}
    assert grid_errors([[(99, -5)]], [[(9, 0)]], (10, 10), (3,)) == {3: 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[]], [[]], (0, 5)), "sizes"),
        (([[]], [[]], [(5, 5)] * 2), "one for each of 1"),
        (([], [], (5, 5)), "at least one image"),
        (([[]], [[]], (5, 5), [-1]), "level"),
        (([[(np.nan, 1)]], [[]], (5, 5)), r"points of predictions\[0\]"),
    ],
)
def test_bad_arguments_of_game_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        grid_errors(*arguments)

"""Bootstrap replicates equal the plain definition: images repeated as often as they were drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdloc.metrics import COLUMNS, counting_errors, scores_from_matches
from crowdloc.metrics.pooling import pooled_errors, pooled_scores

SINGLE = 2e-6  # replicates are computed in single precision


def run(random, images, *, most=30, heads=None):
    """Scores, flags and heads of random images; no scores tie, some images have neither detections nor heads."""
    scores, flags, real = [], [], []
    for _ in range(images):
        n = int(random.integers(0, most))
        hit = np.sort(random.integers(0, 11, n))[:: random.choice([-1, 1])]  # matched at so many thresholds
        flag = np.arange(10)[:, None] < hit
        scores.append(np.sort(random.random(n))[::-1])
        flags.append(flag[:, random.permutation(n)])
        real.append(int(flags[-1].sum(axis=1).max(initial=0)) + int(random.integers(0, 5)))
    return scores, flags, np.array(real if heads is None else heads)


def by_hand(scores, flags, heads, units, weights):
    rows = []
    for times in weights:
        drawn = np.repeat(np.arange(len(heads)), times[units])
        found = scores_from_matches([scores[i] for i in drawn], [flags[i] for i in drawn], heads[drawn].tolist())
        rows.append([found[column] for column in COLUMNS])
    return np.array(rows)


def ties(heads, units, weights):
    """Replicates in which a recall of k / 100 can be reached exactly: pycocotools rounds some of those levels up."""
    return np.gcd(weights @ np.bincount(units, weights=heads, minlength=weights.shape[1]).astype(int), 100) > 1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 12), st.sampled_from([1, 8, 65]))
def test_replicates_equal_repeated_images(seed, images, replicates):
    random = np.random.default_rng(seed)
    scores, flags, heads = run(random, images)
    units = random.integers(0, 4, images)
    weights = random.integers(0, 4, (replicates, 4))
    expected, found = by_hand(scores, flags, heads, units, weights), pooled_scores(scores, flags, heads, units, weights)
    assert found.shape == (replicates, 6)
    tied = ties(heads, units, weights)
    np.testing.assert_allclose(found[~tied], expected[~tied], atol=SINGLE)
    np.testing.assert_allclose(found, expected, atol=0.011)  # a tie moves a threshold's AP by one level at most
    np.testing.assert_allclose(found[:, 3:], expected[:, 3:], atol=SINGLE)


def test_a_recall_level_that_is_reached_exactly_counts():
    # 100 heads, the first 57 detections match: recalls 0 … .57 have precision 1.
    flags = np.broadcast_to(np.arange(90) < 57, (10, 90))
    found = pooled_scores([np.linspace(1, 0, 90)], [flags], [100], [0], [[1], [2]])
    np.testing.assert_allclose(found, [[58 / 101] * 3 + [0.57] * 3] * 2, atol=SINGLE)


def test_a_recall_level_that_is_reached_exactly_counts_however_it_is_rounded():
    for hits, heads in [(h, n) for n in (97, 161, 194, 195, 300) for h in range(1, n + 1) if 100 * h % n == 0]:
        flags = np.broadcast_to(np.arange(hits + 1) < hits, (10, hits + 1))
        found = pooled_scores([np.linspace(1, 0, hits + 1)], [flags], [heads], [0], [[1]])[0]
        assert found[2] == pytest.approx((100 * hits // heads + 1) / 101, abs=SINGLE), (hits, heads)


def test_nothing_drawn_and_nothing_found():
    flags = [np.ones((10, 1), dtype=bool), np.zeros((10, 0), dtype=bool), np.zeros((10, 1), dtype=bool)]
    scores = [np.array([0.5]), np.zeros(0), np.array([0.9])]
    found = pooled_scores(scores, flags, [1, 1, 0], [0, 1, 2], [[1, 0, 0], [0, 3, 0], [0, 0, 2], [1, 0, 1], [0, 0, 0]])
    expected = [[1.0] * 6, [0.0] * 6, [np.nan] * 6, [0.5] * 3 + [1.0] * 3, [np.nan] * 6]
    np.testing.assert_allclose(found, expected, atol=SINGLE)
    np.testing.assert_array_equal(pooled_scores([np.zeros(0)], [np.zeros((10, 0))], [3], [0], [[2]]), np.zeros((1, 6)))


def test_the_same_on_any_number_of_threads():
    import numba

    random = np.random.default_rng(1)
    scores, flags, heads = run(random, 40)
    weights = random.integers(0, 3, (500, 10))
    found = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        found.append(pooled_scores(scores, flags, heads, np.arange(40) % 10, weights).tobytes())
    assert found[0] == found[1]


def test_the_order_of_images_does_not_matter():
    random = np.random.default_rng(2)
    scores, flags, heads = run(random, 30)
    units, weights, order = np.arange(30) // 3, random.integers(0, 3, (50, 10)), random.permutation(30)
    shuffled = [scores[i] for i in order], [flags[i] for i in order], heads[order], units[order], weights
    np.testing.assert_array_equal(pooled_scores(*shuffled), pooled_scores(scores, flags, heads, units, weights))


@given(st.integers(0, 2**32))
def test_errors_of_counts_equal_repeated_images(seed):
    random = np.random.default_rng(seed)
    predicted, actual, units = random.random(9) * 30, random.integers(0, 30, 9), random.integers(0, 3, 9)
    weights = random.integers(1, 4, (5, 3))
    for times, found in zip(weights, pooled_errors(predicted, actual, units, weights), strict=True):
        drawn = np.repeat(np.arange(9), times[units])
        assert found.tolist() == pytest.approx(list(counting_errors(predicted[drawn], actual[drawn]).values()))

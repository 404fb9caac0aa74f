"""Intervals and p-values of paired differences: against scipy, by properties, and calibrated on data without effect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from crowdloc.metrics import statistics
from crowdloc.metrics.pooling import pooled_scores
from crowdloc.metrics.statistics import Estimate, Resampled, drawn_units, estimate, holm, independent_units

FEW = np.zeros((3, 0))


def sampled(differences, times):
    """Differences (k, S) of a mean over scenes, and of every replicate."""
    return Resampled(differences.mean(axis=1), differences @ times.T / times.sum(axis=1), differences.shape[1])


def test_seeds_alone_give_the_paired_t_test():
    values = np.array([0.02, 0.05, 0.01])
    found, expected = estimate([Resampled(values, FEW, 0)]), stats.ttest_1samp(values, 0)
    assert found.p_values(0, np.inf)[0] == pytest.approx(expected.pvalue)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval()))
    assert (found.value, found.seeds) == (pytest.approx(values.mean()), 3)


def test_scenes_alone_give_the_t_test_over_scenes():
    difference = np.random.default_rng(0).normal(0.3, 1, (1, 24))
    found = estimate([sampled(difference, drawn_units(24, 200_000, 1))])
    expected = stats.ttest_1samp(difference[0], 0)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval()), abs=0.004)
    assert found.p_values(0, np.inf)[0] == pytest.approx(expected.pvalue, abs=0.003)


def test_both_parts_by_hand():
    differences = np.random.default_rng(1).normal(0, 1, (4, 10)) + np.arange(10) / 3 + np.arange(4)[:, None] / 2
    found = estimate([sampled(differences, drawn_units(10, 100_000, 1))])
    within = differences - differences.mean(axis=0)
    seeds = differences.mean(axis=1).var(ddof=1) / 4
    scenes = differences.mean(axis=0).var(ddof=1) / 10
    both = within.var(axis=1, ddof=1).sum() / 10 / (4 * 3)
    assert found.error**2 == pytest.approx(seeds + scenes - both, rel=0.01)
    assert [freedom for _, freedom in found.shares] == [3, 9]
    assert sum(weight for weight, _ in found.shares) == pytest.approx(1)
    assert found.shares[0][0] == pytest.approx(seeds / found.error**2)


def test_data_sets_add_up():
    random = np.random.default_rng(2)
    left, right = (sampled(random.normal(np.arange(12), 1, (3, 12)), drawn_units(12, 5000, key)) for key in (1, 2))
    both = estimate([left, right])
    assert both.value == pytest.approx(left.values.mean() + right.values.mean())
    assert [freedom for _, freedom in both.shares] == [2, 11, 11]
    with pytest.raises(ValueError, match="the same seeds"):
        estimate([left, Resampled(np.zeros(2), np.zeros((2, 5000)), 12)])


def test_no_variation_at_all():
    nothing = estimate([Resampled(np.zeros(3), np.zeros((3, 100)), 24)])
    assert nothing.interval() == (0, 0)
    assert nothing.p_values(0, np.inf) == (1, 1)
    assert nothing.p_values(-0.005, 0.005) == (0, 1)


def test_a_single_scene_decides_nothing():
    alone = estimate([Resampled(np.ones(3), np.ones((3, 5)), 1)])
    assert (alone.value, alone.interval()) == (1, (-np.inf, np.inf))
    assert alone.p_values(0, np.inf) == (1, 1)


def test_replicates_without_heads_are_left_out():
    random = np.random.default_rng(3)
    replicates = random.normal(size=(3, 1000))
    holes = np.concatenate([replicates, np.full((3, 50), np.nan)], axis=1)
    one, other = (estimate([Resampled(np.arange(3.0), some, 9)]) for some in (replicates, holes))
    assert one == other


@st.composite
def estimates(draw):
    weight = draw(st.floats(0, 1))
    shares = ((weight, float(draw(st.integers(1, 9)))), (1 - weight, float(draw(st.integers(5, 60)))))
    return Estimate(draw(st.floats(-1, 1)), draw(st.floats(1e-3, 1)), shares, 3)


@given(estimates(), st.floats(-1, 1), st.one_of(st.floats(0, 1), st.just(np.inf)))
def test_p_values_and_intervals_tell_the_same(found, low, width):
    high = low + width
    bounds = found.interval()
    inside, outside = found.p_values(low, high)
    distances = [abs(bound - limit) for bound in bounds for limit in (low, high)]
    if min(distances) > 1e-6:
        assert (inside < 0.05) == (low < bounds[0] and bounds[1] < high)
        assert (outside < 0.05) == (bounds[1] < low or high < bounds[0])
    assert not (inside < 0.05 and outside < 0.05)


@given(estimates())
def test_left_and_right_exchanged(found):
    mirrored = Estimate(-found.value, found.error, found.shares, 3)
    assert mirrored.interval() == pytest.approx(tuple(-bound for bound in found.interval()[::-1]))
    assert mirrored.p_values(0, np.inf) == found.p_values(0, np.inf)[::-1] == found.p_values(-np.inf, 0)


@given(st.integers(1, 30), st.integers(0, 1500), st.integers(0, 2**64 - 1))
def test_draws_are_prefix_stable_and_complete(units, replicates, key):
    times = drawn_units(units, replicates, key)
    assert times.shape == (replicates, units) and (times.sum(axis=1) == units).all()
    np.testing.assert_array_equal(times[:7], drawn_units(units, 7, key)[:replicates])


def test_units_are_scenes_or_stretches_of_a_video():
    many = [f"s{i // 3}" for i in range(18)]
    assert independent_units(many).tolist() == [i // 3 for i in range(18)]
    one = independent_units(["mall"] * 50)
    assert one.tolist() == [i // statistics.BLOCK for i in range(50)]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == [True, False, False]  # 0.01 ≤ .05/3; 0.03 > .05/2
    assert holm([0.01, 0.02, 0.03]) == [True, True, True]
    assert holm([np.nan]) == [False]
    assert holm([]) == []


# Standard deviations of the mean difference that come from seeds, from scenes, and from both together.
MIXTURES = {
    "seeds only": (1.0, 0.0, 0.0),
    "seeds dominate": (1.0, 0.2, 0.2),
    "as measured": (0.6, 0.3, 0.5),
    "mixed": (1.0, 0.6, 0.6),
    "scenes dominate": (0.2, 1.0, 0.2),
    "noise of both": (0.3, 0.0, 1.0),
}


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_data_without_an_effect_are_called_significant_5_percent_of_the_time(mixture, seeds):
    """Both methods have the same expectation; nominal 5 %, to be found between 3 and 7 %."""
    trials, scenes = 4000, 24
    by_seed, by_scene, by_both = MIXTURES[mixture]
    random = np.random.Generator(np.random.Philox(7))
    times = drawn_units(scenes, 500, 3)
    rejected = 0
    for _ in range(trials):
        # Scenes differ with a long tail, as real ones do: gamma with a skewness of 1, centred.
        scene = (random.gamma(4, size=scenes) - 4) / 2 * np.sqrt(scenes)
        noise = random.normal(size=(seeds, scenes)) * np.sqrt(seeds * scenes)
        seed = random.normal(size=(seeds, 1)) * np.sqrt(seeds)
        found = estimate([sampled(by_seed * seed + by_scene * scene + by_both * noise, times)])
        rejected += min(found.p_values(0, np.inf)) < 0.05
    assert 0.03 <= rejected / trials <= 0.07, f"{rejected / trials:.1%}"


@pytest.fixture
def one_thread():
    """Many short calls are faster without threads, above all beside other jobs."""
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def test_average_precision_without_an_effect_is_called_significant_5_percent_of_the_time(one_thread):
    """The same from detections to p-values: AP pooled over scenes, three seeds of two equally good methods."""
    trials, scenes, seeds, found_per_scene = 1000, 12, 3, 15
    random = np.random.Generator(np.random.Philox(11))
    times = np.concatenate([np.ones((1, scenes), dtype=np.int64), drawn_units(scenes, 191, 5)])
    heads, units = np.full(scenes, found_per_scene), np.arange(scenes)

    def average_precision(quality):
        """(1 + R,) mAP of detections that are right with probability `quality` (scenes,), good scores more often."""
        scores = [np.sort(random.random(found_per_scene))[::-1] for _ in range(scenes)]
        chance = [np.clip(q + 0.4 * (score - 0.5), 0, 1) for q, score in zip(quality, scores, strict=True)]
        flags = [np.broadcast_to(random.random(found_per_scene) < c, (10, found_per_scene)) for c in chance]
        return pooled_scores(scores, flags, heads, units, times)[:, 2]

    rejected = 0
    for _ in range(trials):
        common, gap = random.normal(0.5, 0.1, scenes), random.normal(0, 0.1, scenes)
        luck = random.normal(0, 0.03, (2, seeds))
        sides = [
            [average_precision(common + sign * gap / 2 + shift) for shift in row]
            for sign, row in zip((1, -1), luck, strict=True)
        ]
        difference = np.array(sides[0]) - np.array(sides[1])  # (seeds, 1 + R)
        found = estimate([Resampled(difference[:, 0], difference[:, 1:], scenes)])
        rejected += min(found.p_values(0, np.inf)) < 0.05
    assert 0.03 <= rejected / trials <= 0.07, f"{rejected / trials:.1%}"

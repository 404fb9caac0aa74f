"""Random numbers by key and counter: frozen values, exact ranges, no shared bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdloc.core.random_bits import philox_bits, philox_integers, philox_permutation, philox_uniform

WORDS = st.integers(0, 2**64 - 1)


def philox4x64(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds of Philox 4×64 as Salmon et al. (2011) define it, in Python's whole numbers."""
    mask = 2**64 - 1
    for _ in range(10):
        first, second = counter[0] * 0xD2E7470EE14C6C93, counter[2] * 0xCA5A826395121157
        counter = [
            (second >> 64) ^ counter[1] ^ key[0],
            second & mask,
            (first >> 64) ^ counter[3] ^ key[1],
            first & mask,
        ]
        key = [(key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask]
    return counter


@given(WORDS, WORDS, WORDS, WORDS, WORDS)
def test_bits_are_philox(k0, k1, c1, c2, c3):
    expected = philox4x64([1, c1, c2, c3], [k0, k1]) + philox4x64([2, c1, c2, c3], [k0, k1])
    assert philox_bits((k0, k1), (c1, c2, c3), 8).tolist() == expected


def test_a_number_stands_for_a_tuple_padded_with_zeros():
    assert philox_bits(7, 3, 5).tolist() == philox_bits((7, 0), (3, 0, 0), 5).tolist()


def test_neighbouring_counters_and_keys_share_no_bits():
    drawn = [philox_bits(key, counter, 1000) for key in (0, 1, (0, 1)) for counter in (0, 1, 2, (0, 1))]
    assert len(np.unique(np.concatenate(drawn))) == 12_000


@given(st.integers(1, 2**63), st.integers(0, 200), st.integers(0, 200))
def test_integers_stay_below_high_and_the_first_ones_do_not_depend_on_how_many(high, few, more):
    drawn = philox_integers(1, 2, high, few + more)
    assert ((drawn >= 0) & (drawn <= high - 1)).all()
    assert drawn[:few].tolist() == philox_integers(1, 2, high, few).tolist()


def test_integers_throw_away_what_would_favour_small_numbers():
    high = 3 * 2**61  # a quarter of the words lies beyond the last multiple
    words = [int(word) for word in philox_bits(5, 6, 200)]
    kept = [word % high for word in words if word < 2 * high]
    assert 120 < len(kept) < 180
    assert philox_integers(5, 6, high, 100).tolist() == kept[:100]


def test_integers_are_equally_likely():
    counts = np.bincount(philox_integers(0, 0, 7, (100, 1000)).ravel(), minlength=7)
    assert ((counts - 1e5 / 7) ** 2 / (1e5 / 7)).sum() < 22.5  # χ² with 6 degrees of freedom, p = .001


def test_uniform_numbers_and_permutations():
    drawn = philox_uniform(3, 4, 100_000)
    assert drawn.min() >= 0 and drawn.max() < 1 and abs(drawn.mean() - 0.5) < 0.004
    assert (drawn * 2**53 == np.floor(drawn * 2**53)).all()
    order = philox_permutation(3, 4, 50)
    assert sorted(order.tolist()) == list(range(50)) and order.tolist() != list(range(50))
    first = [philox_permutation(3, step, 5)[0] for step in range(2000)]
    assert np.bincount(first).min() > 330


@pytest.mark.parametrize("call", [(-1, 0), (2**64, 0), ((1, 2, 3), 0), (0, (1, 2, 3, 4)), (0, -5)])
def test_words_out_of_range_are_refused(call):
    with pytest.raises(ValueError, match="whole numbers of"):
        philox_bits(*call, 1)
    with pytest.raises(ValueError, match="high is 0"):
        philox_integers(0, 0, 0, 1)

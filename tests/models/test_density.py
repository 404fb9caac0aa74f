"""Density targets: every head inside adds one, wherever it stands and however the map is made."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdloc.models.density import LARGEST, SMALLEST, adaptive_sigmas, cells, density_map, neighbour_distances

SIZES = st.tuples(st.integers(1, 50), st.integers(1, 50))
STRIDES = st.sampled_from([1, 4, 8])


@st.composite
def crowds(draw):
    """A size and heads on its pixels, borders and duplicates included."""
    height, width = draw(SIZES)
    spot = st.tuples(
        st.sampled_from([-0.5, 0.0, width - 1.0]) | st.floats(-0.5, width - 0.51),
        st.sampled_from([-0.5, 0.0, height - 1.0]) | st.floats(-0.5, height - 0.51),
    )
    points = draw(st.lists(spot, max_size=8))
    points += points[: draw(st.integers(0, 2))]  # duplicates
    return (height, width), np.array(points, dtype=np.float64).reshape(-1, 2)


@settings(max_examples=80, deadline=None)
@given(crowds(), STRIDES, st.sampled_from([None, 0.01, 1.0, 4.0, 15.0, 500.0]))
def test_the_sum_is_the_number_of_heads_and_nothing_is_negative(crowd, stride, sigma):
    size, points = crowd
    found = density_map(points, size, stride=stride, sigma=sigma)
    assert found.shape == cells(size, stride)
    assert found.sum(dtype=np.float64) == pytest.approx(len(points), abs=1e-4)
    assert (found >= 0).all()


@settings(max_examples=40, deadline=None)
@given(crowds(), st.sampled_from([None, 4.0]))
def test_a_coarse_map_is_the_fine_one_added_up(crowd, sigma):
    size, points = crowd
    (rows, columns), fine = cells(size, 8), density_map(points, size, sigma=sigma)
    padded = np.zeros((rows * 8, columns * 8))
    padded[: size[0], : size[1]] = fine
    added = padded.reshape(rows, 8, columns, 8).sum(axis=(1, 3))
    np.testing.assert_allclose(density_map(points, size, stride=8, sigma=sigma), added, atol=1e-5)


@given(st.integers(-2, 2), st.integers(-2, 2))
@settings(deadline=None)
def test_heads_that_move_by_cells_move_the_map(down, across):
    points = np.array([[100.25, 90.0], [104.0, 93.5], [120.0, 99.0]])
    before = density_map(points, (200, 240), stride=8)
    after = density_map(points + np.array([8 * across, 8 * down]), (200, 240), stride=8)
    np.testing.assert_allclose(after, np.roll(before, (down, across), axis=(0, 1)), atol=1e-6)


def test_the_mass_lies_where_the_head_is():
    found = density_map(np.array([[5.0, 2.0]]), (9, 16), sigma=0.2)
    assert found[2, 5] == found.max() > 0.95
    found = density_map(np.array([[20.0, 10.0]]), (24, 32), stride=8, sigma=0.5)
    assert found[1, 2] > 0.99


def test_a_gaussian_has_its_width():
    row = density_map(np.array([[50.0, 50.0]]), (101, 101), sigma=4.0).sum(axis=0)
    assert np.sqrt(np.sum(row * (np.arange(101) - 50.0) ** 2)) == pytest.approx(np.sqrt(16 + 1 / 12), abs=0.02)


@pytest.mark.parametrize("point", [(-0.6, 5.0), (19.5, 5.0), (5.0, 9.5), (5.0, -30.0)])
def test_heads_outside_add_nothing(point):
    assert density_map(np.array([point, (5.0, 5.0)]), (10, 20), sigma=4.0).sum() == pytest.approx(1, abs=1e-6)


def test_no_heads_make_an_empty_map():
    assert not density_map(np.zeros((0, 2)), (9, 17), stride=8).any()


def test_widths_must_be_positive():
    with pytest.raises(ValueError, match="sigma must be positive, got 0.0"):
        density_map(np.zeros((1, 2)), (8, 8), sigma=0.0)


def test_adaptive_widths_follow_the_distance_to_three_neighbours():
    points = np.array([[0.0, 0], [10, 0], [0, 20], [30, 0], [500, 500]])
    assert adaptive_sigmas(points)[0] == pytest.approx(0.1 * (10 + 20 + 30))
    assert adaptive_sigmas(points, largest=1000)[4] > 0.3 * 600
    assert adaptive_sigmas(points)[4] == LARGEST


@pytest.mark.parametrize(
    ("points", "distances"),
    [
        ([], []),
        ([(3, 3)], [np.nan]),
        ([(0, 0), (0, 10)], [10, 10]),
        ([(0, 0), (0, 10), (0, 30)], [20, 15, 25]),
        ([(1, 1)] * 4, [0, 0, 0, 0]),
    ],
)
def test_few_heads_and_duplicates_have_widths(points, distances):
    points = np.array(points, dtype=np.float64).reshape(-1, 2)
    np.testing.assert_allclose(neighbour_distances(points), distances)
    expected = np.clip(np.where(np.isnan(distances), LARGEST, 0.3 * np.array(distances)), SMALLEST, LARGEST)
    np.testing.assert_allclose(adaptive_sigmas(points), expected)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crowdloc.metrics import localization_scores
from crowdloc.models.decoding import SCORE_FLOOR, find_peaks, smooth
from crowdloc.models.targets import cross_target


def test_smoothing_leaves_the_outside_out_of_the_mean():
    np.testing.assert_allclose(smooth(np.ones((3, 5), np.float32)), 1, rtol=1e-6)
    values = np.zeros((4, 4), np.float32)
    values[0, 0] = 1
    np.testing.assert_allclose(smooth(values)[:2, :2], [[1 / 4, 1 / 6], [1 / 6, 1 / 9]], rtol=1e-6)


@pytest.mark.parametrize("point", [(0, 0), (9, 0), (0, 7), (9, 7), (5, 0), (0, 3), (4, 4)])
def test_a_perfect_cross_is_found_everywhere_also_in_corners_and_on_edges(point):
    found = find_peaks(cross_target(np.array([point], dtype=float), 8, 10))
    assert len(found.points) == 1
    # On a border the smoothed map of a cut cross is flat over two pixels, so the centroid may lie half a pixel inside.
    assert np.abs(found.points[0] - point).max() <= 0.5
    assert found.scores[0] >= 0.5


def test_a_plateau_is_one_point_at_its_centroid():
    values = np.zeros((9, 9), np.float32)
    values[4, 3:6] = 0.7
    found = find_peaks(values, smoothing=False)
    np.testing.assert_allclose(found.points, [[4.0, 4.0]])
    np.testing.assert_allclose(found.scores, [0.7], rtol=1e-6)


def test_the_shoulder_of_a_higher_peak_is_no_peak():
    values = np.zeros((7, 11), np.float32)
    values[3, 2:9] = 0.4  # a long shoulder: its far end sees only equal values
    values[3, 2] = 0.9
    found = find_peaks(values, smoothing=False)
    np.testing.assert_allclose(found.points, [[2.0, 3.0]], atol=0.5)
    assert len(found.points) == 1


@pytest.mark.parametrize(("apart", "expected"), [((1, 0), 1), ((2, 0), 1), ((4, 0), 2), ((3, 3), 2)])
def test_how_close_two_perfect_heads_may_be(apart, expected):
    points = np.array([[8.0, 8.0], [8.0 + apart[0], 8.0 + apart[1]]])
    assert len(find_peaks(cross_target(points, 20, 20)).points) == expected


def test_parabola_finds_the_vertex_between_pixels():
    y, x = np.mgrid[:15, :15]
    values = (0.9 - 0.01 * ((x - 6.3) ** 2 + (y - 7.8) ** 2)).clip(0).astype(np.float32)
    found = find_peaks(values, smoothing=False)
    np.testing.assert_allclose(found.points, [[6.3, 7.8]], atol=1e-4)
    np.testing.assert_array_equal(find_peaks(values, smoothing=False, subpixel=False).points, [[6, 8]])


def test_the_floor_drops_weak_peaks_and_scores_fall():
    values = np.zeros((20, 20), np.float32)
    for i, value in enumerate((0.04, 0.9, 0.3)):
        values[5 * i + 2, 5] = value
    found = find_peaks(values, smoothing=False)
    np.testing.assert_allclose(found.scores, [0.9, 0.3], rtol=1e-6)


def test_noise_is_no_localization():
    """Noise recalls nearly every head, so recall alone says nothing; AP at SenseCrowd's density stays below .05.

    37 heads per 1080p frame are 5.5 per 480×640 map. (At Mall's 30 heads a noise map reaches mAP .056 at σ 20, because
    the discs around the heads then cover a sixth of the image.)
    """
    random = np.random.default_rng(0)
    noise = [find_peaks(random.random((480, 640), dtype=np.float32)) for _ in range(3)]
    truth = [random.random((6, 2)) * (640, 480) for _ in range(3)]
    scores = localization_scores(noise, truth).loc[20]
    assert scores["mAR"] > 0.9
    assert scores["mAP"] < 0.05


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (2, 2)])
def test_tiny_maps(shape):
    assert len(find_peaks(np.full(shape, 0.5, np.float32)).points) == 1
    assert len(find_peaks(np.zeros(shape, np.float32)).points) == 0


def test_bad_maps_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        find_peaks(np.full((4, 4), np.nan, np.float32))
    with pytest.raises(ValueError, match="shape"):
        find_peaks(np.zeros((1, 4, 4), np.float32))


@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 0.25, 0.5, 1])
    )
)
def test_properties_of_detections(values):
    found = find_peaks(values)
    height, width = values.shape
    assert ((found.points >= -0.5) & (found.points <= (width - 0.5, height - 0.5))).all()
    assert (found.scores >= np.float32(SCORE_FLOOR)).all()
    assert (np.diff(found.scores) <= 0).all()
    best = smooth(values).max()
    assert (len(found.scores) > 0) == (best >= np.float32(SCORE_FLOOR))
    if len(found.scores):
        assert found.scores[0] == best
    mirrored = find_peaks(values[:, ::-1])
    assert len(mirrored.points) == len(found.points)

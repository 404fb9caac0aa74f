"""Matching within a radius: scipy, an augmenting-path matcher, fractions, literal loops as oracles; hand-made cases."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from crowdloc.metrics import f1_at, match_within, matched_heads, nwpu_radii, radius_scores


def allowed(points, truth, radius) -> np.ndarray:
    """(n, m) of bools, in 60 decimal digits."""
    with localcontext() as context:
        context.prec = 60
        limits = np.broadcast_to(radius, len(truth))
        return np.array(
            [
                [
                    sum((Decimal(float(a)) - Decimal(float(b))) ** 2 for a, b in zip(p, t, strict=True))
                    <= Decimal(float(limit)) ** 2
                    for t, limit in zip(truth, limits, strict=True)
                ]
                for p in points
            ],
            dtype=bool,
        ).reshape(len(points), len(truth))


def most_by_augmenting_paths(may: np.ndarray) -> int:
    """The number of pairs of a maximum matching by Kuhn's algorithm, as the evaluation code of NWPU has it."""
    owner = [-1] * may.shape[1]

    def place(detection: int, seen: set[int]) -> bool:
        for head in np.flatnonzero(may[detection]):
            if head not in seen:
                seen.add(head)
                if owner[head] < 0 or place(owner[head], seen):
                    owner[head] = detection
                    return True
        return False

    return sum(place(detection, set()) for detection in range(len(may)))


def literal_greedy(points, scores, truth, may) -> list[int]:
    """The detection of every head, or -1."""
    found = [-1] * len(truth)
    for i in sorted(range(len(points)), key=lambda i: -scores[i]):
        best, chosen = math.inf, None
        for j in range(len(truth)):
            distance = (points[i][0] - truth[j][0]) ** 2 + (points[i][1] - truth[j][1]) ** 2
            if may[i, j] and found[j] < 0 and distance <= best:
                best, chosen = distance, j
        if chosen is not None:
            found[chosen] = i
    return found


crowds = hnp.arrays(np.int64, st.tuples(st.integers(0, 12), st.just(2)), elements=st.integers(0, 9))
radii = st.sampled_from([0.0, 1.0, math.sqrt(2), 2.0, 2.5, 5.0, 40.0])


@settings(max_examples=120, deadline=None)
@given(points=crowds, truth=crowds, radius=radii, data=st.data())
def test_optimal_matching_is_maximal_and_of_those_the_nearest(points, truth, radius, data):
    if data.draw(st.booleans()):  # one radius per head
        radius = data.draw(hnp.arrays(np.float64, len(truth), elements=radii))
    may = allowed(points, truth, radius)
    found = match_within(points, truth, radius)
    taken = found[found >= 0]
    assert len(found) == len(truth) and len(set(taken)) == len(taken)
    assert all(may[i, j] for j, i in enumerate(found) if i >= 0)
    size = int((maximum_bipartite_matching(csr_array(may), perm_type="column") >= 0).sum()) if may.size else 0
    assert len(taken) == size == most_by_augmenting_paths(may)
    if may.size:  # one table of everything, forbidden pairs dearer than all others together
        distance = np.linalg.norm(points[:, None] - truth[None], axis=-1)
        rows, columns = linear_sum_assignment(np.where(may, distance, 1e6))
        best = sum(distance[r, c] for r, c in zip(rows, columns, strict=True) if may[r, c])
        assert sum(distance[i, j] for j, i in enumerate(found) if i >= 0) == pytest.approx(best, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(points=crowds, truth=crowds, radius=radii, data=st.data())
def test_greedy_matching_is_the_literal_loop_and_never_finds_more(points, truth, radius, data):
    scores = data.draw(hnp.arrays(np.float64, len(points), elements=st.sampled_from([0.2, 0.5, 0.9])))
    found = match_within(points, truth, radius, scores=scores, matching="greedy")
    assert found.tolist() == literal_greedy(points, scores, truth, allowed(points, truth, radius))
    hits = int((found >= 0).sum())
    most = int((match_within(points, truth, radius) >= 0).sum())
    assert hits <= most <= 2 * hits  # a greedy matching is maximal: at least half as large as the largest
    # Without scores the order of the points counts.
    unscored = match_within(points, truth, radius, matching="greedy")
    assert unscored.tolist() == literal_greedy(points, [0] * len(points), truth, allowed(points, truth, radius))


tiny = st.floats(-1e-9, 1e-9) | st.integers(-3, 3).map(lambda k: k * 2.0**-50)


@settings(max_examples=150, deadline=None)
@given(
    triple=st.sampled_from([(3, 4, 5), (5, 12, 13), (8, 15, 17), (0, 7, 7)]),
    unit=st.sampled_from([1.0, 0.1, 1 / 3, 1 / 64, 3.75]),
    origin=st.sampled_from([0.0, 0.3, 511.984375, 1e6]),
    away=tiny,
)
def test_the_radius_is_exact_at_its_edge(triple, unit, origin, away):
    a, b, c = (side * unit for side in triple)
    point, head, radius = [(origin + a, origin + b)], [(origin, origin)], c + away
    if radius >= 0:
        inside = bool(allowed(point, head, radius)[0, 0])
        for rule in ("optimal", "greedy"):
            assert (match_within(point, head, radius, matching=rule)[0] == 0) == inside


def test_whole_pixels_on_the_edge_match_and_the_next_number_below_does_not():
    for a, b, c in ((3, 4, 5), (6, 8, 10), (20, 21, 29)):
        assert match_within([(a, b)], [(0, 0)], c).tolist() == [0]
        assert match_within([(a, b)], [(0, 0)], np.nextafter(c, 0)).tolist() == [-1]
    # .1 + .2 lies beyond .3, and 1 + 2^-52 beyond 1, though squares of both round to the same.
    assert match_within([(0.1 + 0.2, 0)], [(0, 0)], 0.3).tolist() == [-1]
    assert match_within([(1 + 2.0**-52, 1e-30)], [(0, 0)], 1 + 2.0**-52).tolist() == [-1]
    assert match_within([(1e-200, 0)], [(0, 0)], 0).tolist() == [-1]  # its square is 0
    assert match_within([(2, 2)], [(2, 2)], 0).tolist() == [0]


def test_optimal_gains_where_the_surer_detection_takes_the_only_head_of_another():
    points, scores, truth = [(0, 0), (-6, 0)], [0.9, 0.8], [(-1, 0), (5, 0)]
    assert match_within(points, truth, 5, scores=scores, matching="greedy").tolist() == [0, -1]
    assert match_within(points, truth, 5, scores=scores).tolist() == [1, 0]
    greedy = radius_scores([points], [truth], 5, scores=[scores], matching="greedy")
    assert greedy == {"precision": 0.5, "recall": 0.5, "F1": 0.5}
    assert radius_scores([points], [truth], 5) == {"precision": 1.0, "recall": 1.0, "F1": 1.0}


def test_hits_detections_and_heads_are_summed_over_images():
    points = [[(0, 0), (9, 9), (50, 50)], [], [(1, 1)], []]
    truth = [[(0, 3), (9, 8)], [(4, 4)], [], []]
    assert radius_scores(points, truth, 3) == {"precision": 2 / 4, "recall": 2 / 3, "F1": 4 / 7}
    assert radius_scores(points, truth, [[2.9, 3], [1], [], []]) == {"precision": 1 / 4, "recall": 1 / 3, "F1": 2 / 7}
    assert radius_scores(points, truth, np.float64(30), scale=10) == {"precision": 2 / 4, "recall": 2 / 3, "F1": 4 / 7}
    assert all(math.isnan(value) for value in radius_scores([[]], [[]], 3).values())


def test_greedy_at_the_radius_of_a_similarity_is_the_rule_of_average_precision():
    rng = np.random.default_rng(5)
    sigma, level = 5.0, 0.5
    radius = sigma * math.sqrt(-2 * math.log(level))
    points, truth, scores = rng.random((60, 2)) * 60, rng.random((40, 2)) * 60, np.round(rng.random(60), 1)
    ours = match_within(points, truth, radius, scores=scores, matching="greedy")
    assert ours.tolist() == matched_heads(points, scores, truth, sigma, level).tolist()
    quality = f1_at(0.0, [(points, scores)], [truth], sigma=sigma, similarity=level)
    for name, value in radius_scores([points], [truth], radius, scores=[scores], matching="greedy").items():
        assert value == quality[name]


def test_a_crowd_of_thousands_is_many_small_tables():
    rng = np.random.default_rng(0)
    truth = rng.random((6000, 2)) * 2000
    points = truth + rng.normal(0, 2, truth.shape)
    found = match_within(points, truth, 5)
    distance = np.linalg.norm(points[:, None, :].astype(np.float32) - truth[None].astype(np.float32), axis=-1)
    graph = csr_array(distance <= 5)
    assert (found >= 0).sum() == (maximum_bipartite_matching(graph, perm_type="column") >= 0).sum() > 5000


def test_radii_of_nwpu_by_hand():
    small, large = nwpu_radii([(0, 0, 6, 8), (10, 10, 13, 10)])
    assert small.tolist() == [3, 0] and large.tolist() == [5, 1.5]
    assert [part.shape for part in nwpu_radii([])] == [(0,), (0,)]
    with pytest.raises(ValueError, match="box 1 ends before it begins"):
        nwpu_radii([(0, 0, 1, 1), (5, 0, 4, 1)])
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        nwpu_radii([(0, 0, 1)])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([(0, 0)], [(0, 0)], -1), {}, "radius of image 0 is negative"),
        (([(0, 0)], [(0, 0)], np.nan), {}, "radius of image 0 is negative or not finite"),
        (([(0, 0)], [(0, 0)], [1, 2]), {}, r"radius of image 0 has shape \(2,\) for 1 heads"),
        (([(0, 0)], [(0, 0)], 1), {"matching": "best"}, "matching 'best' is unknown: choose one of optimal, greedy"),
        (([(0, 0)], [(0, 0)], 1), {"scale": 0}, "scale"),
        (([(0, 0)], [(0, 0)], 1), {"scores": [1, 2]}, r"scores of predictions\[0\] have shape \(2,\)"),
        (([(0, np.inf)], [(0, 0)], 1), {}, r"points of predictions\[0\] are not all finite"),
    ],
)
def test_bad_arguments_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        match_within(*arguments, **options)


def test_images_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="radius holds 1 images and ground_truth 2"):
        radius_scores([[], []], [[], []], [[]])
    with pytest.raises(ValueError, match="scores hold 1 images and points 2"):
        radius_scores([[], []], [[], []], 1, scores=[[]])
    with pytest.raises(ValueError, match="predictions hold 1 images and ground_truth 2"):
        radius_scores([[]], [[], []], 1)

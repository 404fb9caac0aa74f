"""Pictures of predictions: marks by kind, enlarged parts where the errors are, weights as areas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import EllipseCollection
from matplotlib.colors import to_hex

from crowdloc.figures import predictions as figures
from crowdloc.figures.looks import FALSE, HIT, MISS
from crowdloc.studies.predictions import Shown


def shown(title: str = "a frame") -> Shown:
    """128×72 pixels; two heads at the right, one found; three false detections at the lower left."""
    heads = np.array([[100.0, 10.0], [110.0, 14.0]])
    points = np.array([[100.5, 10.5], [5.0, 60.0], [9.0, 62.0], [12.0, 66.0]])
    cause = np.array(["", "object", "object", "nothing"])
    return Shown(title, 0, np.zeros((72, 128, 3), np.uint8), heads, np.array([6.0, 9.0]), points, np.full(4, 0.9),
                 np.array([0, -1]), cause, np.array(["", "not seen"]))  # fmt: skip


def circles(ax) -> dict[str, int]:
    """Circles by colour, the black ones below them left out."""
    found = [c for c in ax.collections if isinstance(c, EllipseCollection) and len(c.get_offsets())]
    return {
        to_hex(c.get_edgecolor()[0]): len(c.get_offsets()) for c in found if to_hex(c.get_edgecolor()[0]) != "#000000"
    }


def test_views_are_where_the_errors_and_where_the_heads_are():
    first, second = figures.views(shown())
    assert first[0] <= 5 and first[2] > 12 and first[1] <= 60 and first[3] > 66
    assert second[0] <= 100 and second[2] > 110 and second[1] <= 10 and second[3] > 14
    assert all((r - left, bottom - top) == (32, 18) for left, top, r, bottom in (first, second))


def test_a_frame_without_anything_still_has_two_different_views():
    empty = Shown("", 0, np.zeros((72, 128, 3), np.uint8), np.empty((0, 2)), np.empty(0), np.empty((0, 2)), np.empty(0),
                  np.empty(0, int), np.empty(0, str), np.empty(0, str))  # fmt: skip
    first, second = figures.views(empty)
    assert first != second
    figures.frames([empty])


def test_heads_and_detections_have_their_marks():
    figure = figures.frames([shown("one"), shown("two")])
    assert len(figure.axes) == 6
    whole = figure.axes[0]
    assert circles(whole) == {HIT: 1, MISS: 1}
    sizes = [c.get_widths()[0] for c in whole.collections if isinstance(c, EllipseCollection)]
    assert sorted(set(sizes)) == [6, 9]  # true sizes, in pixels
    marks = [c for c in whole.collections if len(c.get_facecolor()) and len(c.get_offsets()) == 3]
    crosses = [c for c in marks if to_hex(c.get_facecolor()[0]) == FALSE]
    assert crosses and whole.get_title(loc="left") == "one"
    left, top, right, bottom = figures.views(shown())[0]
    assert figure.axes[1].get_xlim() == (left - 0.5, right - 0.5) and figure.axes[1].get_ylim() == (
        bottom - 0.5,
        top - 0.5,
    )
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["head, found", "head, missed", "detection, matched", "detection, false"]


def test_the_gallery_keeps_places_inside_the_frame():
    frame = shown()
    entries = [
        ("false: object", frame, (5.0, 60.0)),
        ("false: object", frame, (9.0, 62.0)),
        ("missed: not seen", frame, (110.0, 14.0)),
    ]
    figure = figures.gallery(entries, reach=20)
    assert len(figure.axes) == 3  # the second column has one entry
    for ax in figure.axes:
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        assert (
            (right - left, bottom - top) == (40, 40)
            and left >= -0.5
            and right <= 127.5
            and top >= -0.5
            and bottom <= 71.5
        )
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == ["false:\nobject", "missed:\nnot seen"]


def test_areas_of_dots_are_weights():
    frame, points = np.array([0, 1, 1]), np.array([[3.0, 4.0], [5, 6], [7, 8]])
    draws = [("3", frame, points, np.array([0.2, 0.8, 0.001]))]
    figure = figures.neighbourhoods(np.zeros((3, 72, 128, 3), np.uint8), 1, (10.0, 11.0), draws)
    assert [ax.get_title() for ax in figure.axes] == ["frame t − 1", "keyframe t", "frame t + 1"]
    first, second = (ax.collections[1].get_sizes() for ax in figure.axes[:2])
    assert second[0] / first[0] == pytest.approx(4) and second[1] == 0  # too light to be seen: the small dot alone
    assert figure.axes[1].collections[0].get_offsets().tolist() == [[5, 6], [7, 8]]
    assert len(figure.axes[2].collections[0].get_offsets()) == 0


def test_recall_against_size_is_the_mean_over_seeds():
    rows = [("gnanet", "GNANet", seed, d, r + 0.1 * seed) for seed in (0, 1) for d, r in ((5.0, 0.4), (9.0, 0.6))]
    curves = pd.DataFrame(rows, columns=["method", "label", "seed", "diameter", "recall"])
    accuracy = pd.DataFrame({5: [1.0, 1], 50: [9.0, 5], 95: [30.0, 20]}, index=[5.0, 9.0])
    figure = figures.by_size(curves, accuracy, method="gnanet")
    left, right = figure.axes
    assert left.lines[0].get_ydata() == pytest.approx([0.45, 0.65])
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["GNANet"]
    assert right.lines[0].get_ydata().tolist() == [9, 5] and left.get_xlabel().startswith("head diameter")

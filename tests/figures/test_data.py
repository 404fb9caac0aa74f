"""Pictures of the data show the numbers that they are given."""

from __future__ import annotations

import numpy as np

from crowdloc.datasets.samples import Sample
from crowdloc.datasets.statistics import EDGES, spread
from crowdloc.figures import data as figures_data


def sample(points: list, **more) -> Sample:
    return Sample("one", np.zeros((30, 40, 3), np.uint8), np.array(points, float).reshape(-1, 2), **more)


def test_annotated_lays_points_boxes_and_crosses_on_the_frame() -> None:
    full = sample([[1, 2], [3, 4]], boxes=np.array([[0, 0, 2, 4], [1, 1, 5, 9.0]]), lookalikes=np.array([[7.0, 8]]))
    figure = figures_data.annotated([full, sample([]), sample([[5, 5]])])
    assert len(figure.axes) == 3 and figure.axes[0].get_title() == "one"
    boxes, points = figure.axes[0].collections
    assert [path.get_extents().bounds for path in boxes.get_paths()] == [(0, 0, 2, 4), (1, 1, 4, 8)]
    assert points.get_offsets().tolist() == [[1, 2], [3, 4]]
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[7, 8]]
    assert [len(ax.collections) for ax in figure.axes[1:]] == [1, 1]  # no boxes, no crosses: points alone
    assert not figure.axes[1].lines


def test_film_strip_keeps_colours_and_draws_where_heads_were() -> None:
    clip = [
        sample([[5, 5], [9, 9], [39, 9]], track_ids=np.array([3, 8, 9]), lookalikes=np.array([[2.0, 2]])),
        sample([[6, 5], [9, 9]], track_ids=np.array([3, 8]), lookalikes=np.array([[2.0, 2]])),
    ]
    figure = figures_data.film_strip(clip, (0, 0, 20, 10))
    assert [ax.get_title() for ax in figure.axes] == ["frame t", "frame t + 1"]
    last = figure.axes[1]
    assert last.get_xlim() == (-0.5, 19.5) and last.get_ylim() == (9.5, -0.5)
    trail, head = last.lines[:2]
    assert trail.get_xydata().tolist() == [[5, 5], [6, 5]] and head.get_xydata().tolist() == [[6, 5]]
    assert last.lines[-1].get_xydata().tolist() == [[2, 2]] and last.lines[-1].get_marker() == "x"
    assert [text.get_text() for text in figure.axes[0].texts] == ["3", "8"]  # 9 is outside the view
    colours = [[line.get_markerfacecolor() for line in ax.lines if line.get_marker() == "o"] for ax in figure.axes]
    assert colours[0] == colours[1] and len(set(colours[0])) == 2


def test_distributions_show_quantiles_marks_and_single_widths() -> None:
    def census(**values: list) -> dict:
        return {"edges": EDGES.tolist(), "distributions": {k.replace("_", " "): spread(np.array(v, float)) for k, v in
                                                           values.items()}}  # fmt: skip

    censuses = {
        "mall": census(heads_per_frame=[20, 30, 40], nearest_head=[4, 8]),
        "synthcrowd-sense": census(heads_per_frame=[10, 20, 20], nearest_head=[2, 4], head_width=[8, 9, 10]),
        "ucsd": census(heads_per_frame=[1]),  # has no place in the picture
    }
    figure = figures_data.distributions(
        censuses, marks={"synthcrowd-sense": ("SenseCrowd", 37.2)}, read={"mall": np.array([3.0, 5.0, 7.0])}
    )
    axes = np.array(figure.axes).reshape(2, 3)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["SynthCrowd sense", "Mall"]
    assert all(ax.get_xscale() == "log" for ax in axes.flat)
    assert [ax.get_xlabel() for ax in axes[1]] == [
        "heads per frame", "distance to the nearest head (px)", "head width (px)"]  # fmt: skip
    heights = axes[0, 0].patches[0].get_data().values
    assert heights.max() == 1 and heights[heights > 0].tolist() == [0.5, 1]
    medians = [ax.collections[-1].get_segments()[0][0, 0] for ax in axes.flat]
    assert medians == [20, 3, 9, 30, 6, 5]
    assert axes[0, 0].texts[0].get_text() == "SenseCrowd: mean 37.2" and axes[0, 0].lines[0].get_xdata() == [37.2]
    assert not axes[1, 0].texts
    assert [segment[0, 0] for segment in axes[1, 2].collections[0].get_segments()] == [3, 5, 7]
    assert not axes[1, 2].patches

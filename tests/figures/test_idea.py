"""Pictures of notebook 00 show the draws, marks and numbers that they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.patches import Circle

from crowdloc.figures import idea as figures


def one(gamma: float = 2.0, **given) -> figures.Cloud:
    cells = np.array([[3, 1], [3, 1], [0, 0], [5, 2]])
    return figures.Cloud((2, 4), (6, 8), gamma, cells, np.array([False, False, True, False]))._replace(**given)


def test_clouds_count_draws_and_mark_what_was_moved():
    figure = figures.clouds([[one(), one(4.0)], [one(), one(4.0)]])
    ax = figure.axes[0]
    kept, moved, query = ax.collections
    assert kept.get_offsets().tolist() == [[3, 1], [5, 2]] and kept.get_sizes().tolist() == [32, 16]
    assert moved.get_offsets().tolist() == [[0, 0]] and query.get_offsets().tolist() == [[4, 2]]
    assert kept.get_facecolor().tolist() != moved.get_facecolor().tolist()
    circles = [patch for patch in figure.axes[1].patches if isinstance(patch, Circle)]
    assert [(circle.center, circle.radius) for circle in circles] == [((4, 2), 4.0), ((4, 2), 8.0)]
    assert ax.get_title() == "γ = 2: 3 of 4 inside" and ax.get_ylim() == (6, -1)
    assert [a.get_title() for a in figures.clouds([[one(), one()]], ["a", "b"]).axes] == ["a", "b"]
    assert len(figures.cloud(one(cells=np.zeros((0, 2), int), moved=np.zeros(0, bool))).axes) == 1


def test_sliders_redraw_and_say_what_they_are_where_they_cannot_run():
    asked = []

    def make(**chosen):
        asked.append(chosen)
        return one(chosen["γ"])

    shown = figures.sliders(make, γ=(2.0, 0.5, 9.0, 0.5), P=(4, 1, 8, 1))
    before = shown.picture.value
    shown.controls["γ"].value = 4.0
    assert asked == [{"γ": 2.0, "P": 4}, {"γ": 4.0, "P": 4}] and isinstance(asked[0]["P"], int)
    assert before[:4] == b"\x89PNG" and shown.picture.value != before
    bundle = shown._repr_mimebundle_()
    assert bundle["text/plain"] == repr(shown) == "(sliders appear here when the notebook runs)"
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert not plt.get_fignums()  # a notebook would show a figure left open a second time


def test_cells_lie_on_the_frame_where_their_pixels_are():
    image = np.zeros((48, 64, 3), np.uint8)
    heads = np.array([[10.0, 20.0]])
    ax = figures.ways(image, (2, 4), {"two": np.array([[0, 0], [7, 5]])}, heads).axes[0]
    cells, head, query = ax.collections
    assert cells.get_offsets().tolist() == [[3.5, 3.5], [59.5, 43.5]]  # centres of 8 × 8 pixels, 0-based
    assert head.get_offsets().tolist() == heads.tolist() and query.get_offsets().tolist() == [[35.5, 19.5]]


def test_heat_maps_share_a_scale_and_leave_cells_out_that_were_not_drawn():
    draws, output = np.zeros((6, 8)), np.full((6, 8), 3.0)
    draws[1, 2] = 4
    maps = {"draws": draws, "output": output, "limit": 2 * output}
    figure = figures.followed(np.zeros((48, 64, 3), np.uint8), (2, 4), maps, np.zeros((0, 2)))
    heat = {ax.get_title(): ax.images[1] for ax in figure.axes if ax.get_title()}
    assert heat["draws"].get_array().count() == 1 and heat["draws"].get_clim() == (0, 4)
    assert heat["output"].get_clim() == heat["limit"].get_clim() == (0, 6)
    assert heat["output"].get_array().count() == 48 and heat["output"].get_extent() == [-0.5, 63.5, 47.5, -0.5]


def test_lines_are_the_columns_of_the_table():
    table = pd.DataFrame({"a": [2.0, 1.0], "b": [3.0, 2.0], "c": [4.0, 0.5]}, index=[8, 32])
    ax = figures.towards({"map": table}).axes[0]
    assert {line.get_label(): line.get_ydata().tolist() for line in ax.lines} == table.to_dict("list")
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_wrong_answers_are_crossed_out():
    truth = np.full((4, 4), -1)
    truth[0, 1] = truth[2, 3] = 1
    answer = np.ones((4, 4), int)
    answer[2, 3] = 0
    figure = figures.toy(np.zeros((16, 16, 3)), truth, {"it": answer})
    spots, wrong = figure.axes[1].collections
    assert spots.get_offsets().tolist() == [[1, 0], [3, 2]] and wrong.get_offsets().tolist() == [[3, 2]]
    assert figure.axes[1].get_title() == "it: 1 of 2"

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("agg")

from crowdloc.figures import localization as figures
from crowdloc.results.evidence import Evidence


@pytest.fixture(autouse=True)
def closed():
    yield
    figures.plt.close("all")


def _run():
    flags = np.zeros((3, 10, 2), dtype=bool)
    flags[:, :, 0] = True
    return Evidence(["a"], ["s"], np.array([2]), [np.array([0.9, 0.5])], [flags])


def test_precision_recall_curve_goes_through_the_points_computed_by_hand():
    ax = figures.precision_recall({"gnanet": [_run()]}).axes[0]
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0.5, 1.0], [0.5, 0.5]])
    assert ax.get_xlabel() == "recall" and ax.get_legend().get_texts()[0].get_text() == "GNANet"


def test_counts_show_every_image_at_its_numbers():
    ax = figures.counts({"raznet": (_run(), 0.6)}).axes[0]
    assert ax.collections[0].get_offsets().tolist() == [[2.0, 1.0]]


def test_neighbours_mark_drawn_cells_and_the_query():
    ax = figures.neighbours((1, 2), [np.array([0, 0, 9])], ["γ = 1"], (3, 4)).axes[0]
    drawn, query = ax.collections
    assert drawn.get_offsets().tolist() == [[0, 0], [1, 2]]
    assert drawn.get_sizes().tolist() == [28, 14]  # drawn twice, drawn once
    assert query.get_offsets().tolist() == [[2, 1]]


def test_predictions_lay_points_on_their_frames():
    image = np.zeros((8, 10, 3), np.uint8)
    figure = figures.predictions([image], [np.array([[1.0, 2.0]])], [np.zeros((0, 2))], ["one"])
    assert [ax.get_title() for ax in figure.axes] == ["one"]
    assert figure.axes[0].collections[0].get_offsets().tolist() == [[1, 2]]


def test_learning_curves_are_running_means():
    log = pd.DataFrame({"step": [0, 1, 2], "loss": [4.0, 2.0, 0.0]})
    line = figures.learning_curves({"raznet": [log]}, smooth=2).axes[0].lines[0]
    assert line.get_ydata().tolist() == [4.0, 3.0, 1.0]

"""Pictures of counting: every map on one scale, with its count; arrows where people go."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from crowdloc.figures import counting as figures
from crowdloc.studies.counting import Densities, Density, Flow


def frame(methods: int) -> Densities:
    truth = np.zeros((6, 8))
    truth[2, 3] = 1.0
    found = [Density(name, name.upper(), truth * 2 - 0.1, 1.25) for name in ("mcnn", "csrnet", "epf")[:methods]]
    return Densities("a: 1 heads", np.zeros((48, 64, 3), np.uint8), np.array([[28.0, 20.0]]), truth, found)


@pytest.mark.parametrize("methods", [0, 1, 3])
def test_maps_have_one_scale_and_say_their_count(methods):
    figure = figures.density_maps(frame(methods))
    panels = [ax for ax in figure.axes if ax.get_title()]
    titles = ["a: 1 heads", "heads, σ = 4 pixels", "MCNN: 1.2", "CSRNET: 1.2", "EPF: 1.2"]
    assert [ax.get_title() for ax in panels] == titles[: 2 + methods]
    maps = [ax.images[0] for ax in panels[1:]]
    assert len({picture.get_clim() for picture in maps}) == 1
    assert all(picture.get_extent() == [-0.5, 63.5, 47.5, -0.5] for picture in maps)
    assert all(picture.get_array().min() >= 0 for picture in maps)  # below zero is cut off
    figure.canvas.draw()


def test_flows_are_arrows_where_people_are():
    total, step = np.zeros((6, 8)), np.zeros((6, 8, 2))
    total[2, 3], step[2, 3] = 0.8, (8.0, -4.0)
    image = np.zeros((48, 64, 3), np.uint8)
    flow = Flow("a", (image, image), np.zeros((10, 6, 8)), np.array([[10.0, 5.0]]), np.array([[13.0, 6.0]]))
    figure = figures.flow_field(flow, total, step)
    left, right = figure.axes[:2]
    lines = [next(c for c in ax.collections if isinstance(c, LineCollection)).get_segments() for ax in (left, right)]
    np.testing.assert_allclose(lines[0], [[(10, 5), (10 + 4 * 3, 5 + 4 * 1)]])
    np.testing.assert_allclose(lines[1], [[(27.5, 19.5), (27.5 + 4 * 8, 19.5 - 4 * 4)]])
    figure.canvas.draw()


def test_steps_are_compared_by_component():
    motions = pd.DataFrame({"dx": [1.0, 2.0, 9.0], "dy": [0.0, -1.0, 9.0], "found dx": [0.5, 1.5, np.nan],
                            "found dy": [0.0, -0.5, np.nan]})  # fmt: skip
    across, down = figures.steps(motions).axes
    assert across.collections[0].get_offsets().tolist() == [[1.0, 0.5], [2.0, 1.5]]
    assert down.collections[0].get_offsets().tolist() == [[0.0, 0.0], [-1.0, -0.5]]
    assert across.get_xlim()[1] == pytest.approx(2 * 1.05)
    figures.steps(motions.iloc[2:]).canvas.draw()  # nothing seen

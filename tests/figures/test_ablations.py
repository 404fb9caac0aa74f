"""Pictures of ablations show every row, in the colour of its interval, and means over seeds where they belong."""

from __future__ import annotations

import pandas as pd
import pytest

from crowdloc.figures import ablations
from crowdloc.figures.looks import FIRST, SECOND


def frame(*rows):
    return pd.DataFrame(rows, columns=["comparison", "difference", "low", "high", "verdict"])


def test_differences_are_coloured_by_their_interval():
    rows = [
        ("up", "+0.02", "+0.01", "+0.03", "holds"),
        ("down", "-0.02", "-0.03", "-0.01", "does not hold"),
        ("nothing", "+0.00", "-0.01", "+0.01", "inconclusive"),
        ("absent", "", "", "", "not measured"),
    ]
    figure = ablations.differences({"SynthCrowd": frame(*rows), "Mall": frame(*rows[:2])})
    left, right = figure.axes
    points = [line for line in left.lines if line.get_marker() == "o"]
    assert [point.get_color() for point in points] == [FIRST, SECOND, ablations._GREY]
    assert [point.get_xdata()[0] for point in points] == [0.02, -0.02, 0.0]
    assert [text.get_text() for text in left.texts] == ["not measured"]
    assert [label.get_text() for label in left.get_yticklabels()] == ["up", "down", "nothing", "absent"]
    assert right.get_title() == "Mall" and left.get_ylim() == (3.5, -0.5)


class Measured:
    def __init__(self, value):
        self.metrics = {"localization": {str(s): {"mAP": value, "mAR": value / 2} for s in (5, 20, 40)}}


def test_means_and_bands_stand_at_their_number():
    groups = {16: [Measured(0.4), Measured(0.6)], 8: [Measured(0.3)], 32: []}
    figure = ablations.against(groups, xlabel="P", level={"baseline": [Measured(0.7)]})
    first = figure.axes[0]
    line = next(line for line in first.lines if line.get_marker() == "o")
    assert line.get_xdata().tolist() == [8, 16] and line.get_ydata().tolist() == pytest.approx([0.3, 0.5])
    assert figure.axes[3].lines[0].get_ydata().tolist() == pytest.approx([0.15, 0.25])  # mAR
    assert [tick.get_text() for tick in figure.axes[5].get_xticklabels()] == ["8", "16", "32"]
    assert first.lines[1].get_ydata()[0] == 0.7


def test_deviations_are_whiskers():
    index = pd.MultiIndex.from_tuples([("independent", 1), ("limit", 1)], names=["sampling", "S"])
    columns = {"mAP σ20": [0.5, 0.6], "mAR σ20": [0.9, 0.8], "± mAP σ20": [0.01, None], "± mAR σ20": [0.02, None]}
    figure = ablations.deviations(pd.DataFrame(columns, index=index))
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["independent, S = 1", "limit"]
    (bars,) = right.collections
    assert bars.get_segments()[0][:, 0].tolist() == pytest.approx([0.88, 0.92])
    assert bars.get_segments()[1][:, 0].tolist() == pytest.approx([0.8, 0.8])


def test_lines_without_runs_are_left_out():
    figure = ablations.against({8: [Measured(0.3)]}, xlabel="P", level={"baseline": [Measured(0.7)], "learned": []})
    (legend,) = [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    assert [text.get_text() for text in legend.get_texts()] == ["baseline"]


def test_a_dissected_network_ends_with_what_its_head_is_given():
    known = pd.DataFrame(
        [("frame-stack", "keyframe feature", "0.6"), ("frame-stack", "stacked convolution", "0.9"),
         ("gnanet.temporal", "keyframe feature", "0.6"), ("gnanet.temporal", "stacked convolution", "0.8"),
         ("gnanet.temporal", "sum", "0.55"), ("gnanet.gamma5", "temporal attention", "0.5"),
         ("gnanet.gamma5", "sum", "0.58")],
        columns=["network", "map", "moves"],
    )  # fmt: skip
    replaced = pd.DataFrame(
        [("raznet", "0.7"), ("frame-stack", "0.8"), ("frame-stack", "0.75"), ("frame-stack", "0.1")],
        columns=["network", "mAP σ20"],
    )
    left, right = ablations.dissected(known, replaced).axes
    ends = {
        line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in left.lines if line.get_marker() == "s"
    }
    assert ends == {"Baseline": (1, 0.9), "SM + T-GNA": (3, 0.55), "SM + K-GNA + T-GNA": (3, 0.58)}
    assert left.get_xticklabels()[-1].get_text() == "sum"
    assert [text.get_text() for text in right.get_yticklabels()] == ["Baseline"]  # nothing is replaced in RAZNet
    assert [line.get_xdata()[0] for line in right.lines if line.get_marker() == "o"] == [0.8, 0.75]

"""The picture of orders shows every cell, in the colour of who is ahead, and frames reversals."""

from __future__ import annotations

import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from crowdloc.figures import multiverse
from crowdloc.figures.looks import looks


def frame(*rows):
    columns = ["choice", "value", "metric", "first", "second", "advantage", "verdict", "flips"]
    return pd.DataFrame(rows, columns=columns)


def test_cells_colours_and_frames():
    pair = ("gnanet", "raznet")
    found = frame(
        ("reference", "", "mAP", *pair, 1.04, "ahead", False),
        ("reference", "", "mAR", *pair, -0.2, "open", False),
        ("σ", "5", "mAP", *pair, -3.7, "behind", True),
        ("σ", "5", "mAR", *pair, -3.6, "behind", False),
        ("optimal matching", "4 px", "F1", *pair, 2.0, "ahead", False),
        ("optimal matching", "4 px", "recall", *pair, 3.0, "ahead", False),  # not shown
    )
    figure = multiverse.orders(found)
    left, right = figure.axes
    assert [text.get_text() for text in left.texts if text.get_text()[0] in "+−"] == ["+1.0", "−0.2", "−3.7", "−3.6"]
    cells = [patch for patch in left.patches if isinstance(patch, Rectangle)]
    assert len(cells) == 5  # four and a frame
    shown = looks(pair)
    expected = [multiverse._pale(shown[n].colour) if n else to_rgb(multiverse._OPEN) for n in ("gnanet", "", "raznet")]
    assert [cell.get_facecolor()[:3] for cell in cells[:3]] == expected
    assert cells[4].get_xy() == cells[2].get_xy() and cells[4].get_linewidth() > 2
    assert [label.get_text() for label in left.get_yticklabels()] == ["reference", "σ: 5"]
    assert [label.get_text() for label in right.get_yticklabels()] == ["F1, optimal matching: 4 px"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[:2] == ["GNANet ahead", "RAZNet ahead"] and "order reversed" in names

"""How well a film is counted, part by part, and how full its parts are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from crowdloc.figures.looks import FIRST, SECOND

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ABSENT = "#c9c9c9"


def parts(table: pd.DataFrame) -> Figure:
    """What `studies.drift.by_part` gives: heads per frame along the film, and the error of the count against them.

    Blue: the part on which thresholds were chosen; orange: tested parts; grey: parts whose frames are not here.
    Points bear the first frame of their part.
    """
    figure, (along, against) = plt.subplots(1, 2, figsize=(12.4, 3.6), width_ratios=(1.5, 1))
    colours = [FIRST, *(SECOND if value == value else _ABSENT for value in table["too many"].iloc[1:])]
    starts = [int(part.partition("-")[0]) for part in table.index]
    width = starts[1] - starts[0]
    along.bar([start + width / 2 for start in starts], table["heads"], width=0.88 * width, color=colours)
    along.set(xlabel="frame", ylabel="heads per frame")
    along.set_xticks([starts[0], *starts[2::2]])
    measured = table["too many"].notna()
    against.axhline(0, color="black", lw=1)
    against.scatter(
        table["heads"][measured], table["too many"][measured], s=60, color=[c for c in colours if c != _ABSENT]
    )
    _name(against, table[measured])
    against.set(xlabel="heads per frame", ylabel="mean of count − heads")
    against.margins(x=0.18, y=0.15)
    return figure


def _name(ax: Axes, rows: pd.DataFrame) -> None:
    """Beside each point the first frame of its part."""
    for part, row in rows.iterrows():
        first = str(part).partition("-")[0]
        place = (row["heads"], row["too many"])
        ax.annotate(first, place, (7, 0), textcoords="offset points", va="center", fontsize=9)

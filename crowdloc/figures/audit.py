"""Pictures of the audit: the printed localization tables with disputed cells shaded, and what would be possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.patches import Patch, Rectangle

from crowdloc.figures.looks import FIRST, SECOND
from crowdloc.paper import table
from crowdloc.paper.tables import COLUMNS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALONE, AMONG, ODD = "in every smallest explanation", "in some of several", "possible, but unusual"
COLOURS = {ALONE: SECOND, AMONG: "#f6cf9c", ODD: "#a9cfe8"}  # orange, pale orange, pale blue
_STACKS = (("II", "VIII"), ("III", "XI"), ("IV", "V"), ("IX", "XII"))  # tables below each other
_WHOLE = 1.0


def shading(impossible: pd.DataFrame, unusual: pd.DataFrame) -> dict[tuple[str, str, int, str], str]:
    """What is to be said of a printed cell, by (table, row, σ, metric).

    Args:
        impossible, unusual: of `crowdloc.paper.feasibility` and `crowdloc.paper.coherence`.
    """
    marks: dict[tuple[str, str, int, str], str] = {}
    for r in unusual.itertuples():
        for metric in (f"{r.kind}.75", f"m{r.kind}"):
            marks[r.table, r.row, int(r.sigma), metric] = ODD
    for (number, row), group in impossible.groupby(["table", "row"]):
        explanations = [set(cells) for _, cells in group.groupby("changes")["cell"]]
        for cell in set.union(*explanations):
            metric, _, sigma = cell.rpartition(" σ ")
            marks[number, row, int(sigma), metric] = ALONE if all(cell in e for e in explanations) else AMONG
    return marks


def tables(marks: dict[tuple[str, str, int, str], str]) -> Figure:
    """Tables II-V, VIII, IX, XI and XII as printed, cells shaded by what `shading` says of them."""
    figure, axes = plt.subplots(1, len(_STACKS), figsize=(13.2, 6.6))
    for ax, stack in zip(axes, _STACKS, strict=True):
        y = 0.0
        for number in stack:
            y = _draw(ax, number, marks, y) + 1.2
        ax.set(xlim=(-4.3, len(COLUMNS)), ylim=(27.0, -1.0))
        ax.set_axis_off()
    shown = [kind for kind in COLOURS if kind in marks.values()]
    figure.legend(handles=[Patch(color=COLOURS[k], label=k) for k in shown], loc="outside lower center", ncols=3,
                  fontsize=10)  # fmt: skip
    return figure


def _draw(ax: plt.Axes, number: str, marks: dict[tuple[str, str, int, str], str], y: float) -> float:
    """One table from height `y` on; returns where it ends."""
    cells = table(number)
    ax.text(-4.2, y - 0.1, f"Table {number}", fontsize=9, fontweight="bold", va="center")
    for x, metric in enumerate(COLUMNS):
        ax.text(x + 0.5, y - 0.1, metric, fontsize=7.5, ha="center", va="center", color="#555555")
    for (row, sigma), group in cells.groupby(["row", "sigma"], sort=False):
        y += 1
        printed = dict(zip(group["metric"], group["printed"], strict=True))
        if sigma in (5, None) or cells["sigma"].nunique() == 1:
            ax.text(-4.2, y, _short(number, row), fontsize=7.5, va="center")
        ax.text(-0.25, y, sigma, fontsize=7.5, ha="right", va="center", color="#555555")
        for x, metric in enumerate(COLUMNS):
            mark = marks.get((number, row, int(sigma), metric))
            if mark is not None:
                ax.add_patch(Rectangle((x, y - 0.5), _WHOLE, _WHOLE, color=COLOURS[mark], lw=0))
            ax.text(x + 0.5, y, printed[metric].removeprefix("0"), fontsize=7.5, ha="center", va="center")
    return y + 1


def _short(number: str, row: str) -> str:
    return {"XI": f"P = {row}", "XII": f"γ = {row}"}.get(number, row.replace("-GNA", "").replace(" + ", "+")
                                                         if number == "VIII" else row)  # fmt: skip


def intervals(impossible: pd.DataFrame) -> Figure:
    """What the other cells allow beside what is printed, a line per cell that alone explains a contradiction."""
    alone = impossible[impossible.groupby(["table", "row", "changes"])["cell"].transform("size") == 1]
    labels: Sequence[str] = [f"{r.table}  {_short(r.table, r.row)}, {r.cell}" for r in alone.itertuples()]
    figure, ax = plt.subplots(figsize=(8.4, 0.27 * len(alone) + 1.0))
    for y, r in enumerate(alone.itertuples()):
        ax.plot([r.low, min(r.high, 1.0)], [y, y], color=FIRST, lw=6, solid_capstyle="butt", alpha=0.45)
        ax.plot(r.printed, y, "o", color=SECOND, ms=6, mec="black", mew=0.5)
    ax.plot([], [], color=FIRST, lw=6, alpha=0.45, label="allowed by the other cells of the method")
    ax.plot([], [], "o", color=SECOND, mec="black", mew=0.5, ms=6, label="printed")
    ax.set(yticks=range(len(alone)), ylim=(len(alone) - 0.4, -0.6), xlabel="AP or AR")
    ax.set_yticklabels(labels, fontsize=9)
    ax.grid(axis="y", visible=False)
    ax.legend(loc="lower left", fontsize=9)
    return figure

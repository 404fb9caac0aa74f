"""Who is ahead under every protocol and metric, as one picture of coloured cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch, Rectangle

from crowdloc.figures.looks import looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OPEN = "#e6e6e6"
_PRINTED = ("mAP", "mAR")  # of the paper
_OTHERS = ("F1", "nAP", "L-mAP", "MAE", "GAME(1)", "GAME(2)", "GAME(3)")


def orders(found: pd.DataFrame) -> Figure:
    """Left, protocols by pair in mAP and mAR; right, other metrics by pair.

    A cell has the colour of the method that is ahead, grey where seeds leave it open, and the advantage of the pair's
    first in percent. A thick frame: the order is the reverse of the reference's.

    Args:
        found: rows of `crowdloc.studies.orders.advantages`, with a column "flips"; other metrics are left out.
    """
    figure, axes = plt.subplots(1, 2, figsize=(13.6, 6.9), width_ratios=(1.62, 1))
    _cells(axes[0], found[found["metric"].isin(_PRINTED)], _PRINTED)
    metrics = found[found["metric"].isin(_OTHERS)]
    named = metrics.assign(choice=metrics["metric"] + ", " + metrics["choice"], metric="")
    _cells(axes[1], named, ("",))
    axes[0].set_title("the paper's AP and AR, one choice changed: advantage in %", fontsize=12, pad=66, loc="left")
    axes[1].set_title("other metrics: advantage in %", fontsize=12, pad=66, loc="left")
    shown = looks(dict.fromkeys([*found["first"], *found["second"]]))
    handles = [Patch(color=_pale(look.colour), label=f"{look.label} ahead") for look in shown.values()]
    handles += [Patch(color=_OPEN, label="open: 95 % interval over seeds holds 0")]
    handles += [Patch(facecolor="white", edgecolor="black", lw=2.4, label="order reversed")]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=10, frameon=False)
    return figure


def _cells(ax: Axes, found: pd.DataFrame, metrics: Sequence[str]) -> None:
    rows = list(dict.fromkeys(zip(found["choice"], found["value"], strict=True)))
    pairs = list(dict.fromkeys(zip(found["first"], found["second"], strict=True)))
    shown = looks(dict.fromkeys(name for pair in pairs for name in pair))
    step = len(metrics) + 0.25
    frames = []
    for cell in found.itertuples(index=False):
        x = pairs.index((cell.first, cell.second)) * step + metrics.index(cell.metric)
        y = rows.index((cell.choice, cell.value))
        ahead = {"ahead": cell.first, "behind": cell.second}.get(cell.verdict)
        colour = _pale(shown[ahead].colour) if ahead else _OPEN
        ax.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", lw=1.5))
        ax.text(x + 0.5, y + 0.52, f"{cell.advantage:+.1f}".replace("-", "−"), ha="center", va="center", fontsize=9.5)
        if cell.flips:
            frames.append(Rectangle((x, y), 1, 1, facecolor="none", edgecolor="black", lw=2.6, zorder=3))
    for frame in frames:
        ax.add_patch(frame)
    for number, (first, second) in enumerate(pairs):
        title = f"{shown[first].label}\nagainst\n{shown[second].label}"
        _head(ax, number * step + len(metrics) / 2, 20, title)
        for k, metric in enumerate(metrics):
            _head(ax, number * step + k + 0.5, 4, metric)
    names = [": ".join(part for part in row if part) for row in rows]
    ax.set(xlim=(-0.05, len(pairs) * step - 0.2), ylim=(len(rows) + 0.05, -0.05))
    ax.set_yticks(np.arange(len(rows)) + 0.5, names, fontsize=10)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _head(ax: Axes, x: float, above: float, text: str) -> None:
    """Text over a column, so many points above the first row."""
    ax.annotate(text, (x, 0), (0, above), textcoords="offset points", ha="center", va="bottom", fontsize=9.5)


def _pale(colour: str) -> tuple[float, float, float]:
    """Light enough for black text."""
    red, green, blue = (0.45 + 0.55 * part for part in to_rgb(colour))
    return red, green, blue

"""Pictures of notebook 00: where a query looks, what it finds there, and sliders to move it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from crowdloc.figures.looks import FIRST, HIT, SECOND

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_QUERY = "#d62728"
_PLAIN = FuncFormatter(lambda value, _: f"{value:,.10g}")
_KEYS = [
    Line2D([], [], ls="", marker="o", color=FIRST, label="drawn (area: how often)"),
    Line2D([], [], ls="", marker="o", color=SECOND, label="off the map, moved to its border"),
    Line2D([], [], ls="", marker="*", ms=11, color=_QUERY, mec="black", mew=0.6, label="query p"),
    Line2D([], [], color="grey", lw=0.9, label="γ (solid) and 2 γ (dashed)"),
]
STRIDE = 8  # image pixels per feature cell


class Cloud(NamedTuple):
    """Where one query looks with one γ: draws with repetition, in cells.

    `query` is (y, x) on a map of `size` (H, W); `cells` (P, 2) are (x, y), after the border rule; `moved` (P,) is true
    where that rule moved a draw onto the map.
    """

    query: tuple[int, int]
    size: tuple[int, int]
    gamma: float
    cells: NDArray[np.int64]
    moved: NDArray[np.bool_]


def clouds(rows: Sequence[Sequence[Cloud]], titles: Sequence[str] = ()) -> Figure:
    """A row of panels per query; circles at one and two γ, draws that the border rule moved in another colour.

    `titles` are those of the panels, row by row; without them γ and the number of draws inside the map.
    """
    height, width = rows[0][0].size
    panel = 4.1, 4.1 * height / width + 0.6
    figure, axes = plt.subplots(
        len(rows), len(rows[0]), figsize=(panel[0] * len(rows[0]), panel[1] * len(rows) + 0.5),
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    for ax, one in zip(axes.flat, (cloud for row in rows for cloud in row), strict=True):
        _cloud(ax, one)
    for ax, title in zip(axes.flat, titles, strict=False):
        ax.set_title(title, fontsize=11)
    for ax in axes[:, 0]:
        ax.set_ylabel("y (cells)")
    for ax in axes[-1]:
        ax.set_xlabel("x (cells)")
    figure.legend(handles=_KEYS, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def cloud(one: Cloud) -> Figure:
    """A single panel of `clouds`."""
    return clouds([[one]])


def _cloud(ax: Axes, one: Cloud) -> None:
    height, width = one.size
    y, x = one.query
    for number, style in ((1, "-"), (2, "--")):
        ax.add_patch(Circle((x, y), number * one.gamma, fill=False, ls=style, lw=0.9, color="grey", zorder=1))
    for moved, colour in ((False, FIRST), (True, SECOND)):
        places, times = np.unique(one.cells[one.moved == moved], axis=0, return_counts=True)
        ax.scatter(places[:, 0], places[:, 1], s=16 * times, color=colour, zorder=3, linewidths=0)
    ax.scatter(x, y, marker="*", s=130, color=_QUERY, edgecolor="black", lw=0.6, zorder=4)
    inside = f"{(~one.moved).sum()} of {len(one.moved)} inside"
    ax.set(xlim=(-1, width), ylim=(height, -1), aspect="equal", title=f"γ = {one.gamma:g}: {inside}")
    ax.title.set_fontsize(11)
    ax.grid(visible=False)


def sliders(make: Callable[..., Cloud], **ranges: tuple[float, float, float, float]) -> Sliders:
    """A picture that follows sliders, in a running notebook; elsewhere a line of text.

    Args:
        make: from the sliders' values, whole where their step is, to what `cloud` shows.
        ranges: first value, lowest, highest and step of every argument of `make`.

    Returns:
        Something for the notebook to display, with its `controls` by name and its `picture`.
    """
    import ipywidgets

    whole = {name: all(float(v).is_integer() for v in values) for name, values in ranges.items()}
    kinds = {True: ipywidgets.IntSlider, False: ipywidgets.FloatSlider}
    controls = {
        name: kinds[whole[name]](value, min=low, max=high, step=step, description=name, continuous_update=False)
        for name, (value, low, high, step) in ranges.items()
    }
    picture = ipywidgets.Image(format="png")

    def draw(_: object = None) -> None:
        figure = cloud(make(**{name: control.value for name, control in controls.items()}))
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=96)
        plt.close(figure)
        picture.value = file.getvalue()

    for control in controls.values():
        control.observe(draw, names="value")
    draw()
    return Sliders(ipywidgets.HBox([ipywidgets.VBox(list(controls.values())), picture]), controls, picture)


class Sliders:
    """A widget that says in words what is missing where widgets do not run."""

    def __init__(self, widget: Any, controls: Mapping[str, Any], picture: Any) -> None:
        self.widget, self.controls, self.picture = widget, controls, picture

    def __repr__(self) -> str:
        return "(sliders appear here when the notebook runs)"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        return {**self.widget._repr_mimebundle_(**options), "text/plain": repr(self)}


def ways(image: NDArray[np.uint8], query: tuple[int, int], chosen: Mapping[str, NDArray[np.int64]],
         heads: NDArray[np.float64]) -> Figure:  # fmt: skip
    """Where a query (y, x) looks on a frame (h, w, 3), a panel per way: cells (n, 2) of (x, y) by title."""
    figure, axes = plt.subplots(1, len(chosen), figsize=(4.0 * len(chosen), 2.4), squeeze=False)
    for ax, (title, cells) in zip(axes[0], chosen.items(), strict=True):
        _frame(ax, image)
        size = 2 if len(cells) > 1000 else 9
        x, y = (STRIDE * cells + (STRIDE - 1) / 2).T  # centres of cells in 0-based pixels
        ax.scatter(x, y, s=size, color=SECOND, linewidths=0)
        _mark(ax, query, heads)
        ax.set_title(title, fontsize=11)
    return figure


def followed(image: NDArray[np.uint8], query: tuple[int, int], maps: Mapping[str, NDArray[np.floating[Any]]],
             heads: NDArray[np.float64]) -> Figure:  # fmt: skip
    """Heat maps (H, W) on a grey frame (h, w, 3), two in a row; the query (y, x) and the heads (n, 2) are marked.

    Maps that are zero at most cells (draws, weights) have scales of their own, zero left out; the others share one.
    """
    rows = (len(maps) + 1) // 2
    figure, axes = plt.subplots(rows, 2, figsize=(11.0, 3.3 * rows), squeeze=False)
    sparse = {title: np.mean(values == 0) >= 0.5 for title, values in maps.items()}
    top = max((float(values.max()) for title, values in maps.items() if not sparse[title]), default=1.0)
    for ax, (title, values) in zip(axes.flat, maps.items(), strict=False):
        _frame(ax, image)
        few = sparse[title]
        drawn = ax.imshow(
            np.ma.masked_equal(values, 0) if few else values, extent=_extent(values.shape), interpolation="nearest",
            cmap="plasma" if few else "magma", vmin=0, vmax=values.max() if few else top,
            zorder=2,
        )  # fmt: skip
        bar = figure.colorbar(drawn, ax=ax, shrink=0.86, pad=0.01)
        bar.ax.tick_params(labelsize=8)
        if few and float(values.max()).is_integer():
            bar.set_ticks(range(int(values.max()) + 1))
        _mark(ax, query, heads)
        ax.set_title(title, fontsize=11)
    return figure


def _frame(ax: Axes, image: NDArray[np.uint8]) -> None:
    pale = 128 + image.mean(axis=2) // 8 * 4  # few greys: small files
    ax.imshow(pale, cmap="gray", vmin=0, vmax=255, interpolation="nearest", zorder=0)
    ax.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5), xticks=[], yticks=[])
    ax.grid(visible=False)


def _mark(ax: Axes, query: tuple[int, int], heads: NDArray[np.float64]) -> None:
    ax.scatter(heads[:, 0], heads[:, 1], s=26, facecolor="none", edgecolor=HIT, lw=1.1, zorder=4, label="head")
    y, x = STRIDE * np.array(query) + (STRIDE - 1) / 2
    ax.scatter(x, y, marker="s", s=90, facecolor="none", edgecolor=_QUERY, lw=1.8, zorder=5)  # leaves the cell in view


def _extent(size: tuple[int, ...]) -> tuple[float, float, float, float]:
    return -0.5, STRIDE * size[1] - 0.5, STRIDE * size[0] - 0.5, -0.5


def towards(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Distances against P, a panel per map: the frames of `studies.idea.towards`, one line per column."""
    figure, axes = plt.subplots(1, len(tables), figsize=(5.6 * len(tables), 4.1), squeeze=False)
    styles = (("o", FIRST, "-"), ("s", FIRST, "--"), ("^", SECOND, "--"))
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        for column, (marker, colour, line) in zip(table, styles, strict=True):
            ax.plot(table.index, table[column], marker=marker, color=colour, ls=line, label=column)
        ax.set(xscale="log", yscale="log", xlabel="points per focus P", title=title)
        ax.set_xticks(table.index, [f"{number:,}" for number in table.index])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(_PLAIN)
    axes[0, 0].set_ylabel("distance (deviations of the map)")
    axes[0, 0].legend(fontsize=9)
    return figure


def toy(image: NDArray[np.float64], truth: NDArray[np.int64], answers: Mapping[str, NDArray[np.int64]]) -> Figure:
    """A toy image (h, w, 3) and what is said of its spots (H, W): 0 red, 1 green, −1 no spot; a panel per answer."""
    colours = np.array([(0.85, 0.2, 0.2), (0.2, 0.65, 0.3)])
    figure, axes = plt.subplots(1, 1 + len(answers), figsize=(3.1 * (1 + len(answers)), 3.2), squeeze=False)
    axes[0, 0].imshow(np.clip(image, 0, 1), interpolation="nearest")
    axes[0, 0].set_title("image", fontsize=11)
    spots = np.argwhere(truth >= 0)
    for ax, (title, answer) in zip(axes[0, 1:], answers.items(), strict=True):
        right = answer[*spots.T] == truth[*spots.T]
        ax.imshow(np.ones((*truth.shape, 3)))
        ax.scatter(*spots.T[::-1], color=colours[answer[*spots.T]], s=70)
        ax.scatter(*spots[~right].T[::-1], marker="x", color="black", s=70)
        ax.set_title(f"{title}: {right.sum()} of {len(right)}", fontsize=11)
    for ax in axes[0]:
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
    return figure

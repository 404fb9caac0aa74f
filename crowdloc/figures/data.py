"""Pictures of the data: annotated frames, strips of a clip, and how counts, distances and head widths are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from crowdloc.datasets.catalog import label
from crowdloc.datasets.samples import Sample
from crowdloc.figures.looks import FIRST, SECOND

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINT, _BOX, _STILL = "#ff3b30", "#ffd60a", "#ffffff"
# Every generated domain above the real set that it is compared with.
ORDER = ("synthcrowd-sense", "synthcrowd-fdst", "mall", "synthcrowd-sha", "shanghaitech_a", "synthcrowd-shb",
         "shanghaitech_b")  # fmt: skip
_COLUMNS = {
    "heads per frame": ("heads per frame", (7, 4200)),
    "nearest head": ("distance to the nearest head (px)", (0.5, 300)),
    "head width": ("head width (px)", (1.6, 45)),
}


def annotated(samples: Sequence[Sample], *, columns: int = 2) -> Figure:
    """Frames with head points (dots), where they are known head-shoulder boxes, and look-alikes (crosses)."""
    rows = -(-len(samples) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(6.2 * columns, 3.75 * rows), squeeze=False)
    for ax in axes.flat[len(samples) :]:
        ax.remove()
    for ax, sample in zip(axes.flat, samples, strict=False):
        ax.imshow(sample.image, interpolation="nearest")
        ax.set_title(sample.title, fontsize=11)
        ax.set_axis_off()
        dense = len(sample.points) > 120
        if sample.boxes is not None:
            boxes = [Rectangle((x1, y1), x2 - x1, y2 - y1) for x1, y1, x2, y2 in sample.boxes]
            ax.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=_BOX, lw=0.6 if dense else 1.0))
        ax.scatter(*sample.points.T, s=5 if dense else 12, color=_POINT, linewidths=0)
        _crosses(ax, sample, 6)
    return figure


def film_strip(samples: Sequence[Sample], view: tuple[int, int, int, int]) -> Figure:
    """Consecutive frames cut to `view` (left, top, right, bottom pixels), one colour per track id.

    A line leads from every head back to where it was in the frames before; crosses are look-alikes, which stay.
    """
    left, top, right, bottom = view
    height = 12.4 / len(samples) * (bottom - top) / (right - left) + 0.35
    figure, axes = plt.subplots(1, len(samples), figsize=(12.6, height), squeeze=False)
    colours = _colours(samples, view)
    trails: dict[int, list[np.ndarray]] = {}
    for number, (ax, sample) in enumerate(zip(axes[0], samples, strict=True)):
        ax.imshow(sample.image, interpolation="nearest")
        ax.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))
        ax.set_title(f"frame t + {number}" if number else "frame t", fontsize=11)
        ax.set_axis_off()
        for key, point in sample.tracks.items():
            if key in colours:
                trails.setdefault(key, []).append(point)
                ax.plot(*np.array(trails[key]).T, color=colours[key], lw=3, path_effects=_outline(4.5))
                ax.plot(*point, "o", ms=9, mfc=colours[key], mec="black", mew=1.0)
                ax.annotate(str(key), point, (7, 4), textcoords="offset points", fontsize=10, color="white",
                            annotation_clip=True, path_effects=_outline(2.5))  # fmt: skip
        _crosses(ax, sample, 11)
    return figure


def _crosses(ax: Axes, sample: Sample, size: float) -> None:
    if sample.lookalikes is not None:
        ax.plot(*sample.lookalikes.T, "x", ms=size, mew=size / 4, color=_STILL, path_effects=_outline(size / 4 + 1.5))


def _outline(width: float) -> list[Any]:
    return [withStroke(linewidth=width, foreground="black")]


def _colours(samples: Sequence[Sample], view: tuple[int, int, int, int]) -> dict[int, Any]:
    """A colour for every track id that is seen inside `view`."""
    low, high = np.array(view[:2]), np.array(view[2:])
    seen = {key for s in samples for key, at in s.tracks.items() if ((at >= low) & (at < high)).all()}
    palette = sns.color_palette("colorblind", 10)
    return {key: palette[number % 10] for number, key in enumerate(sorted(seen))}


def distributions(
    censuses: Mapping[str, Mapping[str, Any]],
    *,
    marks: Mapping[str, tuple[str, float]] | None = None,
    read: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """Histograms of every stored census on common logarithmic axes, generated and real sets in two colours.

    A tick is the median, the line below spans 5 to 95 %. `marks` adds a printed mean of heads per frame to a domain
    (name and value), `read` single head widths of sets that have no histogram of them.
    """
    marks, read = marks or {}, read or {}
    names = [name for name in ORDER if name in censuses]
    figure, axes = plt.subplots(
        len(names), len(_COLUMNS), figsize=(12.6, 0.95 * len(names) + 0.9), sharex="col", squeeze=False
    )
    for row, name in enumerate(names):
        colour = FIRST if name.startswith("synthcrowd") else SECOND
        for ax, quantity in zip(axes[row], _COLUMNS, strict=True):
            found = censuses[name]["distributions"].get(quantity)
            if found is not None:
                _histogram(ax, found, censuses[name]["edges"], colour)
            elif quantity == "head width" and name in read:
                _single(ax, read[name], colour)
            _bare(ax, *_COLUMNS[quantity])
        axes[row, 0].set_ylabel(label(name), rotation=0, ha="right", va="center")
        if name in marks:
            axes[row, 0].plot(marks[name][1], 0.62, "D", ms=6, color=SECOND, mec="black", mew=0.6)
            axes[row, 0].annotate(
                f"{marks[name][0]}: mean {marks[name][1]:.1f}", (marks[name][1], 0.62), (8, 0),
                textcoords="offset points", va="center", fontsize=9,
            )  # fmt: skip
    for ax, (text, _) in zip(axes[-1], _COLUMNS.values(), strict=True):
        ax.set_xlabel(text)
    return figure


def _histogram(ax: Axes, found: Mapping[str, Any], edges: Sequence[float], colour: Any) -> None:
    share = np.array(found["histogram"]) / found["n"]
    ax.stairs(share / share.max(), edges, fill=True, color=colour, alpha=0.75)
    _span(ax, found["quantiles"], colour)


def _single(ax: Axes, values: np.ndarray, colour: Any) -> None:
    ax.vlines(values, 0, 0.45, color=colour, lw=1.3, alpha=0.8)
    _span(ax, np.percentile(values, (5, 25, 50, 75, 95)), colour)


def _span(ax: Axes, quantiles: Sequence[float], colour: Any) -> None:
    low, _, middle, _, high = quantiles
    ax.hlines(-0.14, low, high, color=colour, lw=2.2)
    ax.vlines(middle, -0.28, 0.0, color="black", lw=2.2)


def _bare(ax: Axes, _: str, limits: tuple[float, float]) -> None:
    ax.set(xscale="log", xlim=limits, ylim=(-0.3, 1.08), yticks=[])
    ax.xaxis.set_major_locator(FixedLocator([1, 3, 10, 30, 100, 300, 1000, 3000]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(axis="y", visible=False)
    sns.despine(ax=ax, left=True)

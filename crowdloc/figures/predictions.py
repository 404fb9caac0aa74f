"""Pictures of notebook 15: predictions on frames with their errors, where attention looks, recall by head size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from crowdloc.figures.looks import FALSE, HIT, MISS, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
View = tuple[int, int, int, int]  # left, top, right, bottom in pixels, the last two excluded
TRUTH, PREDICTION = HIT, FALSE  # green and red, as in the paper's figure
FOCI = ("#56b4e9", "#ece133", "#ff7f0e")
_ZOOM = 4  # a view is this part of the frame's sides


class Judged(Protocol):
    """A frame with heads and counted detections, see `studies.predictions.Shown`."""

    @property
    def title(self) -> str: ...
    @property
    def image(self) -> NDArray[np.uint8]: ...
    @property
    def heads(self) -> Floats: ...
    @property
    def diameter(self) -> Floats: ...
    @property
    def points(self) -> Floats: ...
    @property
    def match(self) -> NDArray[np.int64]: ...
    @property
    def missed(self) -> NDArray[np.bool_]: ...
    @property
    def false(self) -> NDArray[np.bool_]: ...


def frames(shown: Sequence[Judged]) -> Figure:
    """A row for every frame: the whole, and two enlarged views, where most goes wrong and where most heads are."""
    width = 5.8
    figure = plt.figure(figsize=(1.5 * width + 0.2, len(shown) * (width * 9 / 16 + 0.34) + 0.4))
    outer = figure.add_gridspec(len(shown), 1)
    for row, frame in enumerate(shown):
        grid = outer[row].subgridspec(2, 2, width_ratios=(2, 1))
        whole, upper, lower = (figure.add_subplot(part) for part in (grid[:, 0], grid[0, 1], grid[1, 1]))
        _picture(whole, frame, None)
        whole.set_title(frame.title, fontsize=10, loc="left")
        for letter, ax, view in zip("ab", (upper, lower), views(frame), strict=True):
            _picture(ax, frame, view)
            left, top, right, bottom = view
            whole.add_patch(
                Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fc="none", ec="white", lw=1.4)
            )
            for where, x, y in ((whole, left + 3, top + 4), (ax, left + 1.5, top + 2)):
                outline = [withStroke(linewidth=2.5, foreground="black")]
                where.text(x, y, letter, color="white", fontsize=11, weight="bold", va="top", path_effects=outline)
    _legend(figure)
    return figure


def views(frame: Judged) -> tuple[View, View]:
    """The part of the frame with most errors, and of those that do not overlap it the one with most heads.

    Of several the one with more heads (errors), then the upper left one.
    """
    height, width = frame.image.shape[:2]
    size = width // _ZOOM, height // _ZOOM
    wrong = np.concatenate([frame.heads[frame.missed], frame.points[frame.false]])
    places = [(x, y) for y in _starts(height, size[1]) for x in _starts(width, size[0])]
    errors, heads = (
        np.array([_inside(points, (x, y, x + size[0], y + size[1])).sum() for x, y in places])
        for points in (wrong, frame.heads)
    )
    first = places[int(np.lexsort((-heads, -errors))[0])]
    far = np.array([max(abs(x - first[0]) / size[0], abs(y - first[1]) / size[1]) >= 1 for x, y in places])
    second = places[int(np.lexsort((-errors, -heads, ~far))[0])]
    return tuple((x, y, x + size[0], y + size[1]) for x, y in (first, second))  # type: ignore[return-value]


def _starts(length: int, side: int) -> list[int]:
    return list(range(0, length - side + 1, max(1, side // 8)))


def _inside(points: Floats, view: View) -> NDArray[np.bool_]:
    left, top, right, bottom = view
    return (points[:, 0] >= left) & (points[:, 0] < right) & (points[:, 1] >= top) & (points[:, 1] < bottom)


def _picture(ax: Axes, frame: Judged, view: View | None) -> None:
    """A frame or a part of it: heads as circles of their size, detections as dots, a line from each head to its own."""
    height, width = frame.image.shape[:2]
    left, top, right, bottom = view or (0, 0, width, height)
    ax.imshow(frame.image[top:bottom, left:right], extent=(left - 0.5, right - 0.5, bottom - 0.5, top - 0.5),
              interpolation="nearest")  # fmt: skip
    scale = 1.0 if view is None else 1.9
    size = np.nan_to_num(frame.diameter, nan=8.0)
    found = ~frame.missed
    lines = np.stack([frame.heads[found], frame.points[frame.match[found]]], axis=1)
    ax.add_collection(LineCollection(list(lines), colors=PREDICTION, linewidths=0.5 * scale))
    for chosen, colour, line in ((found, TRUTH, 0.9), (frame.missed, MISS, 1.5)):
        _circles(ax, frame.heads[chosen], size[chosen], "black", (line + 0.9) * scale)
        _circles(ax, frame.heads[chosen], size[chosen], colour, line * scale)
    true, false = frame.points[~frame.false], frame.points[frame.false]
    ax.scatter(
        true[:, 0], true[:, 1], s=5 * scale**2, color=PREDICTION, linewidths=0.3 * scale, edgecolors="black", zorder=3
    )
    for colour, line in (("black", 2.4), (PREDICTION, 1.4)):
        ax.scatter(
            false[:, 0], false[:, 1], s=22 * scale**2, marker="x", color=colour, linewidths=line * scale, zorder=3
        )
    ax.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))
    ax.set_axis_off()


def _circles(ax: Axes, centres: Floats, diameter: Floats, colour: str, line: float) -> None:
    ax.add_collection(
        EllipseCollection(diameter, diameter, np.zeros(len(diameter)), units="xy", offsets=centres,
                          offset_transform=ax.transData, facecolors="none", edgecolors=colour, linewidths=line)
    )  # fmt: skip


def _legend(figure: Figure) -> None:
    dot: dict[str, Any] = {"ls": "", "mec": "black", "mew": 0.4}
    ring: dict[str, Any] = {"ls": "", "mfc": "none", "ms": 11}
    handles = [
        Line2D([], [], marker="o", mec=TRUTH, mew=1.8, label="head, found", **ring),
        Line2D([], [], marker="o", mec=MISS, mew=2.4, label="head, missed", **ring),
        Line2D([], [], marker="o", color=PREDICTION, ms=7, label="detection, matched", **dot),
        Line2D([], [], marker="x", color=PREDICTION, ms=8, mew=2.4, ls="", label="detection, false"),
    ]
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=10)
    legend.get_frame().set_facecolor("#5f5f5f")
    for text in legend.get_texts():
        text.set_color("white")


def gallery(failures: Sequence[tuple[str, Judged, tuple[float, float]]], *, rows: int = 2, reach: int = 30) -> Figure:
    """Failures (title, frame, place) enlarged, `rows` of one title below each other, `reach` pixels to each side."""
    kinds = list(dict.fromkeys(title for title, _, _ in failures))
    figure, axes = plt.subplots(rows, len(kinds), figsize=(2.35 * len(kinds), 2.35 * rows + 0.75), squeeze=False)
    for column, kind in enumerate(kinds):
        some = [entry for entry in failures if entry[0] == kind][:rows]
        for ax, entry in zip(axes[:, column], [*some, *[None] * (rows - len(some))], strict=True):
            if entry is None:
                ax.remove()
                continue
            _, frame, at = entry
            height, width = frame.image.shape[:2]
            left, top = (
                int(np.clip(round(c) - reach, 0, length - 2 * reach))
                for c, length in zip(at, (width, height), strict=True)
            )
            _picture(ax, frame, (left, top, left + 2 * reach, top + 2 * reach))
            ax.add_collection(
                EllipseCollection([24], [24], [0], units="xy", offsets=[at], offset_transform=ax.transData,
                                  facecolors="none", edgecolors="white", linewidths=1.2, linestyles="dotted")
            )  # fmt: skip
        axes[0, column].set_title(kind.replace(": ", ":\n"), fontsize=10)
    _legend(figure)
    return figure


def neighbourhoods(
    images: NDArray[np.uint8],
    keyframe: int,
    query: tuple[float, float],
    draws: Sequence[tuple[str, NDArray[np.int64], Floats, Floats]],
) -> Figure:
    """Where a query looks in every frame of a clip: dots whose area is the weight.

    Args:
        images: (T, h, w, 3); query: image point in frame `keyframe`.
        draws: for each focus its name, and frame (n,), image point (n, 2) and weight (n,) of every draw.
    """
    count = len(images)
    figure, axes = plt.subplots(1, count, figsize=(4.3 * count, 3.2), squeeze=False)
    height, width = images.shape[1:3]
    most = max(float(weight.max()) for _, _, _, weight in draws)
    for number, ax in enumerate(axes[0]):
        ax.imshow((images[number] * 0.85).astype(np.uint8), interpolation="nearest")
        for (_, frame, points, weight), colour in reversed(list(zip(draws, FOCI, strict=False))):
            here = frame == number
            area = 260 * weight[here] / most
            x, y = points[here].T
            ax.scatter(x, y, s=6, color=colour, edgecolors="black", linewidths=0.3)
            ax.scatter(x, y, s=np.where(area < 6, 0, area), color=colour, alpha=0.8, edgecolors="black", linewidths=0.6)
        own = number == keyframe
        face, edge = ("white", "black") if own else ("none", "white")
        ax.scatter(query[0], query[1], marker="*", s=190, color=face, edgecolors=edge, linewidths=1.0, zorder=4)
        away = number - keyframe
        ax.set_title("keyframe t" if own else f"frame t {'+' if away > 0 else '−'} {abs(away)}", fontsize=11)
        ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        ax.set_axis_off()
    handles = [
        Line2D([], [], marker="o", ls="", color=colour, mec="black", mew=0.4, ms=9, label=f"drawn with γ = {name}")
        for (name, _, _, _), colour in zip(draws, FOCI, strict=False)
    ]
    handles.append(Line2D([], [], marker="*", ls="", color="white", mec="black", ms=14, label="query"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=10)
    return figure


def by_size(curves: pd.DataFrame, accuracy: pd.DataFrame, *, method: str) -> Figure:
    """Left: recall against head diameter, mean over seeds and a band from lowest to highest. Right: how far off.

    Args:
        curves: columns method, label, seed, diameter, recall.
        accuracy: of `method`: percentiles 5, 50, 95 (columns) of the distance in percent of the diameter (index).
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.4, 3.9))
    for name, look in looks(dict.fromkeys(curves["method"])).items():
        rows = curves[curves["method"] == name]
        values = rows.pivot(index="diameter", columns="seed", values="recall")
        left.plot(values.index, values.mean(axis=1), marker="o", ms=4, color=look.colour, label=rows["label"].iloc[0])
        left.fill_between(values.index, values.min(axis=1), values.max(axis=1), color=look.colour, alpha=0.13, lw=0)
    left.set(xlabel="head diameter (pixels of 288 rows)", ylabel="recall of counted detections")
    left.legend(fontsize=10, loc="lower right")
    look = looks([method])[method]
    right.fill_between(
        accuracy.index, accuracy[5], accuracy[95], color=look.colour, alpha=0.18, lw=0, label="5 to 95 %"
    )
    right.plot(accuracy.index, accuracy[50], marker="o", ms=4, color=look.colour, label="median")
    right.axhline(50, color="black", lw=1, ls="--")
    right.text(accuracy.index[-1], 51, "edge of the head", ha="right", va="bottom", fontsize=10)
    right.set(xlabel="head diameter (pixels of 288 rows)", ylabel="distance (percent of the diameter)", ylim=(0, 60))
    right.legend(fontsize=10, title=look.label, loc="upper center")
    return figure

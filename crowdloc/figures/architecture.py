"""GNANet as a drawing (Figure 2): what the stages are and what flows between them comes from a run of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# inches
_WIDTH, _HEIGHT, _PITCH_X, _PITCH_Y = 1.86, 2.02, 2.38, 2.66
_PICTURE = 1.58, 0.89  # 16:9
_CORNER = 0.12

_PALETTE = [str(colour) for colour in sns.color_palette("colorblind").as_hex()]
_INK, _PALE = "#2b2b2b", "#6d6d6d"
_FEATURE, _QUERY, _FLOW = _PALETTE[0], _PALETTE[3], "#4a4a4a"
_FACES = {"learned": "#fffdf6", "attention": "#f1f7ff", "data": "#f6f6f6"}

# Columns and rows, from the left and from below.
PLACES = {
    "frames": (0, 2), "backbone": (0, 1), "combine": (1, 1), "scene_gna": (2, 1), "context": (3, 1),
    "temporal_gna": (4, 2), "keyframe_gna": (4, 0), "fusion": (5, 1), "head": (6, 1), "map": (6, 2),
}  # fmt: skip
_GROUPS = {
    "Scene modelling (§IV-B2)": (("combine", "scene_gna", "context"), "#eef6ee"),
    "Context cross-attention (§IV-B3)": (("temporal_gna", "keyframe_gna", "fusion"), "#fdf3ea"),
}


class Block(NamedTuple):
    """A box of the drawing: `lines` are number lines, the first in ink, further ones pale.

    `pictures` are images (h, w, 3) or maps (h, w); several are shown as a stack, the last one in front.
    """

    title: str
    what: str
    lines: tuple[str, ...]
    pictures: tuple[NDArray[Any], ...] = ()
    kind: str = "learned"  # or "attention", "data"


def network(blocks: Mapping[str, Block], arrows: Sequence[tuple[str, str, str]], *, note: str = "") -> Figure:
    """Boxes by stage and arrows (source, target, name of the target's argument).

    Args:
        blocks: by name of the stage, each one of `PLACES`; those that are missing are left out.
        note: what the number lines mean; stands above scene modelling.
    """
    columns, rows = (1 + max(place[axis] for place in PLACES.values()) for axis in (0, 1))
    width, height = _PITCH_X * (columns - 1) + _WIDTH + 0.5, _PITCH_Y * (rows - 1) + _HEIGHT + 0.95
    figure = plt.figure(figsize=(width, height), layout="none")
    ax = figure.add_axes((0, 0, 1, 1))
    left, low = -_WIDTH / 2 - 0.25, -_HEIGHT / 2 - 0.45
    ax.set(xlim=(left, left + width), ylim=(low, low + height))
    ax.set_axis_off()
    for title, (members, colour) in _GROUPS.items():
        _group(ax, title, [name for name in members if name in blocks], colour)
    roles: dict[tuple[str, str], list[str]] = {}
    for source, target, role in arrows:
        roles.setdefault((source, target), []).append(role)
    for (source, target), names in roles.items():
        _arrow(ax, source, target, names)
    for name, block in blocks.items():
        _box(ax, _centre(name), block)
    ax.text(_PITCH_X - _WIDTH / 2, 2 * _PITCH_Y - 0.42, note, fontsize=10, color=_INK, va="center", linespacing=1.5)
    return figure


def _centre(name: str) -> tuple[float, float]:
    column, row = PLACES[name]
    return column * _PITCH_X, row * _PITCH_Y


def _group(ax: Axes, title: str, members: Sequence[str], colour: str) -> None:
    if not members:
        return
    x, y = zip(*map(_centre, members), strict=True)
    left, right = min(x) - _WIDTH / 2 - 0.17, max(x) + _WIDTH / 2 + 0.17
    low, high = min(y) - _HEIGHT / 2 - 0.36, max(y) + _HEIGHT / 2 + 0.36
    ax.add_patch(
        FancyBboxPatch((left, low), right - left, high - low, boxstyle="round,pad=0,rounding_size=0.15", fc=colour,
                       ec="none", zorder=0)
    )  # fmt: skip
    several = len(set(y)) > 1
    at = (right - 0.12, high - 0.1) if several else (left + 0.12, low + 0.1)
    ax.text(*at, title.replace(" (", "\n(") if several else title, fontsize=11, color=_PALE, style="italic",
            ha="right" if several else "left", va="top" if several else "bottom")  # fmt: skip


def _box(ax: Axes, centre: tuple[float, float], block: Block) -> None:
    x, y = centre
    corner = (x - _WIDTH / 2, y - _HEIGHT / 2)
    style = f"round,pad=0,rounding_size={_CORNER}"
    face = _FACES[block.kind]
    ax.add_patch(FancyBboxPatch(corner, _WIDTH, _HEIGHT, boxstyle=style, fc=face, ec=_INK, lw=1.1, zorder=3))
    top = y + _HEIGHT / 2
    ax.text(x, top - 0.15, block.title, fontsize=11, weight="bold", color=_INK, ha="center", va="center", zorder=5)
    _pictures(ax, (x, top - 0.3 - _PICTURE[1] / 2), block.pictures)
    lines = [*_broken(block.what), *block.lines]
    start, step = top - 0.3 - _PICTURE[1] - 0.13, 0.163
    for number, line in enumerate(lines):
        first = number < len(lines) - len(block.lines) + 1
        ax.text(x, start - number * step, line, fontsize=8.6, color=_INK if first else _PALE, ha="center", va="center",
                zorder=5)  # fmt: skip


def _broken(text: str, longest: int = 25) -> list[str]:
    """Lines of a text, broken after semicolons only."""
    lines: list[str] = []
    for part in text.split("; "):
        if lines and len(lines[-1]) + 2 + len(part) <= longest:
            lines[-1] += f"; {part}"
        else:
            lines.append(part)
    return lines


def _pictures(ax: Axes, centre: tuple[float, float], pictures: Sequence[NDArray[Any]]) -> None:
    shift = 0.07 if len(pictures) > 1 else 0.0
    width, height = (side - shift * (len(pictures) - 1) for side in _PICTURE)
    for number, picture in enumerate(pictures):
        offset = shift * (number - (len(pictures) - 1) / 2)
        x, y = centre[0] + offset, centre[1] - offset
        extent = (x - width / 2, x + width / 2, y - height / 2, y + height / 2)
        look: dict[str, Any] = {} if picture.ndim == 3 else {"cmap": "magma", "vmax": np.quantile(picture, 0.995)}
        ax.imshow(picture, extent=extent, aspect="auto", interpolation="nearest", zorder=4 + 0.01 * number, **look)
        frame = [(extent[0], extent[2]), (extent[1], extent[2]), (extent[1], extent[3]), (extent[0], extent[3])]
        ax.plot(*zip(*frame, frame[0], strict=True), color="white", lw=1.2, zorder=4.005 + 0.01 * number)


def _port(name: str, side: str, shift: float = 0.0) -> tuple[float, float]:
    """A place on the edge of a box, `shift` inches right of or above the middle of that side."""
    x, y = _centre(name)
    return {
        "left": (x - _WIDTH / 2, y + shift),
        "right": (x + _WIDTH / 2, y + shift),
        "top": (x + shift, y + _HEIGHT / 2),
        "bottom": (x + shift, y - _HEIGHT / 2),
    }[side]


def _route(source: str, target: str) -> tuple[list[tuple[float, float]], str, tuple[float, float] | None]:
    """Corners of an arrow, what stands on it, and where."""
    gap = (_PITCH_X - _WIDTH) / 2  # from a box to the middle of the gap beside it
    match source, target:
        case ("frames", "backbone") | ("head", "map"):
            down = source == "frames"
            return [_port(source, "bottom" if down else "top"), _port(target, "top" if down else "bottom")], "", None
        case "combine", "context":
            above = _port(source, "top")[1] + 0.2
            start, end = _port(source, "top", 0.5), _port(target, "top", -0.5)
            return [start, (start[0], above), (end[0], above), end], "", None
        case "backbone", "temporal_gna":
            start, end = _port(source, "right", 0.35), _port(target, "left", 0.4)
            bend = start[0] + gap - 0.07
            label = "features of all frames: keys and values"
            return [start, (bend, start[1]), (bend, end[1]), end], label, (_PITCH_X * 2, end[1] + 0.14)
        case "backbone", "keyframe_gna":
            start, end = _port(source, "right", -0.35), _port(target, "left", -0.4)
            bend = start[0] + gap - 0.07
            label = "feature of the keyframe: keys and values, and a term of the sum"
            return [start, (bend, start[1]), (bend, end[1]), end], label, (_PITCH_X * 2.05, end[1] - 0.15)
        case "backbone", "fusion":
            start, turn = _port(source, "right", -0.35), _port("keyframe_gna", "left", -0.4)
            bend, below = start[0] + gap - 0.07, _port("keyframe_gna", "bottom")[1] - 0.18
            end, split = _port(target, "bottom", 0.35), turn[0] - 0.5
            corners = [(bend, turn[1]), (split, turn[1]), (split, below), (end[0], below), end]
            return [start, (bend, start[1]), *corners], "", None
        case "context", "temporal_gna" | "keyframe_gna":
            up = 1 if target == "temporal_gna" else -1
            start, end = _port(source, "right"), _port(target, "left", -0.4 * up)
            bend = start[0] + gap
            return [start, (bend, start[1]), (bend, end[1]), end], "query", (bend - 0.06, end[1] - 0.2 * up)
        case "temporal_gna", "fusion":
            start, end = _port(source, "right"), _port(target, "top")
            return [start, (end[0], start[1]), end], "", None
        case "keyframe_gna", "fusion":
            start, end = _port(source, "right"), _port(target, "bottom", -0.35)
            return [start, (end[0], start[1]), end], "", None
        case "combine", "scene_gna":
            start, end = _port(source, "right"), _port(target, "left")
            return [start, end], "Q K V", ((start[0] + end[0]) / 2, start[1] + 0.13)
        case _:
            return [_port(source, "right"), _port(target, "left")], "", None


def _arrow(ax: Axes, source: str, target: str, roles: Sequence[str]) -> None:
    corners, label, at = _route(source, target)
    colour = _FEATURE if source == "backbone" and target != "combine" else _QUERY if roles == ["query"] else _FLOW
    ax.add_patch(
        FancyArrowPatch(path=_rounded(corners), arrowstyle="-|>,head_length=6,head_width=3.2", lw=1.7, color=colour,
                        shrinkA=0, shrinkB=0, zorder=2, joinstyle="round")
    )  # fmt: skip
    if at is not None:
        side = "right" if label == "query" else "center"
        ax.text(*at, label, fontsize=9.5, color=colour, ha=side, va="center", zorder=5)


def _rounded(corners: Sequence[tuple[float, float]]) -> Path:
    """A line through corners that it cuts short."""
    points = np.array(corners)
    vertices, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        reach = [min(0.1, np.hypot(*(other - corner)) / 2) for other in (before, after)]
        others = zip(reach, (before, after), strict=True)
        ends = [corner + far * (other - corner) / np.hypot(*(other - corner)) for far, other in others]
        vertices += [ends[0], corner, ends[1]]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*vertices, points[-1]], [*codes, Path.LINETO])


def shares(tables: Mapping[str, pd.DataFrame], titles: Mapping[str, str]) -> Figure:
    """Bars of percent by stage (index) and quantity (columns), a panel for every table; `titles` name the stages."""
    figure, axes = plt.subplots(1, len(tables), figsize=(6.4 * len(tables), 4.9), sharey=True, squeeze=False)
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        for number, column in enumerate(table.columns):
            y = np.arange(len(table)) + 0.8 * ((number + 0.5) / len(table.columns) - 0.5)
            bars = ax.barh(y, table[column], 0.76 / len(table.columns), color=_PALETTE[number], label=column)
            ax.bar_label(bars, [_percent(value) for value in table[column]], padding=3, fontsize=8.5)
        ax.set(xlabel="percent of the whole", title=title, xlim=(0, 1.14 * float(table.max(axis=None))))
        ax.set_yticks(range(len(table)), [titles[name] for name in table.index])
        ax.grid(axis="y", visible=False)
    axes[0, 0].invert_yaxis()
    axes[0, 0].legend(loc="lower right", fontsize=10)
    return figure


def _percent(value: float) -> str:
    return "0" if value == 0 else f"{value:.1f}"

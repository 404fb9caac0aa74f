"""Pictures of notebooks 06 and 07: counts per image, density maps on a frame, people flows between two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from numpy.typing import NDArray

from crowdloc.figures.localization import counts, learning_curves
from crowdloc.figures.looks import FALSE, HIT, looks, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["counts", "density_maps", "flow_field", "learning_curves", "plt", "steps", "style"]

Floats = NDArray[np.float64]
_COLUMNS = 3  # panels side by side
_MAPS = "inferno"
_LONGER = 4  # arrows of steps are drawn so many times as long
_SPLIT = 0.05  # people per cell from which on an arrow is drawn


class OfMethod(Protocol):
    """See `studies.counting.Density`."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def heads_per_cell(self) -> Floats: ...
    @property
    def count(self) -> float: ...


class OfFrame(Protocol):
    """See `studies.counting.Densities`."""

    @property
    def title(self) -> str: ...
    @property
    def image(self) -> NDArray[np.uint8]: ...
    @property
    def heads(self) -> Floats: ...
    @property
    def truth(self) -> Floats: ...
    @property
    def found(self) -> Sequence[OfMethod]: ...


class Moving(Protocol):
    """See `studies.counting.Flow`."""

    @property
    def title(self) -> str: ...
    @property
    def images(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]: ...
    @property
    def before(self) -> Floats: ...
    @property
    def after(self) -> Floats: ...


def density_maps(frame: OfFrame) -> Figure:
    """The frame with its heads, those as a density map, and the map of every method; all maps on one scale.

    A colour is heads per cell. What a method puts below zero is cut off in the picture, not in its count.
    """
    panels = 2 + len(frame.found)
    rows = -(-panels // _COLUMNS)
    height, width = frame.image.shape[:2]
    figure, axes = plt.subplots(rows, _COLUMNS, figsize=(4.1 * _COLUMNS + 0.6, rows * (4.1 * height / width + 0.4)),
                                squeeze=False)  # fmt: skip
    for ax in axes.flat[panels:]:
        ax.remove()
    ax, *others = axes.flat[:panels]
    ax.imshow(frame.image)
    ax.scatter(frame.heads[:, 0], frame.heads[:, 1], s=9, color=HIT, edgecolors="black", linewidths=0.3)
    ax.set_title(frame.title, fontsize=10)
    shown = [("heads, σ = 4 pixels", frame.truth)]
    shown += [(f"{one.label}: {one.count:.1f}", one.heads_per_cell) for one in frame.found]
    top = max(float(np.quantile(frame.truth, 0.999)), 1e-3)
    for ax, (title, density) in zip(others, shown, strict=True):
        picture = ax.imshow(np.clip(density, 0, None), cmap=_MAPS, vmin=0, vmax=top, interpolation="nearest",
                            extent=(-0.5, width - 0.5, height - 0.5, -0.5))  # fmt: skip
        ax.set_title(title, fontsize=10)
    for ax in axes.flat[:panels]:
        ax.set_axis_off()
    figure.colorbar(picture, ax=others, label="heads per cell of 8×8 pixels", shrink=0.8, extend="max")
    return figure


def flow_field(flow: Moving, total: Floats, step: Floats) -> Figure:
    """Left: how people moved. Right: the flows, people per cell as colour and their mean steps as arrows.

    Args:
        total, step: (H, W) people and (H, W, 2) their mean step in pixels, of `studies.counting.net_flow`.
    """
    image = flow.images[1]
    height, width = image.shape[:2]
    figure, (left, right) = plt.subplots(1, 2, figsize=(13.2, 6.6 * height / width + 0.7))
    left.imshow((image * 0.8).astype(np.uint8))
    _arrows(left, flow.before, flow.after - flow.before, FALSE)
    left.set_title(f"{flow.title}: true steps, {_LONGER} times as long", fontsize=10)
    rows, columns = total.shape
    picture = right.imshow(total, cmap=_MAPS, vmin=0, vmax=max(float(np.quantile(total, 0.995)), 1e-3),
                           interpolation="nearest", extent=(-0.5, width - 0.5, height - 0.5, -0.5))  # fmt: skip
    y, x = np.nonzero(total > _SPLIT)
    centres = np.stack([(x + 0.5) * width / columns, (y + 0.5) * height / rows], axis=1) - 0.5
    _arrows(right, centres, step[y, x], HIT)
    right.set_title(f"flows of EPF: mean step of each cell's people, {_LONGER} times as long", fontsize=10)
    for ax in (left, right):
        ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        ax.set_axis_off()
    figure.colorbar(picture, ax=right, label="people per cell", shrink=0.8, extend="max")
    return figure


def _arrows(ax: Axes, starts: Floats, steps: Floats, colour: str) -> None:
    """Lines from dots, longer than the steps."""
    ends = starts + _LONGER * steps
    for shade, line in (("black", 2.6), (colour, 1.3)):
        ax.add_collection(LineCollection(list(np.stack([starts, ends], axis=1)), colors=shade, linewidths=line))
    ax.scatter(starts[:, 0], starts[:, 1], s=7, color=colour, edgecolors="black", linewidths=0.3, zorder=3)


def steps(motions: pd.DataFrame) -> Figure:
    """Found against true steps of people in pixels, across and down, of `studies.counting.motions`."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.2), sharex=True, sharey=True)
    look, seen = looks(["epf"])["epf"], motions.dropna()
    reach = max(1.0, float(seen.abs().max(axis=None)) if len(seen) else 1.0) * 1.05
    for ax, (title, column) in zip(axes, (("across", "dx"), ("down", "dy")), strict=True):
        ax.plot([-reach, reach], [-reach, reach], color="grey", lw=1)
        ax.scatter(seen[column], seen[f"found {column}"], s=10, alpha=0.4, color=look.colour, linewidths=0)
        ax.set(xlabel="true step (pixels)", aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach), title=title)
    axes[0].set_ylabel(f"step in the flows of {look.label} (pixels)")
    return figure

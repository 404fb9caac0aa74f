"""Pictures of a notebook kept as files, each with the numbers that it shows: `NN.png` and `NN.csv` in one folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection, PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from crowdloc.core.files import atomic_write

FOLDER = "CROWDLOC_FIGURES"  # environment variable: where pictures go; empty or absent: nowhere
_COLUMNS = ["panel", "kind", "label", "x", "y"]


def keep_what_is_shown() -> None:
    """From here on `plt.show()` also writes every open figure into the folder that FOLDER names, if it names one."""
    folder, show = os.environ.get(FOLDER), plt.show
    if not folder or hasattr(show, "kept"):
        return
    number = 0

    def shown(*arguments: object, **options: object) -> None:
        nonlocal number
        for open_ in plt.get_fignums():
            write(plt.figure(open_), Path(folder) / f"{number:02}.png")
            number += 1
        show(*arguments, **options)

    shown.kept = True  # type: ignore[attr-defined]
    plt.show = shown


def write(figure: Figure, path: Path) -> Path:
    """A figure as PNG and beside it, where it shows numbers, `numbers` as CSV; returns the path of the PNG."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
    table = numbers(figure)
    if len(table):
        with atomic_write(path.with_suffix(".csv")) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    return path


def numbers(figure: Figure) -> pd.DataFrame:
    """What a figure shows in the units of its axes: a row per point of a line, a scatter, a bar, an interval, a band.

    Columns `panel` (title or place of the axes), `kind`, `label` (as in the legend), `x`, `y`. Of a bar its end, of an
    interval and of the outline of a band every corner. Pictures and what is drawn for orientation have no rows.
    """
    rows = []
    for place, axes in enumerate(figure.axes):
        named = {id(part): str(group.get_label()) for group in axes.containers for part in group.get_children()}
        for kind, part, points in _parts(axes):
            label = named.get(id(part), str(part.get_label()))
            shown = "" if label.startswith("_") else label
            rows += [(axes.get_title() or str(place), kind, shown, x, y) for x, y in points]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _parts(axes: Axes) -> Iterator[tuple[str, Artist, NDArray[np.float64]]]:
    for line in axes.lines:
        if line.get_transform() == axes.transData:  # else a line across the axes
            yield "line", line, np.ma.filled(np.ma.asarray(line.get_xydata(), float), np.nan)
    for patch in axes.patches:
        if isinstance(patch, Rectangle) and patch.get_width() and patch.get_height():
            x, y, width, height = *patch.get_xy(), patch.get_width(), patch.get_height()
            end = (x + width / 2, y + height) if not y else (x + width, y + height / 2)
            yield "bar", patch, np.array([end], dtype=float)
    for collection in axes.collections:
        yield from _of_collection(collection, axes)


def _of_collection(found: Collection, axes: Axes) -> Iterator[tuple[str, Artist, NDArray[np.float64]]]:
    if isinstance(found, PathCollection):
        if found.get_offset_transform() == axes.transData:
            yield "points", found, np.ma.filled(np.ma.asarray(found.get_offsets(), float), np.nan)
    elif isinstance(found, LineCollection | PolyCollection) and found.get_transform() == axes.transData:
        kind = "interval" if isinstance(found, LineCollection) else "band"
        for path in found.get_paths():
            yield kind, found, np.asarray(path.vertices, float)

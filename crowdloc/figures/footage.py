"""What was found in one's own footage, over time."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write, read_json
from crowdloc.figures.looks import FIRST, style
from crowdloc.results.recording import COUNTS, RUN

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PICTURE = "counts.png"
_BINS = 600  # more frames than that are shown as mean and range of a bin


def write_count_over_time(folder: Path) -> Path:
    """`counts.png` beside the `counts.csv` that `crowdloc locate --out` wrote."""
    style()
    figure = count_over_time(folder)
    with atomic_write(folder / PICTURE) as temporary:
        figure.savefig(temporary, format="png")
    plt.close(figure)
    return folder / PICTURE


def count_over_time(folder: Path) -> Figure:
    """Counts of every frame of a `counts.csv`, whatever its length: beyond 600 frames mean and range of bins."""
    when, counts, unit = binned(folder / COUNTS)
    figure, ax = plt.subplots(figsize=(9.6, 3.2))
    low, mean, high = counts.T
    if (high > low).any():
        ax.fill_between(when, low, high, color=FIRST, alpha=0.25, lw=0, label="lowest to highest")
        ax.plot(when, mean, color=FIRST, lw=1.6, label="mean")
        ax.legend(loc="upper right")
    else:
        ax.plot(when, mean, color=FIRST, lw=1.4, marker="o" if len(when) <= 60 else None, ms=3.5)
    ax.set(xlabel=unit, ylabel="heads counted", ylim=(0, max(1.0, 1.1 * float(high.max()))))
    ax.margins(x=0.01)
    if (folder / RUN).is_file():
        ax.set_title(Path(read_json(folder / RUN)["run"]["source"].get("path", "camera")).name, loc="left", fontsize=11)
    return figure


def side_by_side(pictures: Sequence[NDArray[np.uint8]]) -> Figure:
    """Pictures (h, w, 3) RGB in one row."""
    figure, axes = plt.subplots(1, len(pictures), figsize=(12.6, 12.6 / len(pictures) * 0.78), squeeze=False)
    for ax, picture in zip(axes[0], pictures, strict=True):
        ax.imshow(picture, interpolation="nearest")
        ax.set_axis_off()
    return figure


def binned(path: Path, bins: int = _BINS) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Time or number of the frames (n,), lowest, mean and highest count (n, 3), n ≤ `bins`, and the unit of time.

    Bins hold equally many frames, a power of two. The file is read once, and no more than 2 · `bins` rows are held.
    """
    rows: list[list[float]] = []  # first time, lowest, sum, highest, frames
    size, timed = 1, True
    try:
        with open(path, encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):
                timed = timed and bool(row["time"])
                at, count = float(row["time"]) if timed else float(number), float(row["count"])
                if rows and rows[-1][4] < size:
                    last = rows[-1]
                    rows[-1] = [last[0], min(last[1], count), last[2] + count, max(last[3], count), last[4] + 1]
                else:
                    rows.append([at, count, count, count, 1])
                if len(rows) > bins and rows[-1][4] == size and len(rows) % 2 == 0:
                    rows = [_joined(a, b) for a, b in zip(rows[::2], rows[1::2], strict=True)]
                    size *= 2
    except FileNotFoundError:
        raise CrowdlocError(f"{path} not found: give a folder that `crowdloc locate --out` wrote") from None
    except (KeyError, TypeError, ValueError):
        raise CrowdlocError(f"{path} is damaged: locate again") from None
    if not rows:
        raise CrowdlocError(f"{path} holds no frame: nothing to plot")
    table = np.array(rows)
    when = table[:, 0]
    unit = "frame"
    if timed:
        factor, unit = (3600, "hours") if when[-1] > 3 * 3600 else (60, "minutes") if when[-1] > 180 else (1, "seconds")
        when = when / factor
    return when, np.stack([table[:, 1], table[:, 2] / table[:, 4], table[:, 3]], axis=1), unit


def _joined(a: list[float], b: list[float]) -> list[float]:
    return [a[0], min(a[1], b[1]), a[2] + b[2], max(a[3], b[3]), a[4] + b[4]]

"""Pictures of notebooks 18 and 19: kernels against size and against the machine, and the randomness of draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = sns.color_palette("colorblind")
_PLAIN = FuncFormatter(lambda value, _: f"{value:,.10g}")


def agreement(outputs: Mapping[str, Tensor]) -> Figure:
    """One channel (H, W) of the reference, of every other backend, and their differences in millionths."""
    others = [name for name in outputs if name != "reference"]
    figure, axes = plt.subplots(1, 1 + 2 * len(others), figsize=(3.9 * (1 + 2 * len(others)), 2.9), squeeze=False)
    reference = outputs["reference"]
    limit = float(reference.abs().max())
    panels = [("reference", reference, limit, "output")]
    for name in others:
        off = 1e6 * (outputs[name] - reference)
        panels.append((name, outputs[name], limit, "output"))
        panels.append((f"{name} − reference", off, float(off.abs().max()) or 1.0, "10⁻⁶"))
    for ax, (name, values, top, unit) in zip(axes[0], panels, strict=True):
        image = ax.imshow(values.numpy(), cmap="vlag", vmin=-top, vmax=top)
        ax.set(title=name, xlabel="x (cells)")
        ax.grid(visible=False)
        figure.colorbar(image, ax=ax, shrink=0.72, label=unit)
    axes[0, 0].set_ylabel("y (cells)")
    return figure


def sizes(table: pd.DataFrame) -> Figure:
    """Time and extra memory of a forward pass against the number of cells: the frame of `kernels.size_table`."""
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 4.2))
    methods = list(dict.fromkeys(table["method"]))
    for ax, column, label in zip(axes, ("ms", "MiB"), ("time (ms)", "extra memory (MiB)"), strict=True):
        for colour, marker, method in zip(_COLOURS, "osD^vP", methods, strict=False):
            rows = table[table["method"] == method]
            ax.plot(rows["cells"], rows[column], marker=marker, ms=5, lw=1.6, color=colour, label=method)
        maps = table.drop_duplicates("cells")
        ax.set(xscale="log", yscale="log", xlabel="map H×W (cells)", ylabel=label)
        ax.set_xticks(maps["cells"], maps["map"], rotation=35, ha="right")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(_PLAIN)
    axes[0].legend(fontsize=9)
    return figure


def roofline(points: pd.DataFrame, ceilings: Mapping[str, Any]) -> Figure:
    """GFLOP/s against operations per byte under the machine's ceilings: the frame of `kernels.roofline`."""
    figure, ax = plt.subplots(figsize=(7.6, 4.6))
    copy, peak = ceilings["copy_gb_s"], ceilings["matrix_gflop_s"]
    x = np.geomspace(0.4, 2 * points["FLOP per byte"].max(), 200)
    ax.plot(x, np.minimum(copy * x, peak), color="black", lw=1.6)
    ax.text(x[-1], peak * 1.08, f"matrix product {peak:,.0f} GFLOP/s", ha="right", fontsize=9)
    ax.annotate(f"copying memory {copy:,.0f} GB/s", (2.0, 2.0 * copy), (14, -6), textcoords="offset points", fontsize=9)
    kinds = points["what"].str.split(" ").str[0]
    markers = {"GNA": "o", "reading": "_", "eager": "X", "full": "s"}
    for kind, marker in markers.items():
        rows = points[kinds == kind]
        label = {
            "GNA": "GNA, compiled",
            "reading": "reading its rows alone (from caches)",
            "eager": "GNA, eager",
            "full": "full attention",
        }
        size = 260 if marker == "_" else 60
        ax.scatter(
            rows["FLOP per byte"], rows["GFLOP/s"], marker=marker, s=size, lw=2 if marker == "_" else 0.5,
            color=_COLOURS[list(markers).index(kind)], label=label[kind], zorder=3,
        )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="operations per byte of rows (FLOP/byte)", ylabel="GFLOP/s")
    ax.yaxis.set_major_formatter(_PLAIN)
    ax.xaxis.set_major_formatter(_PLAIN)
    ax.xaxis.set_major_locator(LogLocator(10))
    ax.legend(fontsize=9, loc="center right")
    return figure


def variance(tables: Mapping[str, pd.DataFrame], by: str = "P") -> Figure:
    """Variance of both samplings, and the squared bias, against P or S: frames of `randomness.spread`."""
    figure, axes = plt.subplots(1, len(tables), figsize=(4.4 * len(tables), 3.8), sharey=True, squeeze=False)
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        _variance(ax, table, by)
        ax.set(title=title, xlabel={"P": "points per focus P", "S": "samplings S"}[by])
    axes[0, 0].set_ylabel("percent of the map's variance")
    axes[0, 0].legend(fontsize=9)
    return figure


def _variance(ax: Axes, table: pd.DataFrame, by: str) -> None:
    styles = {
        "independent": ("o", _COLOURS[0], "independent draws"),
        "qmc": ("s", _COLOURS[1], "low-discrepancy draws"),
    }
    for sampling, (marker, colour, label) in styles.items():
        rows = table[table["sampling"] == sampling]
        ax.plot(rows[by], rows["variance"], marker=marker, color=colour, label=f"variance, {label}")
    rows = table[(table["sampling"] == "independent") & (table["bias²"] > 0)]
    ax.plot(rows[by], rows["bias²"], marker="^", ls="--", color="grey", label="squared bias against the limit")
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(sorted(set(table[by])), [str(value) for value in sorted(set(table[by]))])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(_PLAIN)

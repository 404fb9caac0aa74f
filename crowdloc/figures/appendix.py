"""Pictures of notebook 16: the steps of Appendix A, bounds against errors, similarity and error by distance and P."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = [str(colour) for colour in sns.color_palette("colorblind").as_hex()]
_MARKERS = "osD^v"
_PLAIN = FuncFormatter(lambda value, _: f"{value:,.10g}")


def steps(rows: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Every side of every inequality, median and middle 90 % of queries by kind: the frame of `appendix_a.walk`.

    Args:
        labels: what to write below each of the columns, in order. A dotted line is the largest distance of two values.
    """
    figure, ax = plt.subplots(figsize=(8.6, 4.4))
    kinds = list(dict.fromkeys(rows["kind"]))
    for number, kind in enumerate(kinds):
        part = rows[rows["kind"] == kind]
        low, middle, high = (part[list(labels)].quantile(q).to_numpy() for q in (0.05, 0.5, 0.95))
        at = np.arange(len(labels)) + 0.12 * (number - (len(kinds) - 1) / 2)
        spread = np.stack([middle - low, high - middle])
        ax.errorbar(
            at, middle, spread, marker=_MARKERS[number], ms=6, lw=1.0, capsize=2, color=_COLOURS[number], label=kind
        )
    ax.set(yscale="log", ylabel="2-norm, by query")
    lowest, highest = rows["diameter"].min(), rows["diameter"].max()
    ax.axhspan(lowest, highest, color="grey", alpha=0.25, lw=0)
    ax.text(4.4, lowest * 0.9, "largest distance of two values", ha="right", va="top", fontsize=9, color="dimgrey")
    ax.set_xticks(range(len(labels)), list(labels.values()))
    ax.yaxis.set_major_formatter(_PLAIN)
    ax.legend(fontsize=9, loc="upper left")
    return figure


def bounds(rows: pd.DataFrame, pairs: Mapping[str, tuple[str, str]]) -> Figure:
    """Bound against error, a dot per query, a panel per kind: the frame of `appendix_bounds.compare`.

    Args:
        pairs: by label, the columns of a bound and of the error that it bounds.
    """
    kinds = list(dict.fromkeys(rows["kind"]))
    figure, axes = plt.subplots(1, len(kinds), figsize=(3.2 * len(kinds), 3.7), sharey=True, squeeze=False)
    for ax, kind in zip(axes[0], kinds, strict=True):
        part = rows[rows["kind"] == kind]
        for colour, (label, (bound, error)) in zip(_COLOURS, pairs.items(), strict=False):
            ax.scatter(part[error], part[bound], s=5, lw=0, alpha=0.6, color=colour, label=label)
        ends = [part[[error for _, error in pairs.values()]].min().min(), part["drawn"].max()]
        ax.plot(ends, ends, color="black", lw=1.2, label="bound = error")
        ax.set(xscale="log", yscale="log", title=kind, xlabel="error")
        ax.yaxis.set_major_formatter(_PLAIN)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        ax.xaxis.set_major_formatter(_PLAIN)
        ax.xaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].set_ylabel("bound")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), markerscale=3, fontsize=9)
    return figure


def similarity(rows: pd.DataFrame, groups: Sequence[Sequence[str]]) -> Figure:
    """Mean score against distance with a 95 % band over maps: the frame of `similarity`, a panel per group of kinds.

    The query's own cell, distance 0, is left out: it would set the scale.
    """
    figure, axes = plt.subplots(1, len(groups), figsize=(4.4 * len(groups), 3.7), squeeze=False)
    order = list(dict.fromkeys(rows["kind"]))
    for ax, kinds in zip(axes[0], groups, strict=True):
        for kind in kinds:
            wide = rows[(rows["kind"] == kind) & (rows["distance"] > 0)].pivot(
                index="distance", columns="map", values="similarity"
            )
            _band(ax, wide, _COLOURS[order.index(kind)], kind)
        ax.axhline(0, color="black", lw=0.8)
        ax.set(xlabel="distance (cells)")
        ax.legend(fontsize=9)
    axes[0, 0].set_ylabel("mean score (standard deviations)")
    return figure


def _band(ax: Axes, wide: pd.DataFrame, colour: str, label: str) -> None:
    """Mean over columns, and twice its standard error."""
    mean, error = wide.mean(axis=1), wide.sem(axis=1)
    ax.plot(wide.index, mean, color=colour, lw=1.8, label=label)
    ax.fill_between(wide.index, mean - 2 * error, mean + 2 * error, color=colour, alpha=0.25, lw=0)


def errors(rows: pd.DataFrame, crossovers: pd.Series, *, deep: int = 1) -> Figure:
    """Error against P with 95 % bands, a panel per kind: the frame of `appendix_errors.bands`.

    Args:
        crossovers: P* by kind, a dotted line where it lies inside the panel.
        deep: how many panels below each other; columns are filled one after the other.
    """
    kinds, cells = (list(dict.fromkeys(rows[name])) for name in ("kind", "cells"))
    wide = len(kinds) // deep
    size = (3.6 * wide, 3.1 * deep + 1.1)
    figure, axes = plt.subplots(deep, wide, figsize=size, sharex=True, sharey=True, squeeze=False)
    for ax, kind in zip(axes.T.flat, kinds, strict=True):
        for number, name in enumerate(cells):
            part = rows[(rows["kind"] == kind) & (rows["cells"] == name)]
            style = {"ls": "--"} if part["error"].nunique() == 1 else {"marker": _MARKERS[number], "ms": 4}
            ax.plot(part["P"], part["error"], color=_COLOURS[number], lw=1.6, label=name, **style)
            ax.fill_between(part["P"], part["low"], part["high"], color=_COLOURS[number], alpha=0.18, lw=0)
        ax.set(xscale="log", yscale="log", title=kind)
        if rows["P"].min() < crossovers[kind] < rows["P"].max():
            ax.axvline(crossovers[kind], color="black", lw=1.0, ls=":")
            place = (crossovers[kind], 0.985)
            ax.annotate(f"P* = {crossovers[kind]:.0f} ", place, xycoords=ax.get_xaxis_transform(), ha="right", va="top")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(_PLAIN)
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_major_formatter(_PLAIN)
    for ax in axes[-1]:
        ax.set_xlabel("points P")
    for ax in axes[:, 0]:
        ax.set_ylabel("error (spread of the values = 1)")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=9)
    return figure

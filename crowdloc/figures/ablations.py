"""Pictures of ablations: differences with their intervals, and a metric against a number that was varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from crowdloc.figures.looks import FIRST, SECOND
from crowdloc.metrics import SIGMAS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from crowdloc.results.runs import Run

_GREY = "#6b6b6b"


def differences(found: Mapping[str, pd.DataFrame], *, title: str = "mAP at σ = 20") -> Figure:
    """What `results.steps` gives, a panel per data set: difference and 95 % interval of every comparison.

    Every panel has the same comparisons in the same order. Blue: the interval lies above zero; orange: below; grey: it
    holds zero, or one seed decides nothing. A row without runs keeps its place and says so.
    """
    rows = max((len(frame) for frame in found.values()), default=1)
    size = (2.6 + 4.0 * len(found), 1.3 + 0.36 * rows)
    figure, axes = plt.subplots(1, len(found), figsize=size, sharey=True, squeeze=False)
    for ax, (name, frame) in zip(axes[0], found.items(), strict=True):
        for y, row in enumerate(frame.itertuples()):
            if not row.low:
                ax.text(0, y, row.verdict, ha="center", va="center", fontsize=9, color=_GREY)
                continue
            middle, low, high = (float(text) for text in (row.difference, row.low, row.high))
            colour = FIRST if low > 0 else SECOND if high < 0 else _GREY
            ax.plot((low, high), (y, y), color=colour, lw=2.4, solid_capstyle="butt")
            ax.plot(middle, y, "o", color=colour, ms=7)
        ax.axvline(0, color="black", lw=1)
        ax.set(title=name, xlabel=f"difference, {title}", ylim=(rows - 0.5, -0.5))
        ax.grid(axis="y", visible=False)
    longest = max(found.values(), key=len)
    axes[0, 0].set_yticks(range(len(longest)), labels=list(longest["comparison"]))
    return figure


def against(
    groups: Mapping[float, Sequence[Run]],
    *,
    xlabel: str,
    metrics: Sequence[str] = ("mAP", "mAR"),
    level: Mapping[str, Sequence[Run]] | None = None,
) -> Figure:
    """Metrics at every σ against the number that tells the groups of runs apart: mean, and a band over the seeds.

    Args:
        level: other runs by name, drawn as horizontal lines (their mean at each σ), e.g. the baseline.
    """
    figure, axes = plt.subplots(
        len(metrics), len(SIGMAS), figsize=(9.6, 2.7 * len(metrics)), sharex=True, squeeze=False
    )
    x = sorted(groups)
    for row, metric in zip(axes, metrics, strict=True):
        for ax, sigma in zip(row, SIGMAS, strict=True):
            values = [np.array([run.metrics["localization"][str(sigma)][metric] for run in groups[k]]) for k in x]
            known = [(k, v) for k, v in zip(x, values, strict=True) if len(v)]
            places = [k for k, _ in known]
            ax.fill_between(
                places, [v.min() for _, v in known], [v.max() for _, v in known], color=FIRST, alpha=0.2, lw=0
            )
            ax.plot(places, [v.mean() for _, v in known], "o-", color=FIRST, ms=5)
            for style, (name, group) in zip(("--", ":", "-."), (level or {}).items(), strict=False):
                mean = np.mean([run.metrics["localization"][str(sigma)][metric] for run in group])
                ax.axhline(float(mean), color=SECOND, ls=style, lw=1.5, label=name)
            ax.set(title=f"{metric}, σ = {sigma}", xticks=x, xticklabels=[f"{k:g}" for k in x])
    for ax in axes[-1]:
        ax.set_xlabel(xlabel)
    axes[0, 0].set_ylabel("mean; band: all seeds")
    if level:
        axes[0, -1].legend(loc="best", fontsize=9)
    return figure


def deviations(table: pd.DataFrame) -> Figure:
    """Mean ± deviation of mAP and mAR at σ 20 under other draws, of `studies.sampling.table` (index sampling, S)."""
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.2), sharey=True)
    names = [sampling if sampling == "limit" else f"{sampling}, S = {samples}" for sampling, samples in table.index]
    for ax, metric in zip(axes, ("mAP", "mAR"), strict=True):
        spread = table[f"± {metric} σ20"].fillna(0)
        ax.errorbar(table[f"{metric} σ20"], range(len(table)), xerr=spread, fmt="o", color=FIRST, capsize=4, lw=1.6)
        ax.set(xlabel=f"{metric}, σ = 20", yticks=range(len(table)), yticklabels=names, ylim=(len(table) - 0.5, -0.5))
    return figure

"""Pictures of ablations: differences with their intervals, and a metric against a number that was varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from crowdloc.figures.looks import FIRST, SECOND, looks
from crowdloc.metrics import SIGMAS
from crowdloc.results.tables import paper_rows

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
    figure, axes = plt.subplots(1, len(found), figsize=size, sharex=True, sharey=True, squeeze=False)
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
        ax.locator_params(axis="x", nbins=5)  # neighbouring panels' numbers must not meet
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
        level: other runs by name, drawn as horizontal lines (their mean at each σ), e.g. the baseline; those without
            runs are left out.
    """
    figure, axes = plt.subplots(
        len(metrics), len(SIGMAS), figsize=(9.6, 2.7 * len(metrics)), sharex=True, squeeze=False
    )
    x = sorted(groups)
    lines = {name: group for name, group in (level or {}).items() if group}
    for row, metric in zip(axes, metrics, strict=True):
        for ax, sigma in zip(row, SIGMAS, strict=True):
            values = [np.array([run.metrics["localization"][str(sigma)][metric] for run in groups[k]]) for k in x]
            known = [(k, v) for k, v in zip(x, values, strict=True) if len(v)]
            places = [k for k, _ in known]
            ax.fill_between(
                places, [v.min() for _, v in known], [v.max() for _, v in known], color=FIRST, alpha=0.2, lw=0
            )
            ax.plot(places, [v.mean() for _, v in known], "o-", color=FIRST, ms=5)
            for style, (name, group) in zip(("--", ":", "-."), lines.items(), strict=False):
                mean = np.mean([run.metrics["localization"][str(sigma)][metric] for run in group])
                ax.axhline(float(mean), color=SECOND, ls=style, lw=1.5, label=name)
            ax.margins(y=0.1)
            ax.set(title=f"{metric}, σ = {sigma}", xticks=x, xticklabels=[f"{k:g}" for k in x])
    for ax in axes[-1]:
        ax.set_xlabel(xlabel)
    axes[0, 0].set_ylabel("mean; band: all seeds")
    if lines:
        axes[0, -1].legend(loc="best", fontsize=9)
    return figure


def dissected(known: pd.DataFrame, interventions: pd.DataFrame) -> Figure:
    """What maps on the way to the head know of who moves, and what networks lose without comparing frames.

    Args:
        known: `studies.dissection.known`; a line per network, whose last point is what its head is given.
        interventions: `studies.dissection.interventions`; the first of each network's rows is the network as trained,
            the second has the keyframe in the place of its neighbours.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(13.2, 4.6), gridspec_kw={"width_ratios": (1.35, 1)})
    shown = looks(dict.fromkeys(known["network"]))
    labels = {name: (paper_rows("VIII", name) or [look.label])[0] for name, look in shown.items()}
    stages = sorted(dict.fromkeys(known["map"]), key=lambda stage: stage == "sum")  # the sum after its terms
    for name, rows in known.groupby("network", sort=False):
        ordered = rows.set_index("map")["moves"].astype(float).reindex([s for s in stages if s in set(rows["map"])])
        x, y = [stages.index(stage) for stage in ordered.index], ordered.to_numpy()
        look = shown[str(name)]
        left.plot(x, y, "-", color=look.colour, lw=1.5, alpha=0.6)
        left.plot(x[:-1], y[:-1], "o", color=look.colour, ms=5)
        left.plot(x[-1], y[-1], "s", color=look.colour, ms=10, label=labels[str(name)])
    left.axhline(0.5, color="black", lw=1)
    left.set(ylim=(0.48, 0.92), ylabel="area under ROC, person or still figure", xticks=range(len(stages)))
    left.set_xticklabels([stage.replace(", ", ",\n").replace(" ", "\n", 1) for stage in stages], fontsize=10)
    left.set_title("what each map knows of who moves (square: given to the head)")
    left.legend(fontsize=9, ncols=2, loc="upper right")
    names = [name for name, rows in interventions.groupby("network", sort=False) if len(rows) > 1]
    for y, name in enumerate(names):
        whole, alone = interventions.loc[interventions["network"] == name, "mAP σ20"].astype(float).iloc[:2]
        colour = shown[str(name)].colour
        right.plot((alone, whole), (y, y), color=colour, lw=2)
        right.plot(whole, y, "o", color=colour, ms=9)
        right.plot(alone, y, "o", color=colour, ms=9, mfc="white", mew=2)
    right.set(yticks=range(len(names)), yticklabels=[labels[str(name)] for name in names],
              ylim=(len(names) - 0.5, -0.5), xlabel="mAP, σ = 20, validation frames")  # fmt: skip
    right.set_title("full: as trained; hollow: first convolution\nsees the keyframe three times")
    right.grid(axis="y", visible=False)
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

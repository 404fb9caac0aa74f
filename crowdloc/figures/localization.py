"""Pictures of methods beside each other, any number of them, and of detections on frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crowdloc.figures.looks import FALSE, HIT, MISS, looks, style
from crowdloc.metrics import SIGMAS
from crowdloc.results.evidence import Evidence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from crowdloc.results.marking import Example
    from crowdloc.results.runs import Run

__all__ = ["by_sigma", "counts", "ghosts", "learning_curves", "plt", "precision_recall", "predictions",
           "style"]  # fmt: skip

_COLUMNS = 4  # panels side by side
NOTHING = "no result to show"
_RECALLS = np.linspace(0.0, 1.0, 101)


def precision_recall(table: Mapping[str, Sequence[Run]], *, sigma: int = 20, threshold: int = 0) -> Figure:
    """Precision against recall at one σ and similarity (0: .50, 5: .75): mean over seeds, band from lowest to highest.

    Precision is the best at a recall or a higher one, as AP takes it: the mean height of a line is the AP.
    """
    figure, ax = plt.subplots(figsize=(7.2, 4.2))
    located = {name: [run.evidence for run in group if run.evidence] for name, group in table.items()}
    shown = looks(name for name, group in located.items() if group)
    if not shown:
        ax.text(0.5, 0.5, NOTHING, ha="center", va="center", color="grey")
    for name, look in shown.items():
        curves = np.array([_curve(run, SIGMAS.index(sigma), threshold) for run in located[name]])
        ax.plot(_RECALLS, curves.mean(axis=0), color=look.colour, lw=1.8, label=look.label)
        if len(curves) > 1:
            ax.fill_between(_RECALLS, curves.min(axis=0), curves.max(axis=0), color=look.colour, alpha=0.18, lw=0)
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    several = any(len(located[name]) > 1 for name in shown)
    ax.set_title(f"σ = {sigma}, similarity ≥ {0.5 + 0.05 * threshold:.2f}" + ("; band: all seeds" if several else ""))
    _legend(ax, len(shown))
    return figure


def _curve(run: Evidence, row: int, threshold: int) -> NDArray[np.float64]:
    """(101,): the best precision at every recall or a higher one."""
    order = np.argsort(-np.concatenate(run.scores), kind="stable")
    hits = np.concatenate([f[row, threshold] for f in run.flags])[order].cumsum()
    best = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return np.append(best, 0.0)[np.searchsorted(hits / run.heads.sum(), _RECALLS)]


def _legend(ax: Axes, entries: int) -> None:
    """Inside while it is small, else to the right of the axes."""
    if entries > 3:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=10)
    elif entries:
        ax.legend(loc="best", fontsize=10)


def by_sigma(seeds: pd.DataFrame, metrics: Sequence[str] = ("mAP", "mAR")) -> Figure:
    """Mean over seeds per σ, with their standard deviation where there are several, of `results.seeds_table`."""
    names = list(dict.fromkeys(seeds.index.get_level_values("method"))) if len(seeds) else []
    width = 0.84 / max(1, len(names))
    size = (max(4.0, 2.4 + 0.36 * len(names)) * len(metrics) + 1.2, 3.6)
    figure, axes = plt.subplots(1, len(metrics), figsize=size, sharey=True, squeeze=False)
    for ax, metric in zip(axes[0], metrics, strict=True):
        for place, (name, look) in enumerate(looks(names).items()):
            rows = seeds.loc[name].reindex(list(SIGMAS))
            x = np.arange(len(SIGMAS)) + width * (place - (len(names) - 1) / 2)
            spread = None if rows[metric, "std"].isna().all() else rows[metric, "std"]
            ax.bar(x, rows[metric, "mean"], 0.92 * width, yerr=spread, capsize=min(4, 16 * width), color=look.colour,
                   label=look.label, error_kw={"lw": 1})  # fmt: skip
        ax.set(xticks=range(len(SIGMAS)), xticklabels=SIGMAS, xlabel="σ (pixels)", title=metric, ylim=(0, 1))
        ax.grid(axis="x", visible=False)
    if not names:
        figure.text(0.5, 0.5, NOTHING, ha="center", va="center", color="grey")
        return figure
    several = bool(seeds.xs("std", axis=1, level=1).notna().any(axis=None))
    axes[0, 0].set_ylabel("mean over seeds, ± deviation" if several else "one seed")
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=10)
    return figure


def _panels(names: Sequence[str], size: tuple[float, float], *, share: bool = False) -> tuple[Figure, list[Axes]]:
    """A panel for every name, at most four side by side."""
    columns = max(1, min(_COLUMNS, len(names)))
    rows = max(1, -(-len(names) // columns))
    figsize = size[0] * columns, size[1] * rows
    figure, axes = plt.subplots(rows, columns, figsize=figsize, squeeze=False, sharex=share, sharey=share)
    _remove_unused(figure, axes, len(names))
    return figure, list(axes.flat[: len(names)])


def _remove_unused(figure: Figure, axes: NDArray[np.object_], used: int) -> None:
    """Leave the first panels; a picture without any says so."""
    for ax in axes.flat[used:]:
        ax.remove()
    if not used:
        figure.text(0.5, 0.5, NOTHING, ha="center", va="center", color="grey")


def counts(table: Mapping[str, Sequence[Run]]) -> Figure:
    """Counted against annotated heads per image, a panel for every method: its first seed, with its MAE."""
    runs = {name: group[0] for name, group in table.items() if group}
    found = {name: _counted(run) for name, run in runs.items()}
    figure, axes = _panels(list(runs), (3.1, 3.3), share=True)
    limit = max((max(real.max(), counted.max()) for real, counted in found.values()), default=1) * 1.03 + 1
    for ax, (name, look) in zip(axes, looks(runs).items(), strict=True):
        real, counted = found[name]
        ax.plot([0, limit], [0, limit], color="grey", lw=1)
        ax.scatter(real, counted, s=9, alpha=0.4, color=look.colour, linewidths=0)
        title = f"{look.label}\nseed {runs[name].experiment.seed}, MAE {np.abs(counted - real).mean():.2f}"
        ax.set(aspect="equal", xlim=(0, limit), ylim=(0, limit))
        ax.set_title(title, fontsize=11)
    figure.supxlabel("annotated heads", fontsize=12)
    figure.supylabel("counted heads", fontsize=12)
    return figure


def _counted(run: Run) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Annotated and counted heads per image; a method's own counts go before those of its points."""
    if run.counts is not None:
        return run.counts.heads, run.counts.counts
    assert run.evidence is not None and run.threshold is not None
    return run.evidence.heads, run.evidence.counts(run.threshold).astype(np.float64)


def learning_curves(table: Mapping[str, Sequence[Run]], *, smooth: int = 20) -> Figure:
    """Training loss, running mean over `smooth` steps, a line per seed; every method has a scale of its own.

    Losses of different methods are different quantities: what can be compared is whether they still fall.
    """
    names = [name for name, group in table.items() if group]
    figure, axes = _panels(names, (3.3, 2.7))
    for ax, (name, look) in zip(axes, looks(names).items(), strict=True):
        for run in table[name]:
            log = run.log
            mean = log["loss"].rolling(smooth, min_periods=1).mean()
            ax.plot(log["step"], mean, color=look.colour, lw=1.2, alpha=0.8)
        ax.set(ylim=(0, None))
        ax.set_title(look.label, fontsize=11)
    if names:
        figure.supxlabel("training step", fontsize=12)
        figure.supylabel("loss", fontsize=12)
    return figure


def predictions(examples: Sequence[Example]) -> Figure:
    """Generated frames with every head and counted detection marked: hit, missed, false (see `results.examples`)."""
    rows = max(1, (len(examples) + 1) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(12.4, 3.6 * rows), squeeze=False)
    _remove_unused(figure, axes, len(examples))
    if not examples:
        return figure
    for ax, example in zip(axes.flat, examples, strict=False):
        _frame(ax, example.image, example.title)
        _marks(ax, example)
    _grey_legend(figure, axes[0, 0])
    return figure


def ghosts(now: Example, before: NDArray[np.uint8], heads: NDArray[np.float64]) -> Figure:
    """A keyframe with what is counted there, beside the frame before it (h, w, 3), whose heads (n, 2) are circles."""
    figure, axes = plt.subplots(1, 2, figsize=(12.4, 3.9))
    _frame(axes[0], before, "the frame before")
    _frame(axes[1], now.image, f"the keyframe: {now.title}")
    _marks(axes[1], now)
    for ax in axes:
        ax.scatter(
            heads[:, 0], heads[:, 1], facecolors="none", edgecolors="white", s=90, linewidths=1.0, label="head before"
        )
    _grey_legend(figure, axes[1])
    return figure


def _frame(ax: Axes, image: NDArray[np.uint8], title: str) -> None:
    height, width = image.shape[:2]
    ax.imshow(image)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()


def _marks(ax: Axes, example: Example) -> None:
    (x, y), (missed_x, missed_y), (false_x, false_y) = (
        places.T
        for places in (example.points[example.hit], example.heads[example.missed], example.points[~example.hit])
    )
    ax.scatter(x, y, color=HIT, s=18, edgecolors="black", linewidths=0.4, label="hit")
    ax.scatter(missed_x, missed_y, facecolors="none", edgecolors=MISS, s=60, linewidths=1.3, label="missed head")
    ax.scatter(false_x, false_y, color=FALSE, marker="x", s=34, linewidths=1.6, label="false detection")


def _grey_legend(figure: Figure, ax: Axes) -> None:
    """The legend of a panel below the figure; grey, since some marks are white."""
    handles, labels = ax.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=10)
    legend.get_frame().set_facecolor("#777777")
    for text in legend.get_texts():
        text.set_color("white")

"""Pictures of the notebooks, in one style: colour-blind-safe, axes with units, legible at notebook width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from numpy.typing import NDArray

from crowdloc.metrics import SIGMAS
from crowdloc.results.evidence import Evidence
from crowdloc.results.tables import LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = dict(zip(("raznet", "gnanet", "truth", "other"), sns.color_palette("colorblind", 4), strict=True))


def style() -> None:
    """Set the project's style; called once at the top of a notebook."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update({"figure.dpi": 96, "savefig.dpi": 96, "figure.constrained_layout.use": True})


def neighbours(
    query: tuple[int, int], cells: Sequence[NDArray[np.int64]], names: Sequence[str], size: tuple[int, int]
) -> Figure:
    """Where one query (y, x) looks on a map of `size` (H, W): one panel per neighbourhood, indices into H·W."""
    height, width = size
    figure, axes = plt.subplots(1, len(cells), figsize=(4.2 * len(cells), 3.0), sharey=True, squeeze=False)
    for ax, indices, name in zip(axes[0], cells, names, strict=True):
        times = np.bincount(indices, minlength=height * width).reshape(size)
        y, x = np.nonzero(times)
        ax.scatter(x, y, s=14 * times[y, x], color=PALETTE["raznet"], label="drawn (area: how often)")
        ax.scatter(*query[::-1], marker="*", s=140, color=PALETTE["gnanet"], edgecolor="black", label="query p")
        ax.set(xlim=(-1, width), ylim=(height, -1), aspect="equal", xlabel="x (feature cells)", title=name)
    axes[0, 0].set_ylabel("y (feature cells)")
    axes[0, 0].legend(loc="lower right", fontsize=8)
    return figure


def precision_recall(runs: Mapping[str, Sequence[Evidence]], *, sigma: int = 20, threshold: int = 0) -> Figure:
    """Precision against recall of every stored seed at one σ and similarity (0: .50, 5: .75)."""
    figure, ax = plt.subplots(figsize=(6, 4))
    for name, seeds in runs.items():
        for index, run in enumerate(seeds):
            recall, precision = _curve(run, SIGMAS.index(sigma), threshold)
            label = LABELS.get(name, name) if index == 0 else None
            ax.plot(recall, precision, color=PALETTE[name], alpha=0.8, lw=1.5, label=label)
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    ax.set_title(f"σ = {sigma} px, similarity ≥ {0.5 + 0.05 * threshold:.2f}; one line per seed")
    ax.legend(loc="lower left")
    return figure


def _curve(run: Evidence, row: int, threshold: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    order = np.argsort(-np.concatenate(run.scores), kind="stable")
    hits = np.concatenate([f[row, threshold] for f in run.flags])[order].cumsum()
    return hits / run.heads.sum(), hits / np.arange(1, len(hits) + 1)


def by_sigma(seeds: pd.DataFrame, metrics: Sequence[str] = ("mAP", "mAR")) -> Figure:
    """Mean over seeds with standard deviation, per σ: the frame of `results.seeds_table`."""
    figure, axes = plt.subplots(1, len(metrics), figsize=(4.6 * len(metrics), 3.6), sharey=True)
    for ax, metric in zip(np.atleast_1d(axes), metrics, strict=True):
        for offset, (model, rows) in enumerate(seeds.groupby(level="model", sort=False)):
            x = np.arange(len(SIGMAS)) + 0.36 * (offset - 0.5)
            ax.bar(x, rows[metric, "mean"], 0.34, yerr=rows[metric, "std"], capsize=4, color=PALETTE[model],
                   label=LABELS.get(model, model))  # fmt: skip
        ax.set(xticks=range(len(SIGMAS)), xticklabels=SIGMAS, xlabel="σ (pixels)", title=metric, ylim=(0, 1))
        ax.grid(axis="x", visible=False)
    np.atleast_1d(axes)[0].set_ylabel("mean over seeds, ± standard deviation")
    np.atleast_1d(axes)[-1].legend(loc="upper left")
    return figure


def counts(runs: Mapping[str, tuple[Evidence, float]]) -> Figure:
    """Predicted against annotated heads per image; every entry is (evidence, counting threshold)."""
    figure, axes = plt.subplots(1, len(runs), figsize=(4.4 * len(runs), 4.0), sharex=True, sharey=True, squeeze=False)
    limit = max(max(run.heads.max(), run.counts(t).max()) for run, t in runs.values()) + 2
    for ax, (name, (run, threshold)) in zip(axes[0], runs.items(), strict=True):
        ax.plot([0, limit], [0, limit], color="grey", lw=1)
        ax.scatter(run.heads, run.counts(threshold), s=9, alpha=0.4, color=PALETTE[name], linewidths=0)
        ax.set(xlabel="annotated heads", title=LABELS.get(name, name), aspect="equal", xlim=(0, limit), ylim=(0, limit))
    axes[0, 0].set_ylabel("predicted heads")
    return figure


def learning_curves(logs: Mapping[str, Sequence[pd.DataFrame]], *, smooth: int = 20) -> Figure:
    """Training loss, running mean over `smooth` steps, one line per seed."""
    figure, ax = plt.subplots(figsize=(6, 3.6))
    for name, seeds in logs.items():
        for index, log in enumerate(seeds):
            label = LABELS.get(name, name) if index == 0 else None
            ax.plot(
                log["step"], log["loss"].rolling(smooth, min_periods=1).mean(), color=PALETTE[name], lw=1.3, label=label
            )
    ax.set(xlabel="training step", ylabel="weighted cross entropy per pixel", ylim=(0, None))
    ax.legend()
    return figure


def predictions(
    images: Sequence[NDArray[np.uint8]],
    heads: Sequence[NDArray[np.float64]],
    found: Sequence[NDArray[np.float64]],
    titles: Sequence[str],
) -> Figure:
    """Frames with annotated heads (circles) and predictions (dots); for generated frames only."""
    rows = (len(images) + 1) // 2
    figure, axes = plt.subplots(rows, 2, figsize=(11, 3.3 * rows), squeeze=False)
    for ax in axes.flat[len(images) :]:
        ax.remove()
    for ax, image, truth, points, title in zip(axes.flat, images, heads, found, titles, strict=False):
        _frame(ax, image, truth, points, title)
    axes[0, 0].legend(loc="lower left", fontsize=8, framealpha=0.9)
    return figure


def _frame(
    ax: Axes, image: NDArray[np.uint8], truth: NDArray[np.float64], points: NDArray[np.float64], title: str
) -> None:
    ax.imshow(image)
    ax.scatter(
        truth[:, 0], truth[:, 1], s=46, facecolors="none", edgecolors="#00e0a0", linewidths=1.2, label="annotated"
    )
    ax.scatter(points[:, 0], points[:, 1], s=9, color="#ff3b30", label="predicted")
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()


def lines(frame: pd.DataFrame, x: str, y: str, hue: str, *, xlabel: str, ylabel: str, log: bool = False) -> Figure:
    """A line per value of `hue`."""
    figure, ax = plt.subplots(figsize=(6, 3.6))
    sns.lineplot(frame, x=x, y=y, hue=hue, style=hue, markers=True, dashes=False, ax=ax, palette="colorblind")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if log:
        ax.set_yscale("log")
    return figure

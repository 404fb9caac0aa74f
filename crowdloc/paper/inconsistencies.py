"""Which printed cells cannot be right, found by rules, and the list of all suspicious ones.

One set of detections obeys rules whatever its numbers are (proof in `crowdloc.metrics.matching`): AP and AR never fall
when the radius grows within which a detection counts, be it by a lower threshold or by a larger σ. So every cell
bounds every other one of its row and, since the radius σ·sqrt(-2 ln t) makes all σ comparable, of its method.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from crowdloc.paper.tables import COLUMNS, NUMBERS, read, table

THRESHOLDS = np.linspace(0.5, 0.95, 10)
_ROUNDING = 0.001 + 1e-9  # two numbers, each printed to 0.001
_COLUMNS = ["table", "dataset", "row", "rule", "cell", "value", "bound", "excess"]


def audit(numbers: tuple[str, ...] = NUMBERS) -> pd.DataFrame:
    """Violations of the rules in the printed tables, beyond what rounding explains; see `violations`."""
    return violations(pd.concat([table(number) for number in numbers]))


def violations(tidy: pd.DataFrame) -> pd.DataFrame:
    """Cells of tidy localization scores (columns as of `table`) that exceed a bound set by other cells.

    Rows of other metrics are ignored.

    Returns:
        `table, dataset, row`, `rule` (words), `cell` ("AR.75 σ 40"), its `value`, the `bound` it exceeds (for a lower
        bound: falls below) and the `excess`. Which of the cells involved is wrong is not decided.
    """
    found = []
    tidy = tidy[tidy["metric"].isin(COLUMNS)]
    for (number, dataset, row), group in tidy.groupby(["table", "dataset", "row"], sort=False):
        values = {(int(r.sigma), r.metric): float(r.value) for r in group.itertuples()}
        for rule, cell, value, bound, excess in _broken(values):
            if excess > _ROUNDING:
                found.append((number, dataset, row, rule, f"{cell[1]} σ {cell[0]}", value, bound, excess))
    return pd.DataFrame(found, columns=_COLUMNS)


def suspicious() -> pd.DataFrame:
    """Every impossible or odd cell: table, row, sigma, cells, printed, kind, reason, likely value.

    Kinds: "impossible" (breaks a bound of its own row), "impossible across σ" (breaks one with another σ, if both
    rows score the same detections), "impossible together" (breaks the joint programme of `crowdloc.paper.feasibility`
    only), "anomalous" (allowed, but off the pattern of its siblings or another source).
    """
    return read("suspicious.csv")


def errata() -> pd.DataFrame:
    """Slips of the text that are not cells: section, printed, problem, meant."""
    return read("errata.csv")


def _broken(values: dict[tuple[int, str], float]) -> Iterator[tuple[str, tuple[int, str], float, float, float]]:
    """Every bound of a method's cells as (rule, cell, value, bound, excess); positive excess breaks it."""
    for kind in ("AP", "AR"):
        known = {  # radius in pixels of each cell of one threshold
            (sigma, metric): sigma * np.sqrt(-2 * np.log(float(metric[2:])))
            for sigma, metric in values
            if metric.startswith(kind) and "." in metric
        }
        ranked = sorted(known, key=lambda cell: known[cell])
        for i, small in enumerate(ranked):
            for large in ranked[i + 1 :]:
                rule = f"at most {large[1]} σ {large[0]}, which has the larger radius"
                yield rule, small, values[small], values[large], values[small] - values[large]
        means = sorted(cell for cell in values if cell[1] == f"m{kind}")
        for i, small in enumerate(means):
            for large in means[i + 1 :]:
                rule = f"at most {large[1]} σ {large[0]}"
                yield rule, small, values[small], values[large], values[small] - values[large]
        for mean in means if known else []:
            radii = mean[0] * np.sqrt(-2 * np.log(THRESHOLDS))
            # A radius equal to a known one up to rounding of the logarithm counts as equal.
            high = float(np.mean([min([1.0, *(values[c] for c in known if known[c] > r - 1e-9)]) for r in radii]))
            low = float(np.mean([max([0.0, *(values[c] for c in known if known[c] < r + 1e-9)]) for r in radii]))
            yield "at most the mean of the nearest cells above", mean, values[mean], high, values[mean] - high
            yield "at least the mean of the nearest cells below", mean, values[mean], low, low - values[mean]
    for sigma, metric in values:
        recall = values.get((sigma, metric.replace("AP", "AR")))
        if "AP" in metric and recall is not None:
            ceiling = recall + 0.01  # one step of the recall grid
            value = values[sigma, metric]
            yield "at most AR and one step", (sigma, metric), value, ceiling, value - ceiling

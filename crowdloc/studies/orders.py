"""Which of two methods is ahead under a protocol or metric, beyond what seeds differ by, and where the order turns.

Scores come tidy: choice, value, metric, method, seed, score, as from `multiverse`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from crowdloc.models.registry import label

Pairs = Sequence[tuple[str, str]]
AHEAD, BEHIND, OPEN = "ahead", "behind", "open"
ERRORS = ("MAE", "MSE", "GAME(1)", "GAME(2)", "GAME(3)")  # less is better
PAIRS = (("gnanet", "raznet"), ("gnanet", "frame-stack"), ("frame-stack", "raznet"))
REFERENCE = "reference"  # the choice that the others are compared with


def advantages(scores: pd.DataFrame, pairs: Pairs = PAIRS) -> pd.DataFrame:
    """How far one method is ahead of another, per choice, value, metric and pair ("gnanet", "raznet").

    Differences are paired by seed, in percent of the mean of both, positive where the first is better (errors: has
    less). `low` and `high` are the 95 % interval of Student's t over the seeds: test images are the same throughout, so
    that it says what another training would give, not what other scenes would. `verdict` is "ahead", "behind", or
    "open" where the interval holds 0 or there is one seed.
    """
    rows = []
    for (choice, value, metric), part in scores.groupby(["choice", "value", "metric"], sort=False):
        by_seed = part.pivot(index="seed", columns="method", values="score")
        for first, second in pairs:
            if not {first, second} <= set(by_seed):
                continue
            both = by_seed[[first, second]].dropna()
            sign = -1 if metric in ERRORS else 1
            middle = float(both.to_numpy().mean())
            gain = sign * 100 * (both[first] - both[second]).to_numpy() / (middle or np.nan)
            mean, reach = float(gain.mean()), _reach(gain)
            verdict = OPEN if not abs(mean) > reach else AHEAD if mean > 0 else BEHIND
            means = (float(both[first].mean()), float(both[second].mean()))
            rows.append((choice, value, metric, first, second, *means, mean, mean - reach, mean + reach, verdict))
    names = ["choice", "value", "metric", "first", "second", "score of first", "score of second"]
    return pd.DataFrame(rows, columns=[*names, "advantage", "low", "high", "verdict"])


def _reach(values: NDArray[np.float64]) -> float:
    """Half the width of the 95 % interval of a mean; infinite for one value."""
    if len(values) < 2:
        return math.inf
    return float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))


def flips(found: pd.DataFrame) -> NDArray[np.bool_]:
    """(rows,): whether a row of `advantages` decides the order of its pair the other way round than the reference does.

    It is compared with the reference in the same metric; a metric that the reference does not have, in mAP.
    """
    rows = found[found["choice"] == REFERENCE]
    known = rows.set_index(["first", "second", "metric"])["verdict"].to_dict()
    keys = zip(found["first"], found["second"], found["metric"], strict=True)
    before = [known.get((a, b, metric), known.get((a, b, "mAP"), OPEN)) for a, b, metric in keys]
    return np.array([{b, now} == {AHEAD, BEHIND} for b, now in zip(before, found["verdict"], strict=True)], dtype=bool)


def shares(found: pd.DataFrame) -> pd.DataFrame:
    """By pair and metric: how many rows of `advantages` have the first ahead, leave it open, have the second ahead."""
    rows = {}
    for (first, second, metric), part in found.groupby(["first", "second", "metric"], sort=False):
        counts = part["verdict"].value_counts()
        rows[f"{label(first)} against {label(second)}", metric] = {
            **{verdict: int(counts.get(verdict, 0)) for verdict in (AHEAD, OPEN, BEHIND)},
            "lowest %": float(part["advantage"].min()),
            "highest %": float(part["advantage"].max()),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["", "metric"])
    return table


def as_text(found: pd.DataFrame) -> str:
    """Rows of `advantages` for a notebook."""
    named = found.assign(first=found["first"].map(label), second=found["second"].map(label))
    formats = {"score of first": "{:.4f}".format, "score of second": "{:.4f}".format}
    return named.to_string(index=False, formatters=formats, float_format="{:+.2f}".format)


def means_text(scores: pd.DataFrame, metrics: Sequence[str]) -> str:
    """Means over seeds of every choice, metrics and methods beside each other, for a notebook."""
    chosen = scores[scores["metric"].isin(metrics)]
    table = chosen.pivot_table(index=["choice", "value"], columns=["metric", "method"], values="score", sort=False)
    table = table[list(metrics)].rename(columns=label, level="method")
    return table.to_string(float_format="{:.4f}".format, sparsify=False)

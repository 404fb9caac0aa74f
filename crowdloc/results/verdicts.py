"""Verdicts on the paper's claims from stored evidence.

What is decided here was fixed before the first comparison was trained: the metrics (mAP and mAR at σ 5, 20 and 40), the
relation ("better": the 95 % interval lies above 0), the margin of "similar" (±0.005), 1,000 replicates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crowdloc.metrics import SIGMAS
from crowdloc.results import tables as results
from crowdloc.results.bootstrap import paired_differences


def verdicts(
    data: str, preset: str, *, left: str, right: str, relation: str = "better", replicates: int = 1000
) -> pd.DataFrame:
    """Is `left` better than (or similar to) `right`? One row per metric and σ: difference and its 95 % interval.

    `after Holm` is the verdict when all rows are tested together at 5 %.
    """
    sides = [results.evidence_of(data, preset, model) for model in (left, right)]
    if not all(sides):
        return pd.DataFrame(columns=["σ", "metric", "difference", "low", "high", "verdict", "after Holm"])
    rows, probabilities = [], []
    for sigma in SIGMAS:
        for metric, found in paired_differences(*sides, sigma=sigma, replicates=replicates).items():
            probabilities.append(found.p_value)
            rows.append(
                {"σ": sigma, "metric": metric, "difference": f"{found.estimate:+.3f}", "low": f"{found.low:+.3f}"}
                | {"high": f"{found.high:+.3f}", "verdict": found.verdict(relation)}
            )
    frame = pd.DataFrame(rows)
    if relation == "better":
        kept = holm(probabilities)
        frame["after Holm"] = np.where(kept, frame["verdict"], "inconclusive")
    return frame


def holm(probabilities: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which hypotheses Holm's step-down procedure rejects."""
    order = np.argsort(probabilities, kind="stable")
    rejected = [False] * len(order)
    for rank, index in enumerate(order):
        if probabilities[index] > level / (len(order) - rank):
            break
        rejected[index] = True
    return rejected

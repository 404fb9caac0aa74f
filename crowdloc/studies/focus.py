"""γ against what it has to fit: the map, the sizes of heads; and what it becomes where it is learned (notebook 12)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from crowdloc.attention import GaussianNeighborAttention
from crowdloc.results import runs
from crowdloc.results.runs import Run
from crowdloc.studies.neighborhoods import outside_share

MAPS = {"paper, 1080 rows": (135, 240), "SynthCrowd mini, 288 rows": (36, 64), "Mall, 480 rows": (60, 80)}
REACH = 2  # γ: a circle of this radius holds 1 - exp(-2), 86 %, of a two-dimensional Gaussian


def covered_share(height: int, width: int, radius: float) -> float:
    """Share of the cells of an H×W map within a radius of a query, the query being uniform over the cells."""
    y, x = np.arange(-height + 1, height)[:, None], np.arange(-width + 1, width)
    pairs = (height - np.abs(y)) * (width - np.abs(x))  # queries and cells that are so far apart
    return float(pairs[y**2 + x**2 <= radius**2].sum()) / (height * width) ** 2


def reach_table(sizes: Mapping[str, tuple[int, int]], gammas: Sequence[float]) -> pd.DataFrame:
    """Per map (H, W) and γ: cells within 2γ of a query and draws that fall outside, in percent; γ over the height.

    `as on the first` is the γ that is as large a share of the height of the first map.
    """
    first = next(iter(sizes.values()))[0]
    rows = [
        {
            "map": f"{name}, {height}×{width}",
            "γ": gamma,
            "γ / height (%)": 100 * gamma / height,
            "cells within 2γ (%)": 100 * covered_share(height, width, REACH * gamma),
            "draws outside (%)": 100 * outside_share(height, width, gamma),
            "as on the first": gamma * first / height,
        }
        for name, (height, width) in sizes.items()
        for gamma in gammas
    ]
    return pd.DataFrame(rows)


def learned_table(group: Sequence[Run]) -> pd.DataFrame:
    """γ of every attention module of runs that learn it and keep their weights: seed, module, γ before and after."""
    rows = []
    for run in group:
        if not run.has_weights:
            continue
        for name, module in runs.load_model(run.experiment, run.folder / runs.WEIGHTS).named_children():
            if isinstance(module, GaussianNeighborAttention) and module.log_gamma is not None:
                values = zip(module.fixed_gamma, module.gamma, strict=True)
                where = {"seed": run.experiment.seed, "module": name.removesuffix("_gna")}
                rows += [where | {"γ before": before, "γ after": after} for before, after in values]
    return pd.DataFrame(rows, columns=["seed", "module", "γ before", "γ after"])

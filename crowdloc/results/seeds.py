"""What a table's runs say over their seeds: localization for pictures, counting and training as texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from crowdloc.metrics import COLUMNS, SIGMAS
from crowdloc.results.runs import Run
from crowdloc.results.tables import NOT_MEASURED, shown_name
from crowdloc.results.verdicts import did_converge

_FITS = (
    ("train AP.50", "train_AP50_sigma20", 3), ("train mAP", "train_mAP_sigma20", 3),
    ("train MAE", "train_MAE", 2), ("of a constant", "train_MAE_of_a_constant", 2),
)  # fmt: skip


def seeds_table(table: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Mean and standard deviation over seeds: index (method, sigma), columns (AP.50 … mAR, mean or std).

    `method` is the name of the runs, e.g. "gnanet.gamma5"; methods without located points are left out. The deviation
    of one seed is NaN.
    """
    rows = {}
    for name, group in table.items():
        located = [run.metrics["localization"] for run in group if run.evidence is not None]
        for sigma in SIGMAS if located else ():
            values = pd.DataFrame([found[str(sigma)] for found in located], columns=list(COLUMNS))
            rows[name, sigma] = [number for c in COLUMNS for number in (values[c].mean(), values[c].std())]
    columns = pd.MultiIndex.from_product([COLUMNS, ("mean", "std")])
    index = pd.MultiIndex.from_tuples(list(rows), names=["method", "sigma"]) if rows else None
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def counting_table(table: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Counting, a row per method, mean ± deviation over seeds as text; "not measured" where there is no result.

    F1 is that of the detections that are counted (score above the threshold chosen on validation images) at σ 20 and
    similarity .5; it, the threshold and the detections per head are empty for methods that count without locating.
    """
    rows = []
    for name, group in table.items():
        found = [run.metrics for run in group]
        errors = [m["counting"] for m in found]
        located = [m for m in found if "f1" in m]
        rows.append(
            {"method": shown_name(name), "seeds": str(len(group)) if group else NOT_MEASURED}
            | {"MAE": spread([e["MAE"] for e in errors], 2), "MSE (a root)": spread([e["MSE"] for e in errors], 2)}
            | {"F1": spread([m["f1"]["F1"] for m in located])}
            | {"threshold": spread([m["counting_threshold"] for m in located], 2)}
            | {"detections per head": spread([m["detections_per_head"] for m in located], 2)}
        )
    return pd.DataFrame(rows)


def training_table(table: Mapping[str, Sequence[Run]], *, counting: bool = False) -> pd.DataFrame:
    """Did they learn what they could? A row per method, mean ± deviation over seeds as text.

    AP.50 and mAP at σ 20 on training images (of methods that count the MAE, and that of the best constant answer;
    columns without a number are left out), by how much the loss still changed within the last third of the steps (its
    second half against its first), and how many of the trainings converged by the rule of `verdicts.converged`, with
    the first reason against; `counting` as in `verdicts.did_converge`.
    """
    rows = []
    known = {key for group in table.values() for run in group for key in run.convergence}
    fits = [fit for fit in _FITS if fit[1] in known] or _FITS[:2]
    for name, group in table.items():
        signs = [run.convergence for run in group]
        first, second = "last_third_loss_first_half", "last_third_loss_second_half"
        change = [100 * (s[second] / s[first] - 1) for s in signs if s.get(first)]
        judged = [did_converge(run, counting=counting) for run in group]
        against = next((f" ({why})" for good, why in judged if not good), "")
        rows.append(
            {"method": shown_name(name), "seeds": str(len(group)) if group else NOT_MEASURED}
            | {title: spread([s[key] for s in signs if key in s], digits) for title, key, digits in fits}
            | {"loss at the end (%)": spread(change, 1, sign="+")}
            | {"converged": f"{sum(good for good, _ in judged)} of {len(group)}{against}" if group else ""}
        )
    return pd.DataFrame(rows)


def spread(values: Sequence[float], digits: int = 3, *, sign: str = "") -> str:
    """ "mean ± standard deviation", the mean alone of one value, nothing of none."""
    if not len(values):
        return ""
    mean = f"{np.mean(values):{sign}.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"

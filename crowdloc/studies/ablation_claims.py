"""Claims of §V-E on points and γ that no cell of a table decides (notebooks 11 and 12, the claims ledger).

`python -m crowdloc.studies.ablation_claims` writes them as a study, `ablations_<group>`, from the studies `points_…` of
`crowdloc.studies.sampling` and stored detections. What decides is our choice: *stability increases* asks that the
deviations of mAP and mAR between draws fall from 8 to 16 and from 16 to 32 points; *points cost* that time and memory
of the operator as the paper describes it (keys gathered, no fused kernel) grow with the number of points; *γ focuses on
sizes of heads* that γ = 10 finds more of the large third of the heads than γ = 3, and γ = 3 more of the small third.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from crowdloc.results.tables import Table, read_table
from crowdloc.results.verdicts import FAILS, HOLDS, NOT_CONVERGED, NOT_MEASURED, ONE_SEED, did_converge
from crowdloc.studies.headsize import Finding, heads, suits
from crowdloc.studies.sampling import BACKENDS
from crowdloc.studies.stored import read_study, write_study

GROUP = "synthcrowd-sense-mini"
SAMPLINGS = 3  # as in the paper's experiments
LARGE, SMALL = "gnanet.gamma10", "gnanet.gamma3"


def stable(points: pd.DataFrame) -> Finding:
    """Do deviations between draws fall with P? `points` as `sampling.by_points` makes it: one network for each P."""
    chosen = points[points["S"].astype(int) == SAMPLINGS].astype({"P": int})
    deviation = chosen.groupby("P")[["mAP σ20", "mAR σ20"]].std()
    falls = all(after < before for metric in deviation for before, after in pairwise(deviation[metric]))
    texts = [f"of {metric} {', '.join(f'{value:.4f}' for value in deviation[metric])}" for metric in deviation]
    numbers = f"with {', '.join(map(str, deviation.index))} points {' and '.join(texts)}, S = {SAMPLINGS}"
    return Finding("more-points-stable", "deviations between draws fall with every step of P", ONE_SEED,
                   f"{numbers}: they {'do' if falls else 'do not'} on one network for each P")  # fmt: skip


def costly(cost: pd.DataFrame) -> Finding:
    """Do time and memory grow with P? `cost` as `sampling.points_cost` makes it."""
    texts, grow = [], {}
    for backend in BACKENDS.values():
        rows = cost[cost["backend"] == backend].astype({"P": int}).sort_values("P")
        few, many = rows["P"].iloc[[0, -1]]
        for column, unit in (("ms", "ms"), ("extra MiB", "MiB")):
            values = rows[column].astype(float).tolist()
            grow[backend, column] = all(after > before for before, after in pairwise(values))
            texts.append(f"{backend} {values[0]:.1f} to {values[-1]:.1f} {unit}")
    held = all(grow[BACKENDS["reference"], column] for column in ("ms", "extra MiB"))
    numbers = f"from {few} to {many} points {', '.join(texts)}"
    return Finding("points-cost", "time and memory of the eager operator grow", HOLDS if held else FAILS, numbers)


def fits_heads(table: Table) -> Finding:
    """Does a large γ find more of the large heads and a small γ more of the small ones? `table` is Table XII."""
    asked = "γ = 10 finds more of the large third than γ = 3, γ = 3 more of the small"
    runs = {name: {run.experiment.seed: run for run in table[name]} for name in (LARGE, SMALL)}
    both = sorted(set(runs[LARGE]) & set(runs[SMALL]))
    if not both:
        return Finding("gamma-head-size", asked, NOT_MEASURED, "no seed in common")
    if not all(did_converge(runs[name][seed])[0] for name in runs for seed in both):
        return Finding("gamma-head-size", asked, NOT_CONVERGED, "")
    return Finding("gamma-head-size", asked, *suits(*([heads(runs[name][seed]) for seed in both] for name in runs)))


def of_points(group: str = GROUP) -> list[Finding]:
    """The two on points, of the stored studies."""
    return [stable(read_study(f"points_{group}")), costly(read_study("points_cost"))]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m crowdloc.studies.ablation_claims", description=__doc__)
    parser.parse_args(arguments)
    table = read_table("XII")
    used = {"studies": [f"points_{GROUP}", "points_cost"]}
    used |= {name: [run.experiment.id for run in table[name]] for name in (LARGE, SMALL)}
    print(write_study(f"ablations_{GROUP}", pd.DataFrame([*of_points(), fits_heads(table)]), used))


if __name__ == "__main__":
    main()

"""How random GNA is, and what it tends to: variance and bias of draws, on maps and in the network (notebook 19).

With P draws per focus, GNA = limit + bias + noise. Repeated samplings and low-discrepancy draws make the noise smaller;
the bias, which a ratio of two random sums has, only falls with P.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from crowdloc.attention import GaussianNeighborAttention, gaussian_limit_attention, gaussian_neighbor_attention
from crowdloc.core.errors import CrowdlocError
from crowdloc.metrics import sigma_scale
from crowdloc.results import runs
from crowdloc.results.experiments import Experiment
from crowdloc.studies.scoring import measure, scores
from crowdloc.studies.stored import read_study, write_study

SAMPLINGS = ("independent", "qmc")
_LABELS = ("independent draws", "low-discrepancy draws")
# The networks of the test-time study: sampling and S; the limit has no draws to repeat.
VARIANTS = (("independent", 1), ("independent", 3), ("independent", 9), ("qmc", 1), ("qmc", 3), ("limit", 1))


def spread(
    query: Tensor,
    key: Tensor,
    *,
    gamma: float | Sequence[float],
    points: Iterable[int] = (32,),
    samples: Iterable[int] = (1,),
    seeds: int = 24,
) -> pd.DataFrame:
    """Variance and squared bias of GNA (K = V) over seeds, in percent of the variance of the values.

    Args:
        query: (B, C, H, W). key: (B, C, H, W) or (B, T, C, H, W).
        points, samples: P and S, of which every pair is measured.

    Returns:
        One row per sampling, P and S. The squared bias is ‖mean − limit‖² less what the noise of the mean over `seeds`
        adds to it, so it scatters around zero where there is none.
    """
    limit = gaussian_limit_attention(query, key, key, gamma=gamma).double()
    unit = float(key.double().var(dim=(-2, -1)).mean()) / 100
    rows = []
    for sampling in SAMPLINGS:
        for number in points:
            for repeats in samples:
                outputs = torch.stack(
                    [
                        gaussian_neighbor_attention(
                            query, key, key, gamma=gamma, num_points=number, num_samples=repeats, seed=seed,
                            sampling=sampling,
                        ).double()
                        for seed in range(seeds)
                    ]
                )  # (seeds, B, C, H, W)  # fmt: skip
                variance = float(outputs.var(dim=0).mean())
                bias = float((outputs.mean(dim=0) - limit).square().mean()) - variance / seeds
                rows.append(
                    {"sampling": sampling, "P": number, "S": repeats, "variance": variance / unit, "bias²": bias / unit}
                )
    return pd.DataFrame(rows)


def gains(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Variances of both samplings side by side and their ratio, one row per value of `by` ("P" or "S")."""
    wide = table.pivot(index=by, columns="sampling", values="variance")[list(SAMPLINGS)]
    bias = table.pivot(index=by, columns="sampling", values="bias²")
    return wide.assign(**{"times less": wide["independent"] / wide["qmc"], "bias² (independent)": bias["independent"]})


def slope(table: pd.DataFrame, sampling: str, column: str = "variance", by: str = "P") -> float:
    """Exponent of a power law fitted to `column` over `by`: −1 for the variance of independent draws."""
    rows = table[(table["sampling"] == sampling) & (table[column] > 0)]
    return float(np.polyfit(np.log(rows[by]), np.log(rows[column]), 1)[0])


def as_text(tables: Mapping[str, pd.DataFrame]) -> str:
    """`gains` over P of several frames of `spread`, with the powers of P that their variances fall by."""
    parts = []
    for name, rows in tables.items():
        powers = [f"{label} P^{slope(rows, kind):.2f}" for kind, label in zip(SAMPLINGS, _LABELS, strict=True)]
        numbers = gains(rows, "P").to_string(float_format="{:.2f}".format)
        parts.append(f"{name}\n{numbers}\nvariance falls like: {', '.join(powers)}\n")
    return "\n".join(parts)


def gain_by_map(maps: Mapping[str, tuple[Tensor, Tensor]], *, gamma: Sequence[float], seeds: int = 16) -> pd.Series:
    """How many times less variance low-discrepancy draws have (P = 32) on each (query, key)."""
    found = {name: spread(query, key, gamma=gamma, seeds=seeds) for name, (query, key) in maps.items()}
    return pd.Series({name: gains(rows, "P")["times less"].item() for name, rows in found.items()}, name="times less")


def in_the_network(id: str, *, draws: Sequence[int] = (0, 1, 2, 3)) -> pd.DataFrame:
    """A stored GNANet on validation images with other draws, more of them, better ones, and none: one row per run."""
    experiment = Experiment.parse(id)
    model, validation = runs.load_model(experiment), experiment.load("val")
    run = runs.read(experiment)
    if run is None or run.threshold is None:
        raise CrowdlocError(f"{id} is not stored with a counting threshold: name a stored GNANet")
    rows: list[dict[str, Any]] = []
    for sampling, number in VARIANTS:
        for run_seed in draws if sampling != "limit" else draws[:1]:
            print(f"{id}: {sampling}, S = {number}, draws {run_seed}", file=sys.stderr)
            for module in model.modules():
                if isinstance(module, GaussianNeighborAttention):
                    module.sampling, module.num_samples = sampling, number
            model.run_seed = run_seed
            found = scores(measure(model, validation, scale=sigma_scale(experiment.group)), run.threshold)
            rows.append({"sampling": sampling, "S": number, "draws": run_seed} | found)
    return pd.DataFrame(rows)


def table(name: str = "draws_synthcrowd-mini") -> pd.DataFrame:
    """The stored `in_the_network` study: mean and, over draws, standard deviation."""
    grouped = read_study(name).groupby(["sampling", "S"], sort=False)
    found = grouped[["mAP σ5", "mAP σ20", "mAP σ40", "MAE"]].mean()
    return found.assign(**{f"± {name}": grouped[name].std() for name in ("mAP σ5", "mAP σ20", "MAE")})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m crowdloc.studies.randomness", description=__doc__)
    parser.add_argument("--id", default="synthcrowd-sense-mini/gnanet/seed0", help="a stored GNANet")
    arguments = parser.parse_args()
    experiment = Experiment.parse(arguments.id)
    print(write_study(f"draws_{experiment.group}", in_the_network(arguments.id), {"network": experiment.id}))


if __name__ == "__main__":
    main()

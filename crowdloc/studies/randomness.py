"""How random GNA is on given maps, and what it tends to: variance and bias of draws (notebook 19).

With P draws per focus, GNA = limit + bias + noise. Repeated samplings and low-discrepancy draws make the noise smaller;
the bias, which a ratio of two random sums has, only falls with P.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from crowdloc.attention import gaussian_limit_attention, gaussian_neighbor_attention

SAMPLINGS = ("independent", "qmc")
_LABELS = ("independent draws", "low-discrepancy draws")


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

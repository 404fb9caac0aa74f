"""How Gaussian neighbourhoods look on a map: shares, distinct cells, cost. Backs the teaching notebook."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from crowdloc.attention import sample_neighbors


def mass(gamma: float, reach: int) -> NDArray[np.float64]:
    """Probability of each displacement -reach … reach along one axis: Φ((d+½)/γ) - Φ((d-½)/γ)."""
    d = np.arange(-reach, reach + 1)
    return norm.cdf((d + 0.5) / gamma) - norm.cdf((d - 0.5) / gamma)


def outside_share(height: int, width: int, gamma: float) -> float:
    """Expected share of draws outside an H×W map, the query being uniform over its cells."""

    def inside(cells: int) -> float:
        last = np.arange(cells)
        return float(np.mean(norm.cdf((cells - 0.5 - last) / gamma) - norm.cdf((-0.5 - last) / gamma)))

    return 1.0 - inside(height) * inside(width)


def outside_table(sizes: Sequence[tuple[int, int]], gammas: Sequence[float]) -> pd.DataFrame:
    """Percent of draws outside, one row per map size (H, W), one column per γ."""
    rows = {f"{h}×{w}": [100 * outside_share(h, w, g) for g in gammas] for h, w in sizes}
    return pd.DataFrame.from_dict(rows, orient="index", columns=pd.Index(gammas, name="γ"))


def draw_statistics(
    size: tuple[int, int], gammas: Sequence[float], *, num_points: int = 32, seed: int = 0
) -> pd.DataFrame:
    """Per γ: distinct cells among the draws of a query, and the share of queries that draw their own cell."""
    height, width = size
    own = np.arange(height * width)[:, None]
    rows = {}
    for gamma in gammas:
        drawn = np.asarray(sample_neighbors(height, width, gamma=gamma, num_points=num_points, seed=seed))[:, 0]
        ordered = np.sort(drawn, axis=1)
        distinct = 1 + (np.diff(ordered, axis=1) != 0).sum(axis=1)
        rows[gamma] = {
            "distinct cells": distinct.mean(),
            "own cell drawn (%)": 100 * (drawn == own).any(axis=1).mean(),
            "outside the map (%)": 100 * outside_share(height, width, gamma),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("γ")


def cost_table(
    sizes: Sequence[tuple[int, int]], *, channels: int = 512, foci: int = 3, points: int = 32
) -> pd.DataFrame:
    """Query-key pairs of full attention and of GNA, and what an eager gather of GNA's keys would take in float32."""
    rows = {}
    for height, width in sizes:
        queries = height * width
        gna = queries * foci * points
        rows[f"{height}×{width}"] = {
            "full: pairs (million)": queries**2 / 1e6,
            "GNA: pairs (million)": gna / 1e6,
            "full / GNA": queries**2 / gna,
            "gathered keys (MiB)": gna * channels * 4 / 2**20,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("map H×W")


def white_map(channels: int, height: int, width: int, *, seed: int = 0) -> torch.Tensor:
    """A feature map (1, C, H, W) of independent normal numbers, on which no neighbour says anything of another."""
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(seed))


def smooth_map(channels: int, height: int, width: int, *, seed: int = 0) -> torch.Tensor:
    """A random feature map (1, C, H, W) that varies smoothly over about four cells, unit variance."""
    noise = torch.randn(1, channels, height + 8, width + 8, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(torch.nn.functional.avg_pool2d(noise, 5, 1), 5, 1)
    return smooth / smooth.std()

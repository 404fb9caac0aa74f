"""Does GNA estimate full attention with less error than random attention, as Appendix A concludes? (notebook 16)

Errors are means over the queries of a map and given per map, so that bands are over maps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from crowdloc.attention import full_attention, gaussian_limit_attention, gaussian_neighbor_attention, random_attention
from crowdloc.results.verdicts import FAILS, HOLDS, INCONCLUSIVE
from crowdloc.studies.appendix_maps import EVERY, Maps, nearness, score_rows, size_of, value_rows, weigh
from crowdloc.studies.appendix_similarity import interval

GAUSSIAN, RANDOM, NEAREST, LARGEST, LIMIT = "Gaussian", "random", "nearest cells", "largest weights", "limit P → ∞"
FOCI = ((3.0,), (5.0,), (10.0,), (3.0, 5.0, 10.0))  # single foci, and the paper's three
POINTS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def expected_errors(
    maps: Maps, points: Sequence[int] = POINTS, *, gamma: float = 5.0, seed: int = 0, every: int = EVERY
) -> pd.DataFrame:
    """Mean distance to full attention over the queries of a map: one row per kind, map, choice of cells and P.

    In units of the root mean square of ‖v − mean v‖ over the map's values. Draws are averaged over all queries; the
    nearest cells and the largest weights, which are not random, over every `every`-th.
    """
    parts = []
    for kind, (query, key) in maps.items():
        full, unit = full_attention(query, key, key), _spread(key)
        limit = _off(gaussian_limit_attention(query, key, key, gamma=gamma), full) / unit
        near = nearness(size_of(query), every)
        ranked = [_ranked(q, k, near, points, every) for q, k in zip(query, key, strict=True)]
        for number in points:
            gaussian = gaussian_neighbor_attention(query, key, key, gamma=gamma, num_points=number, seed=seed)
            random = random_attention(query, key, key, num_points=number, seed=seed)
            found = {GAUSSIAN: _off(gaussian, full) / unit, RANDOM: _off(random, full) / unit}
            for name in (NEAREST, LARGEST):
                found[name] = torch.stack([errors[name, number] for errors in ranked]) / unit
            parts += [_tidy(kind, name, number, errors) for name, errors in (found | {LIMIT: limit}).items()]
    return pd.concat(parts, ignore_index=True)


def _ranked(
    query: Tensor, key: Tensor, near: Tensor, points: Sequence[int], every: int
) -> dict[tuple[str, int], Tensor]:
    """Mean errors on one map (C, H, W) of the P nearest cells and of the P with the largest weights."""
    scores, values = score_rows(query, key, every), value_rows(key)
    full = weigh(scores) @ values
    ranks = {NEAREST: near, LARGEST: scores.argsort(-1, descending=True).argsort(-1)}
    return {
        (name, number): (weigh(scores, rank < number) @ values - full).norm(dim=-1).mean()
        for name, rank in ranks.items()
        for number in points
    }


def _spread(key: Tensor) -> Tensor:
    """Root mean square of ‖v − mean v‖ of each map (B, C, H, W) -> (B,)."""
    return (key - key.mean(dim=(2, 3), keepdim=True)).double().square().sum(1).mean(dim=(1, 2)).sqrt()


def _off(output: Tensor, full: Tensor) -> Tensor:
    """Mean distance of two maps of vectors (B, C, H, W) -> (B,)."""
    return (output - full).double().norm(dim=1).mean(dim=(1, 2))


def _tidy(kind: str, cells: str, number: int, errors: Tensor) -> pd.DataFrame:
    return pd.DataFrame(
        {"kind": kind, "cells": cells, "P": number, "map": range(len(errors)), "error": errors.double().numpy()}
    )


def at_equal_points(
    maps: Maps, *, gammas: Iterable[float] = (5.0,), points: int = 32, draws: int = 4, seed: int = 0
) -> pd.DataFrame:
    """Errors of GNA, and of random attention with as many softmaxes of as many points; means over `draws` of each.

    Draws are the same on all maps of a kind, so what they add does not show in bands over maps: hence several.
    """
    foci = tuple(gammas)
    parts = []
    for kind, (query, key) in maps.items():
        full, unit = full_attention(query, key, key), _spread(key)
        found: dict[str, list[Tensor]] = {GAUSSIAN: [], RANDOM: []}
        for number in range(seed, seed + draws):
            gaussian = gaussian_neighbor_attention(query, key, key, gamma=foci, num_points=points, seed=number)
            random = random_attention(query, key, key, num_points=points, num_samples=len(foci), seed=number)
            found[GAUSSIAN].append(_off(gaussian, full) / unit)
            found[RANDOM].append(_off(random, full) / unit)
        parts += [_tidy(kind, cells, points, torch.stack(each).mean(0)) for cells, each in found.items()]
    return pd.concat(parts, ignore_index=True)


def bands(errors: pd.DataFrame) -> pd.DataFrame:
    """Mean over maps with its 95 % interval, one row per kind, choice of cells and P."""
    rows = []
    for (kind, cells, number), group in errors.groupby(["kind", "cells", "P"], sort=False):
        mean, low, high = interval(group["error"])
        rows.append({"kind": kind, "cells": cells, "P": number, "error": mean, "low": low, "high": high})
    return pd.DataFrame(rows)


def error_table(errors: pd.DataFrame, number: int) -> pd.DataFrame:
    """Errors with `number` points, mean and half of the 95 % interval as text: a row per kind, a column per cells."""
    rows = bands(errors[errors["P"] == number])
    half = (rows["high"] - rows["low"]) / 2
    rows["shown"] = [f"{m:.2f} ± {h:.2f}" for m, h in zip(rows["error"], half, strict=True)]
    table = rows.pivot(index="kind", columns="cells", values="shown")
    return table.loc[list(dict.fromkeys(rows["kind"])), list(dict.fromkeys(rows["cells"]))]


def claim(errors: pd.DataFrame) -> pd.DataFrame:
    """Is Gaussian draws' error below random draws'? Of `at_equal_points`: paired by map, by kind, with a verdict."""
    wide = errors.pivot(index=["kind", "map"], columns="cells", values="error")
    table = {}
    for kind in dict.fromkeys(errors["kind"]):
        mean, low, high = interval((wide[GAUSSIAN] - wide[RANDOM]).loc[kind])
        table[kind] = {"Gaussian − random": mean, "low": low, "high": high, "verdict": verdict(low, high)}
    return pd.DataFrame.from_dict(table, orient="index")


def verdict(low: float, high: float) -> str:
    """Whether a number is below 0, from the ends of its interval."""
    return HOLDS if high < 0 else FAILS if low > 0 else INCONCLUSIVE


def by_foci(maps: Maps, foci: Sequence[Sequence[float]] = FOCI, *, points: int = 32, seed: int = 0) -> pd.DataFrame:
    """`claim` for several sets of foci, and the mean errors of both attentions: a row per kind and set."""
    parts = []
    for gammas in foci:
        equal = at_equal_points(maps, gammas=gammas, points=points, seed=seed)
        means = equal.pivot_table(index="kind", columns="cells", values="error")
        rows = claim(equal).rename(columns={"Gaussian − random": "difference"}).rename_axis("kind")
        parts.append(rows.join(means)[[*means, *rows]].assign(γ=" ".join(f"{gamma:g}" for gamma in gammas)))
    table = pd.concat(parts).reset_index()
    table["kind"] = pd.Categorical(table["kind"], categories=list(maps), ordered=True)
    return table.sort_values("kind", kind="stable").astype({"kind": str}).set_index(["kind", "γ"])


def crossing(points: ArrayLike, first: ArrayLike, second: ArrayLike) -> float:
    """The P from which on `second` is below `first`, between points by straight lines in the logarithms.

    0 where it always is; infinity where it is not at the largest P.
    """
    x = np.log(np.asarray(points, dtype=np.float64))
    ahead = np.log(np.asarray(first, dtype=np.float64)) - np.log(np.asarray(second, dtype=np.float64))
    if ahead[-1] <= 0:
        return math.inf
    behind = np.flatnonzero(ahead <= 0)
    if not len(behind):
        return 0.0
    i = behind[-1]
    return float(np.exp(x[i] + (x[i + 1] - x[i]) * -ahead[i] / (ahead[i + 1] - ahead[i])))


def crossovers(errors: pd.DataFrame, first: str = GAUSSIAN, second: str = RANDOM) -> pd.DataFrame:
    """P* from which on random draws err less than Gaussian ones, by kind: median over maps, smallest and largest.

    0 means below the smallest P of `errors`.
    """
    table = {}
    for kind, rows in errors.groupby("kind", sort=False):
        wide = rows.pivot(index="map", columns=["cells", "P"], values="error")
        a, b = wide[first], wide[second]
        found = [crossing(a.columns, a.loc[index], b.loc[index]) for index in wide.index]
        table[kind] = {"P*": float(np.median(found)), "smallest": min(found), "largest": max(found)}
    return pd.DataFrame.from_dict(table, orient="index")


def falls_like(errors: pd.DataFrame, cells: str, *, least: int = 256) -> pd.Series:
    """Power of P that the mean error falls with from `least` points on, by kind: −½ where there is no bias."""
    rows = errors[(errors["cells"] == cells) & (errors["P"] >= least)]
    mean = rows.groupby(["kind", "P"], sort=False)["error"].mean()
    slopes = {
        kind: np.polyfit(np.log(part.index.get_level_values("P")), np.log(part), 1)[0]
        for kind, part in mean.groupby(level="kind", sort=False)
    }
    return pd.Series(slopes, name=cells)

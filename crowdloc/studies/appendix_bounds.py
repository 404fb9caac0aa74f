"""Sharper bounds than Appendix A's on what sparse attention misses, for eq. 2 as it is used (notebook 16).

Full weights a, sparse weights b, both over the n cells. With distinct cells b is a restricted and scaled up, and all
that matters is the missed mass μ, the full weight of cells outside the set. With a drawn multiset, where duplicates
count, the total variation ½‖a − b‖₁ takes its place; it is never below μ.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from crowdloc.studies.appendix_a import derivation, diameter, factors
from crowdloc.studies.appendix_maps import EVERY, Maps, drawn, score_rows, size_of, value_rows, weigh

RATIOS = {
    "Appendix A, draws": ("appendix", "drawn"),
    "TV·diam(V), draws": ("variation", "drawn"),
    "μ·diam(V), distinct": ("mass", "distinct"),
    "μ·gap, distinct": ("identity", "distinct"),
}


def missed_mass(scores: Tensor, chosen: Tensor) -> Tensor:
    """μ: the weight that full attention gives to cells outside the set, (Q, n) twice -> (Q,)."""
    return torch.where(chosen, 0.0, weigh(scores)).sum(-1)


def gap(scores: Tensor, chosen: Tensor, values: Tensor) -> Tensor:
    """‖mean outside − mean inside‖ of the values (n, C), with the full weights; 0 where no cell is outside: (Q,)."""
    inside, outside = weigh(scores, chosen) @ values, weigh(scores, ~chosen) @ values
    return torch.where(chosen.all(-1), 0.0, (outside - inside).norm(dim=-1))


def total_variation(a: Tensor, b: Tensor) -> Tensor:
    """½ ‖a − b‖₁ over the last axis: the most that two sets of weights can differ on any set of cells."""
    return (a - b).abs().sum(-1) / 2


def lipschitz_ratio(scores: Tensor, others: Tensor) -> Tensor:
    """‖SM(s) − SM(t)‖ / ‖s − t‖ in the 2-norm, (…, n) twice; never above ½."""
    return (scores.softmax(-1) - others.softmax(-1)).norm(dim=-1) / (scores - others).norm(dim=-1)


def bounds(scores: Tensor, counts: Tensor, values: Tensor) -> pd.DataFrame:
    """Errors of eq. 2 against full attention and what bounds them, one row per query.

    Args:
        scores: (Q, n). counts: (Q, n), how often each cell was drawn. values: (n, C).

    Returns:
        distinct  error with the distinct cells, each counted once
        identity  μ ‖mean outside − mean inside‖: the same number
        mass      μ diam(V)
        drawn     error with the multiset
        variation TV(a, b) diam(V)
        appendix  the printed bound in spectral norms, which is proved for eq. 9 only
        mu, tv    the two factors
    """
    chosen = counts > 0
    a, b = weigh(scores), weigh(scores, counts)
    full, width = a @ values, diameter(values)
    mu, tv = missed_mass(scores, chosen), total_variation(a, b)
    columns = {
        "distinct": (full - weigh(scores, chosen) @ values).norm(dim=-1),
        "identity": mu * gap(scores, chosen, values),
        "mass": mu * width,
        "drawn": (full - b @ values).norm(dim=-1),
        "variation": tv * width,
        "appendix": factors(scores, chosen, values).bound,
        "mu": mu,
        "tv": tv,
    }
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()})


def compare(maps: Maps, *, gamma: float = 5.0, points: int = 32, number: int = 2, every: int = EVERY) -> pd.DataFrame:
    """`bounds` for queries of the first `number` maps of each kind, on what GNA drew."""
    parts = []
    for kind, (queries, keys) in maps.items():
        counts = drawn("independent", size_of(queries), gamma=gamma, points=points)[::every]
        for index in range(number):
            rows = bounds(score_rows(queries[index], keys[index], every), counts, value_rows(keys[index]))
            parts.append(rows.assign(kind=kind, map=index))
    return pd.concat(parts, ignore_index=True)


def ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Bound over error by kind and bound: smallest (where the bound is tightest), median and largest over queries."""
    tables = {}
    for kind, part in rows.groupby("kind", sort=False):
        for name, (bound, error) in RATIOS.items():
            tables[kind, name] = (part[bound] / part[error]).agg(tightest="min", median="median", loosest="max")
    table = pd.DataFrame.from_dict(tables, orient="index")
    table.index = pd.MultiIndex.from_tuples(tables, names=["kind", "bound"])
    return table


def examples() -> pd.DataFrame:
    """Cases to compute by hand: where the printed bound is nearly tight, and where two bounds fail that prove less.

    1. No scores and equal values: eq. 9 errs by (n − P)/n and the bound is √((n − P)/n); eq. 2 does not err at all.
    2. No scores, one key with the only value that is not zero: the bound is 0, and eq. 2 errs.
    3. Two cells of equal score, one drawn twice: nothing is missed (μ = 0), and eq. 2 errs by 1/6 = TV·diam(V).
    """
    none, ones = torch.zeros(1, 2304, dtype=torch.float64), torch.ones(2304, 1, dtype=torch.float64)
    chosen = torch.arange(2304)[None] < 32
    tight = derivation(none, chosen, ones).loc[0]
    one = torch.tensor([[1, 0, 0, 0]])
    apart = bounds(none[:, :4], one, one.T.double()).loc[0]
    twice = bounds(none[:, :2], torch.tensor([[2, 1]]), torch.tensor([[0.0], [1.0]]).double()).loc[0]
    rows = [
        ("1. equal values, 32 of 2304 cells", "eq. 9", tight["error"], "Appendix A", tight["bound"]),
        ("1. equal values, 32 of 2304 cells", "eq. 2", tight["eq. 2"], "Appendix A", tight["bound"]),
        ("2. the only value seen, 1 of 4 cells", "eq. 2", apart["drawn"], "Appendix A", apart["appendix"]),
        ("3. two cells, one drawn twice", "eq. 2", twice["drawn"], "μ·diam(V)", twice["mass"]),
        ("3. two cells, one drawn twice", "eq. 2", twice["drawn"], "TV·diam(V)", twice["variation"]),
    ]
    table = pd.DataFrame(rows, columns=["case", "attention", "error", "bound", "value"])
    fails = table["error"] > table["value"] + 1e-12
    return table.assign(holds=["no" if broken else "yes" for broken in fails])

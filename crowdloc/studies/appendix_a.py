"""Appendix A of the paper for many queries at once: every term of its derivation, as printed (notebook 16).

One query has scores s = K qᵀ over n cells (eq. 6 drops the 1/√d of eq. 2; here q carries it), values V (n, C), and an
index set of cells that it looks at. In eq. 7 to 9 the other keys and values are set to zero, which leaves them e⁰ in
the softmax; eq. 2 leaves them out. Both are here. All is float64.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from crowdloc.studies.appendix_maps import EVERY, Maps, drawn, nearness, score_rows, size_of, value_rows, weigh

NORMS = ("spectral", "Frobenius")  # of matrices; with both, vectors have the 2-norm
STEPS = ("error", "triangle", "product", "halved", "bound")


def zeroed(scores: Tensor, chosen: Tensor) -> Tensor:
    """Weights of all n cells with the keys outside the set at zero (eq. 7 and 9): (Q, n), `chosen` bool (Q, n)."""
    return torch.where(chosen, scores, 0.0).softmax(-1)


def kept_weight(scores: Tensor, chosen: Tensor) -> Tensor:
    """α (Q,), the weight that zeroed keys leave to the chosen ones. SA of eq. 9 is α times SA of eq. 2, exactly."""
    return torch.where(chosen, zeroed(scores, chosen), 0.0).sum(-1)


def matrix_norms(values: Tensor, chosen: Tensor, norm: str) -> Tensor:
    """Norms of `values` (n, C) with all rows at zero but the chosen ones of each query: bool (Q, n) -> (Q,)."""
    mask = chosen.to(values.dtype)
    if norm == "Frobenius":
        return (mask @ values.square().sum(-1)).sqrt()
    if norm != "spectral":
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, not {norm!r}")
    channels = values.shape[1]
    squares = torch.einsum("nc,nd->ncd", values, values).flatten(1)  # (n, C·C)
    gram = (mask @ squares).view(-1, channels, channels)
    return torch.linalg.eigvalsh(gram)[:, -1].clamp(min=0).sqrt()


class Factors(NamedTuple):
    """Of the printed bound ‖qK₂ᵀ‖ ‖V₁‖ + C ‖V₂‖, in this order, each (Q,); C = ‖SM(qKᵀ)‖."""

    unseen: Tensor
    norm_1: Tensor
    full: Tensor
    norm_2: Tensor

    @property
    def bound(self) -> Tensor:
        return self.unseen * self.norm_1 + self.full * self.norm_2


def factors(scores: Tensor, chosen: Tensor, values: Tensor, norm: str = "spectral") -> Factors:
    """What the bound is made of, for each query; arguments as in `derivation`."""
    unseen = torch.where(chosen, 0.0, scores).norm(dim=-1)
    norm_1, norm_2 = matrix_norms(values, chosen, norm), matrix_norms(values, ~chosen, norm)
    return Factors(unseen, norm_1, weigh(scores).norm(dim=-1), norm_2)


def derivation(scores: Tensor, chosen: Tensor, values: Tensor, norm: str = "spectral") -> pd.DataFrame:
    """Both sides of every inequality of Appendix A, one row per query.

    Args:
        scores: (Q, n). chosen: bool (Q, n), the index set. values: (n, C). norm: of matrices, one of `NORMS`.

    Returns:
        error     ‖a V − z V₁‖, with a = SM(qKᵀ) and z = SM(qK₁ᵀ): the error that the appendix is about
        triangle  ‖a V₁ − z V₁‖ + ‖a V₂‖
        product   ‖a − z‖ ‖V₁‖ + ‖a‖ ‖V₂‖
        halved    ½ ‖qK₂ᵀ‖ ‖V₁‖ + C ‖V₂‖: ours, as the softmax is ½-Lipschitz in the 2-norm
        bound     ‖qK₂ᵀ‖ ‖V₁‖ + C ‖V₂‖, as printed
        ‖qK₂ᵀ‖, ‖V₁‖: of the first term. kept: `kept_weight`. eq. 2: the error of eq. 2 on the same set.
    """
    a, z = weigh(scores), zeroed(scores, chosen)
    inside = chosen.to(scores.dtype)
    full, near = a @ values, (a * inside) @ values
    of = factors(scores, chosen, values, norm)
    columns = {
        "error": (full - (z * inside) @ values).norm(dim=-1),
        "triangle": ((a - z) * inside @ values).norm(dim=-1) + (full - near).norm(dim=-1),
        "product": (a - z).norm(dim=-1) * of.norm_1 + of.full * of.norm_2,
        "halved": of.unseen / 2 * of.norm_1 + of.full * of.norm_2,
        "bound": of.bound,
        "‖qK₂ᵀ‖": of.unseen,
        "‖V₁‖": of.norm_1,
        "kept": kept_weight(scores, chosen),
        "eq. 2": (full - weigh(scores, chosen) @ values).norm(dim=-1),
    }
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()})


def walk(
    maps: Maps, *, gamma: float = 5.0, points: int = 32, norm: str = "spectral", number: int = 2, every: int = EVERY
) -> pd.DataFrame:
    """`derivation` for queries of the first `number` maps of each kind; the index set is the distinct cells GNA drew.

    One more column, `diameter`: the largest distance of two rows of V or of one from zero. No error exceeds it.
    """
    parts = []
    for kind, (queries, keys) in maps.items():
        chosen = drawn("independent", size_of(queries), gamma=gamma, points=points)[::every] > 0
        for index in range(number):
            values = value_rows(keys[index])
            rows = derivation(score_rows(queries[index], keys[index], every), chosen, values, norm)
            parts.append(rows.assign(kind=kind, map=index, diameter=diameter(torch.cat([values, 0 * values[:1]]))))
    return pd.concat(parts, ignore_index=True)


def diameter(values: Tensor) -> float:
    """Largest distance between two rows of (n, C)."""
    return float(torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist").max())


def steps_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians over queries of each side of each inequality, by kind, and how many queries violate any of them."""
    grouped = rows.groupby("kind", sort=False)
    table = grouped[[*STEPS, "diameter"]].median()
    sides = rows[list(STEPS)].to_numpy()
    broken = pd.Series((sides[:, 1:] < sides[:, :-1] * (1 - 1e-9)).any(axis=1))
    return table.assign(queries=grouped.size(), violations=broken.groupby(rows["kind"], sort=False).sum())


def looseness(rows: pd.DataFrame) -> pd.DataFrame:
    """By kind: the printed bound over the error (tightest query, median, loosest), and its first term's share."""
    grouped = (rows["bound"] / rows["error"]).groupby(rows["kind"], sort=False)
    share = (rows["‖qK₂ᵀ‖"] * rows["‖V₁‖"] / rows["bound"]).groupby(rows["kind"], sort=False).median()
    return grouped.agg(tightest="min", median="median", loosest="max").assign(**{"first term (%)": 100 * share})


def two_sparse_attentions(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians over queries, by kind: errors of eq. 9 (zeroed keys) and of eq. 2 on one index set, and the share α."""
    table = rows.groupby("kind", sort=False)[["error", "eq. 2", "kept"]].median()
    return table.rename(columns={"error": "eq. 9", "kept": "α"})


def preferred(maps: Maps, *, gamma: float = 5.0, points: int = 32, every: int = EVERY) -> pd.DataFrame:
    """The bound and its first two factors for four ways to choose `points` cells, and errors: medians, a map per kind.

    Gaussian and random draws (their distinct cells), the nearest cells, and those with the largest weights.
    """
    rows = {}
    for kind, (queries, keys) in maps.items():
        size = size_of(queries)
        scores, values = score_rows(queries[0], keys[0], every), value_rows(keys[0])
        best = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, scores.topk(points).indices, True)
        sets = {
            f"Gaussian, γ = {gamma:g}": drawn("independent", size, gamma=gamma, points=points)[::every] > 0,
            "random": drawn("random", size, points=points)[::every] > 0,
            "nearest": nearness(size, every) < points,
            "largest weights": best,
        }
        for name, chosen in sets.items():
            medians = derivation(scores, chosen, values).median()
            rows[kind, name] = medians[["‖qK₂ᵀ‖", "‖V₁‖", "bound", "error", "eq. 2"]]
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["kind", "cells"])
    return table.rename(columns={"error": "error, eq. 9", "eq. 2": "error, eq. 2"})

"""What notebook 16 measures Appendix A on: maps of four kinds, scores of their cells, and sets of cells.

All but the maps is float64. A map has n cells; Q of them are queries. Which cells a query looks at, and how often, is a
row of counts over the n cells, whatever chose them; every attention here is softmax(s + log counts).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from crowdloc.attention.sampling import Neighborhood, neighbor_cells
from crowdloc.studies import diagnosis
from crowdloc.studies.neighborhoods import smooth_map, white_map

Maps = Mapping[str, tuple[Tensor, Tensor]]  # by kind: queries, and keys that are also the values, (B, C, H, W) each
# Scores are computed for every ninth query of a map: 9 divides no power of two, so all columns are met.
EVERY = 9


def trained_maps(id: str, *, number: int = 8, source: str = "stored") -> dict[str, tuple[Tensor, Tensor]]:
    """Of validation clips of a stored GNANet, `number` of them spread over the set.

    "backbone": self-attention on the features of its (frozen) backbone. "GNANet": its keyframe attention, whose queries
    are scene contexts and whose keys and values are those features.
    """
    _, inputs = diagnosis.attention_inputs(id, images=number, source=source)
    context, keyframe = inputs["context"], inputs["keyframe"]
    return {"backbone": (keyframe, keyframe), "GNANet": (context, keyframe)}


def kinds_of_maps(
    id: str, *, number: int = 8, source: str = "stored", seed: int = 0
) -> dict[str, tuple[Tensor, Tensor]]:
    """`trained_maps`, and before them "white noise" and a "smooth field", as many and as large, of unit variance."""
    trained = trained_maps(id, number=number, source=source)
    shape = trained["backbone"][0].shape[1:]
    white = torch.cat([white_map(*shape, seed=seed + i) for i in range(number)])
    smooth = torch.cat([smooth_map(*shape, seed=seed + i) for i in range(number)])
    return {"white noise": (white, white), "smooth field": (smooth, smooth)} | trained


def size_of(maps: Tensor) -> tuple[int, int]:
    """(…, H, W) -> H and W."""
    return maps.shape[-2], maps.shape[-1]


def score_rows(query: Tensor, key: Tensor, every: int = 1) -> Tensor:
    """Scores q·k/√C of every `every`-th cell of a map with all cells: (C, H, W) twice -> (Q, n) float64."""
    rows = query.flatten(1).T[::every].double()  # (Q, C)
    return rows @ key.flatten(1).double() / math.sqrt(query.shape[0])


def value_rows(value: Tensor) -> Tensor:
    """(C, H, W) -> (n, C) float64."""
    return value.flatten(1).T.double()


def drawn(kind: str, size: tuple[int, int], *, gamma: float = 0.0, points: int = 32, seed: int = 0) -> Tensor:
    """How often each query draws each cell, int64 (n, n): `kind` "independent" (GNA with one γ) or "random"."""
    where = Neighborhood(kind, (gamma,), points, 1, False, 0, 0)
    cells = neighbor_cells(where, 1, *size, torch.tensor(seed))[:, 0]  # (n, P)
    counts = torch.zeros(size[0] * size[1], size[0] * size[1], dtype=torch.int64)
    return counts.scatter_add_(1, cells, torch.ones_like(cells))


def distances(size: tuple[int, int], every: int = 1) -> Tensor:
    """Squared distance, in cells, of every `every`-th cell to all: int64 (Q, n)."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    y, x = y.flatten(), x.flatten()
    return (y - y[::every, None]).square() + (x - x[::every, None]).square()


def nearness(size: tuple[int, int], every: int = 1) -> Tensor:
    """Rank of every cell by its distance to each `every`-th one, itself 0, ties by number: int64 (Q, n)."""
    return distances(size, every).argsort(dim=-1, stable=True).argsort(dim=-1)


def weigh(scores: Tensor, counts: Tensor | None = None) -> Tensor:
    """Attention weights (Q, n): softmax(s + log counts), as if cell i were there counts[i] times.

    Counts of 0 and 1 (or a bool) are a set of cells, counts of draws eq. 2 of the paper, None full attention.
    """
    return (scores if counts is None else scores + counts.to(scores.dtype).log()).softmax(-1)

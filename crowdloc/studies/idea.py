"""What notebook 00 shows: draws of a query, four ways to look, one query followed through a network."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crowdloc.attention import (
    GaussianNeighborAttention,
    available_backends,
    full_attention,
    gaussian_limit_attention,
    gaussian_neighbor_attention,
    module_seed,
    random_attention,
    sample_neighbors,
)
from crowdloc.attention.sampling import Neighborhood, neighbor_cells
from crowdloc.core.errors import CrowdlocError
from crowdloc.figures.idea import STRIDE, Cloud, Sliders, sliders
from crowdloc.results.tables import read_table
from crowdloc.results.verdicts import steps
from crowdloc.studies import diagnosis, neighborhoods, plain

Place = tuple[int, int]


def clouds(
    size: Place, queries: Sequence[Place], gammas: Sequence[float], *, num_points: int = 32, seed: int = 0
) -> list[list[Cloud]]:
    """What each query (y, x) draws with each γ on a map (H, W), in one call: a row per query.

    The border rule is "clamp"; the same draws under "mask" tell which of them it moved.
    """
    height, width = size
    options: dict[str, Any] = {"gamma": tuple(gammas), "num_points": num_points, "seed": seed}
    drawn = sample_neighbors(height, width, **options).numpy()  # (N, F, P)
    kept = sample_neighbors(height, width, boundary="mask", **options).numpy()
    rows = []
    for y, x in queries:
        here = y * width + x
        cells = np.stack([drawn[here] % width, drawn[here] // width], axis=-1)  # (F, P, 2)
        moved = kept[here] != drawn[here]
        rows.append([Cloud((y, x), size, g, cells[f], moved[f]) for f, g in enumerate(gammas)])
    return rows


def cloud(size: Place, *, γ: float, P: int, seed: int, x: int, y: int) -> Cloud:
    """One of `clouds`; a query off the map is moved onto it."""
    query = min(max(y, 0), size[0] - 1), min(max(x, 0), size[1] - 1)
    return clouds(size, [query], (γ,), num_points=P, seed=seed)[0][0]


def explore(size: Place, *, seed: int = 0) -> Sliders:
    """Sliders for all that a `cloud` depends on, the query starting in the middle of the map (H, W)."""
    height, width = size
    return sliders(
        partial(cloud, size),
        γ=(5, 0.5, 20, 0.5),
        P=(32, 1, 256, 1),
        seed=(seed, 0, max(20, seed), 1),
        x=(width // 2, 0, width - 1, 1),
        y=(height // 2, 0, height - 1, 1),
    )


def strip(size: Place, *settings: tuple[float, int, int, int, int]) -> tuple[list[list[Cloud]], list[str]]:
    """A row of clouds and their titles, by (γ, P, seed, x, y), for `figures.idea.clouds`."""
    names = ("γ", "P", "seed", "x", "y")
    titles = [", ".join(f"{n} = {v:g}" for n, v in zip(names, values, strict=True)) for values in settings]
    return [[cloud(size, γ=g, P=p, seed=s, x=x, y=y) for g, p, s, x, y in settings]], titles


def ways(size: Place, query: Place, *, seed: int = 0) -> dict[str, NDArray[np.int64]]:
    """Cells (n, 2) of (x, y) that a query (y, x) of a map (H, W) looks at: full, local, random and Gaussian attention.

    Local is the 9 × 9 window, random 96 cells, Gaussian 32 cells for each of γ = 3, 5, 10: nearly equal cost.
    """
    height, width = size
    key = torch.tensor(seed)
    here = query[0] * width + query[1]
    chosen = {
        "full": np.arange(height * width),
        "local, 9 × 9": _cells(Neighborhood("window", (0.0,), 81, 1, True, 0, 0), size, key)[here],
        "random": _cells(Neighborhood("random", (0.0,), 96, 1, False, 0, 0), size, key)[here],
        "Gaussian": _cells(Neighborhood("independent", (3.0, 5.0, 10.0), 32, 1, False, 0, 0), size, key)[here],
    }
    return {
        f"{name}: {(cells >= 0).sum():,} keys": np.stack([cells % width, cells // width], axis=-1)[cells >= 0]
        for name, cells in chosen.items()
    }


def _cells(where: Neighborhood, size: Place, seed: Tensor) -> NDArray[np.int64]:
    return neighbor_cells(where, 1, *size, seed).flatten(1).numpy()


def agreement(*, seed: int = 0, size: Place = (18, 32)) -> dict[str, bool]:
    """Whether each backend for CPUs gives what `plain.gna` computes from the same cells, on a smooth random clip."""
    clip = torch.stack([neighborhoods.smooth_map(16, *size, seed=seed + t)[0] for t in range(3)])[None]
    gamma = (3.0, 5.0, 10.0)
    cells = sample_neighbors(*size, num_frames=3, gamma=gamma, num_points=32, seed=seed)  # (N, F, T·P)
    expected = plain.gna(clip[:, 1], clip, clip, gamma, cells=cells)
    return {
        name: torch.allclose(
            gaussian_neighbor_attention(clip[:, 1], clip, clip, gamma=gamma, seed=seed, backend=name),
            expected,
            atol=1e-5,
        )
        for name in available_backends()
        if name != "triton"
    }


def towards(
    query: Tensor, key: Tensor, *, gamma: float, points: Sequence[int] = (8, 32, 128, 512, 2048), seeds: int = 3
) -> pd.DataFrame:
    """How far GNA with P draws is from its own limit and from full attention, and random attention from the latter.

    Root mean square over seeds, cells and channels, in deviations of `key` over the map; one row per P. K = V.
    """
    limit = gaussian_limit_attention(query, key, key, gamma=gamma)
    full = full_attention(query, key, key)
    unit = float(key.var(dim=(-2, -1)).mean().sqrt())

    def distance(attend: Callable[..., Tensor], other: Tensor) -> float:
        squares = [float((attend(query, key, key, seed=seed) - other).square().mean()) for seed in range(seeds)]
        return math.sqrt(sum(squares) / seeds) / unit

    rows = {}
    for number in points:
        drawn = partial(gaussian_neighbor_attention, gamma=gamma, num_points=number)
        rows[number] = {
            "GNA to its limit": distance(drawn, limit),
            "GNA to full attention": distance(drawn, full),
            "random to full attention": distance(partial(random_attention, num_points=number), full),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("P")


def towards_on_maps(
    id: str, *, source: str = "stored", size: Place = (36, 64), seed: int = 0, gamma: float = 5.0
) -> dict[str, pd.DataFrame]:
    """`towards` by map: a smooth random one (H, W), and the keyframe attention of a GNANet (validation clip 0)."""
    smooth = neighborhoods.smooth_map(64, *size, seed=seed)
    _, maps = diagnosis.attention_inputs(id, images=1, source=source)
    return {
        "smooth random map": towards(smooth, smooth, gamma=gamma),
        "trained GNANet, keyframe attention": towards(maps["context"], maps["keyframe"], gamma=gamma),
    }


def towards_text(tables: Mapping[str, pd.DataFrame]) -> str:
    """Tables of distances by title."""
    return "\n".join(f"{title}\n{table.to_string(float_format='{:.2f}'.format)}\n" for title, table in tables.items())


@dataclass(frozen=True, eq=False)
class Followed:
    """One query of a trained network's keyframe attention, on one frame. Maps are (H, W).

    Attributes:
        image: (h, w, 3). heads: (n, 2) in its pixels. query: (y, x) in cells.
        draws: how often each cell was drawn. weights: what it weighs, foci averaged; they add to 1.
        output, limit: length of the attention's answer at every cell, with draws and in the limit P → ∞.
        answer: (C,), the answer at the query. foci: what each γ found.
    """

    image: NDArray[np.uint8]
    heads: NDArray[np.float64]
    query: Place
    draws: NDArray[np.float64]
    weights: NDArray[np.float64]
    output: NDArray[np.float64]
    limit: NDArray[np.float64]
    answer: NDArray[np.float64]
    foci: pd.DataFrame

    @property
    def maps(self) -> dict[str, NDArray[np.float64]]:
        """The four heat maps by title."""
        return {
            "draws: how often each cell was drawn": self.draws,
            "weights: what each drawn cell counts": self.weights,
            "output of every query: its length, P = 32": self.output,
            "the same in the limit P → ∞": self.limit,
        }


def follow(id: str, index: int, query: Place, *, source: str = "stored") -> Followed:
    """Keyframe attention of a stored GNANet at one query (y, x) of a validation frame, drawn once (S = 1)."""
    model, validation = diagnosis.network(id, source)
    attention = model.keyframe_gna
    if not isinstance(attention, GaussianNeighborAttention):
        raise CrowdlocError(f"{id} attends in another way: name a GNANet with Gaussian neighbours")
    with torch.inference_mode():
        maps = diagnosis.features(model, validation, index)[None]  # (1, T, C, H, W)
        context = model.scene_context(model.scene(maps))
        key = maps[:, model.keyframe]
        gamma, points = attention.gamma, attention.num_points
        seed = module_seed(model.run_seed, "keyframe", None)
        output = gaussian_neighbor_attention(context, key, key, gamma=gamma, num_points=points, seed=seed)
        limit = gaussian_limit_attention(context, key, key, gamma=gamma)
    height, width = key.shape[-2:]
    heads = validation.frames[index].points
    cells = sample_neighbors(height, width, gamma=gamma, num_points=points, seed=seed)[query[0] * width + query[1]]
    scores = key[0].flatten(1)[:, cells].mul(context[0, :, *query, None, None]).sum(0) / math.sqrt(key.shape[1])
    weights = scores.softmax(dim=-1)  # (F, P)
    return Followed(
        validation.image(index), heads, query,
        _spread(cells, torch.ones_like(weights), (height, width)),
        _spread(cells, weights / len(gamma), (height, width)),
        output[0].norm(dim=0).double().numpy(), limit[0].norm(dim=0).double().numpy(),
        output[0, :, *query].double().numpy(),
        _foci(gamma, cells, weights, query, width, heads),
    )  # fmt: skip


def as_text(walks: Mapping[str, Followed]) -> str:
    """What each focus found, by title, and how long the answer is."""
    parts = []
    for title, one in walks.items():
        table = one.foci.to_string(float_format="{:.2f}".format)
        parts.append(f"{title}: the answer is {np.linalg.norm(one.answer):.0f} long\n{table}\n")
    return "\n".join(parts)


# Video and table, what is compared (left − right), at which σ: what notebook 00 says of whether GNA helps.
_EVIDENCE: tuple[tuple[str, str, str, dict[str, tuple[str, str]], tuple[int, ...]], ...] = (
    ("SynthCrowd", "II", "synthcrowd-sense", {
        "GNANet − one frame": ("gnanet", "raznet"),
        "three frames stacked − one frame": ("frame-stack", "raznet"),
        "GNANet − three frames stacked": ("gnanet", "frame-stack"),
    }, (5, 20)),
    ("SynthCrowd", "IX", "synthcrowd-sense", {
        "Gaussian − random neighbours": ("gnanet.gamma5", "gnanet.random"),
        "Gaussian − local neighbours": ("gnanet.gamma5", "gnanet.local"),
    }, (20,)),
    ("Mall (real)", "Mall", "mall", {
        "GNANet − one frame": ("gnanet", "raznet"),
        "S-GNANet − one frame": ("s-gnanet", "raznet"),
    }, (20,)),
)  # fmt: skip


def evidence(**options: Any) -> pd.DataFrame:
    """Differences in mAP that say whether attention helps to find heads, of stored results of all seeds.

    Columns video, comparison, σ, seeds, difference, low, high, verdict, after Holm (over the rows of one table), as in
    `crowdloc.results.steps`, which takes the options.
    """
    parts = []
    for video, number, data, pairs, sigmas in _EVIDENCE:
        table = read_table(number, data)
        rows = steps(table, pairs, sigmas=sigmas, **options).drop(columns="metric")
        seeds = [min(len(table[name]) for name in pairs[title]) for title in rows["comparison"]]
        rows.insert(2, "seeds", seeds)
        rows.insert(0, "video", video)
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def source(of: Any) -> Markdown:
    """The source of a function or class, for a notebook to show."""
    return Markdown(f"```python\n{inspect.getsource(of)}```")


class Markdown(str):
    """Text that a notebook renders."""

    def _repr_markdown_(self) -> str:
        return str(self)


def _spread(cells: Tensor, values: Tensor, size: Place) -> NDArray[np.float64]:
    """Values summed by cell, (H, W)."""
    total = np.bincount(cells.flatten().numpy(), values.double().flatten().numpy(), minlength=size[0] * size[1])
    return total.reshape(size).astype(np.float64)


def _foci(gamma: Sequence[float], cells: Tensor, weights: Tensor, query: Place, width: int,
          heads: NDArray[np.float64]) -> pd.DataFrame:  # fmt: skip
    """By γ: how many keys share the weight (1/Σw²), and of the heaviest: its weight, how far it and a head are."""
    rows = {}
    for g, drawn, weight in zip(gamma, cells, weights, strict=True):
        kinds, which = drawn.unique(return_inverse=True)
        total = torch.zeros(len(kinds)).index_add(0, which, weight)  # a cell drawn twice counts twice
        y, x = divmod(int(kinds[total.argmax()]), width)
        centre = STRIDE * np.array([x, y]) + (STRIDE - 1) / 2
        rows[f"{g:g}"] = {
            "keys that share": float(1 / total.square().sum()),
            "largest weight": float(total.max()),
            "cells from query": math.hypot(y - query[0], x - query[1]),
            "pixels from a head": float(np.linalg.norm(heads - centre, axis=1).min()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("γ")


def reached(query: Place, size: Place, *, gamma: float = 3.0, num_points: int = 32, seed: int = 0) -> dict[str, bool]:
    """What the gradient of one query's output reaches on a random map: statements and whether they are true."""
    height, width = size
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, 4, *size, generator=generator, requires_grad=True) for _ in range(3))
    options: dict[str, Any] = {"gamma": gamma, "num_points": num_points, "seed": seed}
    gaussian_neighbor_attention(q, k, v, **options)[0, :, *query].sum().backward()
    drawn = torch.zeros(height * width, dtype=torch.bool)
    drawn[sample_neighbors(height, width, **options)[query[0] * width + query[1], 0]] = True
    own = torch.zeros(size, dtype=torch.bool)
    own[query] = True

    def where(tensor: Tensor) -> Tensor:
        assert tensor.grad is not None
        return tensor.grad[0].abs().sum(0) > 0

    learned = torch.tensor([gamma], requires_grad=True)
    gaussian_limit_attention(q.detach(), k.detach(), v.detach(), gamma=learned)[0, :, *query].sum().backward()
    return {
        "of the queries, only p itself": bool((where(q) == own).all()),
        "of the keys, exactly the drawn cells": bool((where(k).flatten() == drawn).all()),
        "of the values, exactly the drawn cells": bool((where(v).flatten() == drawn).all()),
        "γ, in the limit only": learned.grad is not None and bool(learned.grad.abs() > 0),
    }


def check_gradient(attend: nn.Module | None = None, channels: int = 3, size: Place = (5, 6)) -> bool:
    """Whether analytic gradients of a module (query, key, value, seed), or of GNA, agree with differences (float64)."""
    attend = attend or GaussianNeighborAttention(gamma=(1.0, 2.0), num_points=4)
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, channels, *size, dtype=torch.float64, generator=generator).requires_grad_() for _ in "qkv"]
    return torch.autograd.gradcheck(partial(attend, seed=0), maps)

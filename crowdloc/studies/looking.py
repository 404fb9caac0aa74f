"""Where the cross-attention of a trained GNANet looks: the draws of a query and their weights (Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from crowdloc.attention import GaussianNeighborAttention, module_seed, sample_neighbors
from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.models import GNANet, normalise
from crowdloc.models.parts.frontend import STRIDE
from crowdloc.results import runs
from crowdloc.results.experiments import Experiment
from crowdloc.studies.headsize import diameters

KINDS = ("the same person", "another head", "no head")


class Draws(NamedTuple):
    """Draws of Q queries: each (Q, F, S·T·P) for F foci; `weight` sums to 1 over the last axis."""

    frame: NDArray[np.int64]
    cell: NDArray[np.int64]  # index into H·W
    weight: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scene:
    """A clip of T frames inside a GNANet: annotations, images (T, h, w, 3), query and key maps."""

    frames: list[Frame]
    images: NDArray[np.uint8]
    context: Tensor  # (C, H, W)
    features: Tensor  # (T, C, H, W)

    @property
    def size(self) -> tuple[int, int]:
        """H, W of the maps."""
        return self.features.shape[-2], self.features.shape[-1]


def network(id: str, source: str = "stored") -> tuple[GNANet, ClipDataset]:
    """A GNANet with temporal attention by draws, and the validation frames of its data.

    Raises:
        CrowdlocError: the experiment is something else.
    """
    experiment = Experiment.parse(id)
    run = runs.read(experiment, "train" if source == "train" else "stored")
    model = None if run is None else runs.load_model(experiment, run.folder / runs.WEIGHTS)
    gna = getattr(model, "temporal_gna", None)
    if not isinstance(model, GNANet) or not isinstance(gna, GaussianNeighborAttention) or gna.sampling == "limit":
        raise CrowdlocError(f"{id} is no stored GNANet with temporal attention by draws: name one that is")
    return model.to(memory_format=torch.channels_last), experiment.load("val")


def scene(model: GNANet, dataset: ClipDataset, index: int) -> Scene:
    """The clip around frame `index`, and what the cross-attention is given of it."""
    places = dataset.neighbours(index, model.offsets)
    images = np.stack([dataset.image(i) for i in places])
    model.eval()
    with torch.inference_mode():
        features = model.encode(normalise(torch.from_numpy(images)))[0]
        context = model.scene_context(model.scene(features[None]))[0]
    return Scene([dataset.frame(i) for i in places], images, context, features)


def cells_of(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.int64]:
    """The map cell, as an index into H·W, in which each image point (n, 2) lies."""
    height, width = size
    x, y = np.floor((np.asarray(points) + 0.5) / STRIDE).astype(np.int64).T
    return y.clip(0, height - 1) * width + x.clip(0, width - 1)


def centres(cells: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Image points (…, 2) in the middle of cells."""
    y, x = np.divmod(cells, size[1])
    return np.stack([x, y], axis=-1) * STRIDE + (STRIDE - 1) / 2


def draws(model: GNANet, seen: Scene, queries: NDArray[np.int64]) -> Draws:
    """The draws of temporal GNA for some queries (indices into H·W), as the network makes them at test."""
    gna = model.temporal_gna
    assert isinstance(gna, GaussianNeighborAttention)
    frames, channels = seen.features.shape[:2]
    height, width = seen.size
    seed = module_seed(model.run_seed, "temporal", None)
    drawn = _neighbours(height, width, frames, tuple(gna.gamma), gna.num_points, gna.num_samples, seed)
    if gna.boundary != "clamp" or gna.sampling != "independent":
        raise CrowdlocError("only independent draws that are clamped at the border can be shown: name another network")
    chosen = drawn[torch.as_tensor(queries)]  # (Q, F·S, T·P) into T·H·W
    keys = seen.features.float().movedim(1, -1).flatten(0, 2)  # (T·H·W, C)
    query = seen.context.float().flatten(1).T[queries]  # (Q, C)
    score = torch.einsum("qc,qspc->qsp", query, keys[chosen]) / channels**0.5
    weight = score.softmax(-1) / gna.num_samples
    shape = (len(queries), len(gna.gamma), -1)  # samplings of a focus stand side by side
    frame, cell = np.divmod(chosen.numpy(), height * width)
    return Draws(frame.reshape(shape), cell.reshape(shape), weight.double().numpy().reshape(shape))


def central(model: GNANet, dataset: ClipDataset, index: int) -> dict[str, Any]:
    """Arguments of `figures.predictions.neighbourhoods` for the head that is nearest to the middle of a frame."""
    seen = scene(model, dataset, index)
    height, width = seen.images.shape[1:3]
    points = seen.frames[model.keyframe].points
    head = points[np.hypot(*(points - ((width - 1) / 2, (height - 1) / 2)).T).argmin()]
    found = draws(model, seen, cells_of(head[None], seen.size))
    gna = model.temporal_gna
    assert isinstance(gna, GaussianNeighborAttention)
    foci = [
        (f"{gamma:g}", found.frame[0, k], centres(found.cell[0, k], seen.size), found.weight[0, k])
        for k, gamma in enumerate(gna.gamma)
    ]
    return {"images": seen.images, "keyframe": model.keyframe, "query": tuple(head), "draws": foci}


@lru_cache(maxsize=1)
def _neighbours(
    height: int, width: int, frames: int, gamma: tuple[float, ...], points: int, samples: int, seed: int
) -> Tensor:
    """Draws of all cells (N, F·S, T·P), which are the same for every frame of one size."""
    drawn = sample_neighbors(height, width, num_frames=frames, gamma=gamma, num_points=points, num_samples=samples,
                             seed=seed)  # fmt: skip
    return torch.as_tensor(drawn)


def owners(seen: Scene) -> list[NDArray[np.int64]]:
    """By frame the track id of the head on which each cell (H·W,) lies, -1 for none.

    A cell lies on the nearest head if its middle is within the head's radius and half a cell of the head's centre.
    """
    found = []
    middle = centres(np.arange(seen.size[0] * seen.size[1]), seen.size)
    for frame in seen.frames:
        assert frame.boxes is not None and frame.track_ids is not None
        if not len(frame.points):
            found.append(np.full(len(middle), -1))
            continue
        radius = np.nan_to_num(diameters(frame.points, frame.boxes), nan=0.0) / 2
        distance, nearest = cKDTree(frame.points).query(middle)
        found.append(np.where(distance <= radius[nearest] + STRIDE / 2, frame.track_ids[nearest], -1))
    return found


def attended(model: GNANet, dataset: ClipDataset, indices: Sequence[int]) -> pd.DataFrame:
    """For queries on heads: how many of the draws, and how much of the weight, lie on what; mean over heads.

    Rows: γ and `KINDS`. Columns: `draws` and `weight` in percent, and `as many as`: exp of the entropy of the weights,
    the number of equally weighted draws that would be as spread out, of the draws of one softmax.
    """
    parts, spreads = [], []
    for index in indices:
        seen = scene(model, dataset, index)
        key, owner = seen.frames[model.keyframe], np.stack(owners(seen))
        assert key.track_ids is not None
        found = draws(model, seen, cells_of(key.points, seen.size))
        whose = owner[found.frame, found.cell]  # (Q, F, draws)
        own = key.track_ids[:, None, None]
        kinds = np.stack([whose == own, (whose != own) & (whose >= 0), whose < 0], axis=-1)
        parts.append(np.stack([kinds.mean(axis=2), (kinds * found.weight[..., None]).sum(axis=2)], axis=-1))
        spreads.append(_spread(found, model))
    shares = 100 * np.concatenate(parts).mean(axis=0)  # (F, kinds, 2)
    gna = model.temporal_gna
    assert isinstance(gna, GaussianNeighborAttention)
    names = [f"{gamma:g}" for gamma in gna.gamma]
    index = pd.MultiIndex.from_product([names, KINDS], names=["γ", "on"])
    table = pd.DataFrame(shares.reshape(-1, 2), index=index, columns=["draws", "weight"])
    spread = np.concatenate(spreads).mean(axis=0)
    table["as many as"] = np.where(np.arange(len(table)) % len(KINDS) == 0, np.repeat(spread, len(KINDS)), np.nan)
    return table


def _spread(found: Draws, model: GNANet) -> NDArray[np.float64]:
    """(Q, F): exp of the entropy of the weights in one softmax, mean over samplings."""
    gna = model.temporal_gna
    assert isinstance(gna, GaussianNeighborAttention)
    weight = found.weight.reshape(*found.weight.shape[:2], gna.num_samples, -1) * gna.num_samples
    return np.exp(-(weight * np.log(np.maximum(weight, 1e-30))).sum(axis=-1)).mean(axis=-1)


def attended_text(table: pd.DataFrame) -> str:
    """`attended` for a notebook."""
    return table.to_string(float_format="{:.1f}".format, na_rep="")

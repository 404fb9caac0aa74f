"""Counts of a table beside each other: from maps and from points, what they cost, density maps, people flows.

Pictures are of generated validation frames; of test frames only numbers are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.datasets.catalog import label
from crowdloc.inference.windows import encode
from crowdloc.metrics import counting_errors
from crowdloc.models import Maps, Method
from crowdloc.models.counter import DensityCounter
from crowdloc.models.density import cells, density_map
from crowdloc.models.epf import EPF
from crowdloc.models.parts.flows import STEPS
from crowdloc.models.stanet import STANet
from crowdloc.results import runs
from crowdloc.results.experiments import SOURCES, TABLES
from crowdloc.results.marking import validation_frames
from crowdloc.results.runs import Run
from crowdloc.results.seeds import spread
from crowdloc.results.tables import NOT_MEASURED, Table, others, read_table, shown_name
from crowdloc.results.verdicts import steps
from crowdloc.training.loop import empty_model

Floats = NDArray[np.float64]
CELL = 8  # pixels, of all maps that are shown
SIGMA = 4.0  # pixels, of the heads that are shown beside them
_LEAST_FLOW = 0.05  # people around a head from which on a direction can be told


def counts_table(table: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Errors by where a count comes from: the sum of a map, or points; a row per method, mean ± deviation over seeds.

    A method that gives both (STANet) fills all columns; the paper's tables take the sum of its map. `bias` is the mean
    of counted minus annotated heads, `%` the MAE per head, both of the count that tables take.
    """
    rows = []
    for name, group in table.items():
        row = {"method": shown_name(name), "seeds": str(len(group)) if group else NOT_MEASURED}
        of_maps = [(run.counts.counts, run.counts.heads) for run in group if run.counts is not None]
        of_points = [
            (run.evidence.counts(run.threshold).astype(np.float64), run.evidence.heads)
            for run in group
            if run.evidence is not None and run.threshold is not None
        ]
        for title, found in (("map", of_maps), ("points", of_points)):
            errors = [counting_errors(*pair) for pair in found]
            row |= {f"{metric}, {title}": spread([e[metric] for e in errors], 2) for metric in ("MAE", "MSE")}
        taken = of_maps or of_points
        row["bias"] = spread([float((counted - heads).mean()) for counted, heads in taken], 2, sign="+")
        share = [100 * np.abs(counted - heads).sum() / heads.sum() for counted, heads in taken]
        rows.append(row | {"%": spread(share, 1)})
    return pd.DataFrame(rows)


def other_sets(table: Table) -> dict[str, Table]:
    """The same table on its other data sets, by their labels; always from stored evidence, all seeds."""
    return {label(data): other for data, other in others(table).items()}


def sides(*tables: Table) -> dict[str, list[Table]]:
    """Tables on generated and on real data apart, as `results.claims_beside` takes them; an empty side is left out."""
    named = [("SynthCrowd" if SOURCES[table.data].generated else "real data", table) for table in tables]
    return {side: [t for name, t in named if name == side] for side in dict.fromkeys(sorted(name for name, _ in named))}


def single_image(*tables: Table) -> list[Table]:
    """Table VI on the data sets of these tables that it has; always from stored evidence."""
    known = {listed.data for listed in TABLES["VI"]}
    return [read_table("VI", table.data, table.preset) for table in tables if table.data in known]


def differences(table: Mapping[str, Sequence[Run]], left: str) -> pd.DataFrame:
    """MAE and MSE of `left` minus those of every other method, each with its 95 % interval, as `results.steps`.

    Holm's correction is over all rows.
    """
    pairs = {f"{shown_name(left)} − {shown_name(name)}": (left, name) for name in table if name != left}
    return steps(table, pairs, sigmas=(None,), metrics=("MAE", "MSE")).drop(columns="σ")


def budget_table(table: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """What every method's own training was, by the first run of each; how long it took, mean over seeds."""
    rows = []
    for name, group in table.items():
        if not group:
            continue
        experiment = group[0].experiment
        recipe, start = experiment.recipe, experiment.start
        rows.append(
            {
                "method": shown_name(name),
                "begins with": "random weights" if start is None else f"{shown_name(start.method)}, stage 1",
                "backbone": "frozen" if recipe.frozen else "trained",
                "steps": recipe.steps,
                "clips": recipe.batch_size,
                "frames": len(empty_model(experiment.method, recipe, 0, **experiment.options).offsets),
                "of": "whole frames" if recipe.crop is None else f"{recipe.crop[0]}×{recipe.crop[1]}",
                "rate": f"{recipe.learning_rate:g}",
                "minutes": f"{np.mean([run.log['seconds'].iloc[-1] for run in group]) / 60:.1f}",
            }
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True, eq=False)
class Density:
    """Heads per cell of `CELL` pixels (H, W) that a method sees in a frame."""

    name: str
    label: str
    heads_per_cell: Floats
    count: float


@dataclass(frozen=True, eq=False)
class Densities:
    """A frame (h, w, 3) with heads (n, 2), those as a density map (H, W), and what each method sees."""

    title: str
    image: NDArray[np.uint8]
    heads: Floats
    truth: Floats
    found: list[Density]


def densities(table: Mapping[str, Sequence[Run]], index: int = 0) -> Densities:
    """Density maps of frame `index` of the validation split, of all methods that make one and keep weights.

    Raises:
        CrowdlocError: frames of a real data set, which are not to be shown; or no method keeps weights.
    """
    kept = _kept(table)
    dataset = validation_frames([next(iter(kept.values()))])
    image, frame = dataset.image(index), dataset.frame(index)
    size = image.shape[0], image.shape[1]
    found = []
    for name, run in kept.items():
        model = runs.load_model(run.experiment, run.folder / runs.WEIGHTS)
        with torch.inference_mode():
            density, stride = _density(model, window(model, dataset, index), size)
        if density is not None:
            density = coarser(density, CELL // stride, cells(size, CELL))
            found.append(Density(name, shown_name(name), density, float(density.sum())))
    title = f"{frame.scene}: {len(frame.points)} heads"
    truth = density_map(frame.points, size, stride=CELL, sigma=SIGMA).astype(np.float64)
    return Densities(title, image, frame.points, truth, found)


def window(model: Method, dataset: ClipDataset, index: int) -> list[Maps]:
    """Encoded frames at the method's offsets from frame `index`."""
    return [encode(model, dataset.image(i)).maps for i in dataset.neighbours(index, model.offsets)]


def _density(model: Method, frames: list[Maps], size: tuple[int, int]) -> tuple[Floats | None, int]:
    """Heads per cell, and pixels of a cell's side; None: the method makes no map whose sum is a count."""
    if isinstance(model, DensityCounter):
        return model.keyframe_density(frames, size).astype(np.float64), model.stride
    if isinstance(model, STANet):
        features = tuple(torch.stack(stage)[None] for stage in zip(*frames, strict=True))
        found = model(features)["density"][-1][0, model.keyframe]
        rows, columns = cells(size, 2)
        return found[:rows, :columns].double().cpu().numpy(), 2
    return None, 1


def coarser(density: Floats, factor: int, shape: tuple[int, int]) -> Floats:
    """Heads per cell, added up over `factor` × `factor` cells: (H, W) -> `shape`; the sum stays."""
    padded = np.zeros((shape[0] * factor, shape[1] * factor))
    padded[: density.shape[0], : density.shape[1]] = density
    return padded.reshape(shape[0], factor, shape[1], factor).sum(axis=(1, 3))


@dataclass(frozen=True, eq=False)
class Flow:
    """Two frames (h, w, 3), the flows (10, H, W) between them that EPF sees, and how people moved.

    `before` and `after` (n, 2) are the places of those who are in both frames, in pixels.
    """

    title: str
    images: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    flows: Floats
    before: Floats
    after: Floats


def flow(group: Sequence[Run], index: int = 1) -> Flow:
    """People flows to frame `index` of the validation split from the frame before, by the first run with weights.

    Raises:
        CrowdlocError: as in `densities`; or the runs are not EPF's, or the data have no track ids.
    """
    model, dataset = _network(group)
    return _flow(model, dataset, index)


def motions(group: Sequence[Run], count: int = 24) -> pd.DataFrame:
    """Steps of people between two frames in pixels: columns dx, dy (true), found dx, found dy; NaN: no flow there.

    Of `count` validation frames, evenly spaced over the split, those that have a frame before them.
    """
    model, dataset = _network(group)
    places = range(0, len(dataset), max(1, len(dataset) // count))
    keyframes = [i for i in places if dataset.neighbours(i, model.offsets)[0] != i][:count]
    return pd.concat([motion(_flow(model, dataset, index)) for index in keyframes], ignore_index=True)


def motion(found: Flow) -> pd.DataFrame:
    """The step of every person, and the mean step of the flows around the cell where they were, see `motions`."""
    people = found.flows[: len(STEPS)]
    height, width = people.shape[-2:]
    rows = []
    for start, end in zip(found.before, found.after, strict=True):
        x, y = ((start + 0.5) // CELL).astype(int).clip(0, (width - 1, height - 1))
        near = people[:, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].sum(axis=(1, 2))
        total = near.sum()
        step = CELL * (near @ np.array(STEPS)) / total if total >= _LEAST_FLOW else np.full(2, np.nan)
        rows.append((*(end - start), step[1], step[0]))
    return pd.DataFrame(rows, columns=["dx", "dy", "found dx", "found dy"], dtype=np.float64)


def motion_text(steps: pd.DataFrame) -> str:
    """Do the flows follow people? Length of the true and found steps, how they go together, in words."""
    seen = steps.dropna()
    lengths = [np.hypot(*seen[list(columns)].to_numpy().T) for columns in (("dx", "dy"), ("found dx", "found dy"))]
    true, found = (np.concatenate([seen[c] for c in columns]) for columns in (("dx", "dy"), ("found dx", "found dy")))
    varied = min(true.std(), found.std()) > 0 if len(seen) > 1 else False
    together = f"{np.corrcoef(true, found)[0, 1]:+.2f}" if varied else "not defined"
    return "\n".join(
        [
            f"people in both frames            {len(steps)}, flows seen around {len(seen)}",
            f"true step, mean length           {_mean(lengths[0])}",
            f"found step, mean length          {_mean(lengths[1])}",
            f"correlation of their components  {together}",
            f"true steps longer than a cell    {100 * (np.hypot(steps['dx'], steps['dy']) > CELL).mean():.0f} %",
        ]
    )


def _mean(lengths: Floats) -> str:
    return f"{lengths.mean():.2f} pixels" if len(lengths) else "no flows at all"


def staying(found: Flow) -> float:
    """The share of people, of all that the flows hold, who stay in their cell."""
    people = found.flows[: len(STEPS)]
    return float(people[STEPS.index((0, 0))].sum() / people.sum()) if people.sum() else float("nan")


def net_flow(flows: Floats) -> tuple[Floats, Floats]:
    """Flows (10, H, W) -> people who leave or stay in each cell (H, W), and their mean step (H, W, 2), x and y, pixels.

    Where there is nobody the step is 0.
    """
    people = np.clip(flows[: len(STEPS)], 0, None)
    total = people.sum(axis=0)
    step = np.einsum("khw,kc->hwc", people, np.array(STEPS, dtype=np.float64)[:, ::-1])
    return total, CELL * step / np.maximum(total, 1e-12)[..., None]


def _flow(model: EPF, dataset: ClipDataset, index: int) -> Flow:
    first = dataset.neighbours(index, model.offsets)[0]
    before, after = dataset.frame(first), dataset.frame(index)
    if before.track_ids is None or after.track_ids is None:
        raise CrowdlocError(f"{dataset.name} has no track ids: how people move is not known there")
    with torch.inference_mode():
        flows = model.flow_field(window(model, dataset, index)).astype(np.float64)
    _, here, there = np.intersect1d(before.track_ids, after.track_ids, return_indices=True)
    images = dataset.image(first), dataset.image(index)
    return Flow(f"{after.scene}: {len(here)} people in both frames", images, flows, before.points[here],
                after.points[there])  # fmt: skip


def _network(group: Sequence[Run]) -> tuple[EPF, ClipDataset]:
    run = next(iter(_kept({"": group}).values()))
    model = runs.load_model(run.experiment, run.folder / runs.WEIGHTS)
    if not isinstance(model, EPF):
        raise CrowdlocError(f"{run.experiment.id} has no people flows: choose EPF")
    return model, validation_frames([run])


def _kept(table: Mapping[str, Sequence[Run]]) -> dict[str, Run]:
    """The first run of each method that keeps its weights."""
    first = {name: next((run for run in group if run.has_weights), None) for name, group in table.items()}
    kept = {name: run for name, run in first.items() if run is not None}
    if not kept:
        raise CrowdlocError("no run of these methods keeps its weights: choose other methods, or source 'train'")
    return kept

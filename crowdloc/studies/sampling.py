"""How random GNA makes a trained network at test, and what samplings and points cost (Tables X and XI).

`python -m crowdloc.studies.sampling [NAME]` makes one of: `draws_<group>`, scores under other draws (notebooks 10, 19);
`speed_<group>`; `points_<group>`, scores under other draws with 8, 16 and 32 points, and `points_cost`, time and memory
of the operator by the number of points (notebook 11).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import pandas as pd
import torch

from crowdloc import paper
from crowdloc.attention import GaussianNeighborAttention, gaussian_neighbor_attention
from crowdloc.benchmarks.attention import Case
from crowdloc.benchmarks.metering import Meter
from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.inference.windows import encode
from crowdloc.metrics import sigma_scale
from crowdloc.models import Method
from crowdloc.models.localizer import Localizer
from crowdloc.results import decisions, runs
from crowdloc.results.experiments import Experiment
from crowdloc.results.verdicts import verdicts
from crowdloc.studies.scoring import measure, scores
from crowdloc.studies.stored import read_study, write_study

NETWORK = "synthcrowd-sense-mini/gnanet.gamma5/seed0"  # a single focus, as in the paper's Table X
# Sampling and S; the limit has no draws to repeat.
VARIANTS = (("independent", 1), ("independent", 3), ("independent", 5), ("qmc", 1), ("qmc", 3), ("limit", 1))
# Table XI: P, and the network that was trained with it.
POINTS = {8: "gnanet.points8", 16: "gnanet.points16", 32: "gnanet.gamma5"}
BACKENDS = {"numba": "fused kernel", "reference": "eager"}


def in_the_network(
    id: str = NETWORK, *, draws: Sequence[int] = (0, 1, 2, 3, 4), variants: Sequence[tuple[str, int]] = VARIANTS
) -> pd.DataFrame:
    """A stored GNANet on its test images with other draws, more of them, better ones, and none: one row per run."""
    experiment = Experiment.parse(id)
    model, test = runs.load_model(experiment), experiment.load("test")
    run = runs.read(experiment)
    if run is None or run.threshold is None:
        raise CrowdlocError(f"{id} is not stored with a counting threshold: name a stored GNANet")
    maps = runs.kept_maps(experiment, model, test, progress=True)
    rows: list[dict[str, Any]] = []
    for sampling, number in variants:
        for run_seed in draws if sampling != "limit" else draws[:1]:
            print(f"{id}: {sampling}, S = {number}, draws {run_seed}", file=sys.stderr)
            change(model, sampling, number, run_seed)
            found = scores(measure(model, test, scale=sigma_scale(experiment.group), maps=maps), run.threshold)
            rows.append({"sampling": sampling, "S": number, "draws": run_seed} | found)
    return pd.DataFrame(rows)


def change(model: Method, sampling: str, number: int, run_seed: int = 0) -> None:
    """Let every attention module of a network sample otherwise, `number` times, from now on."""
    for module in model.modules():
        if isinstance(module, GaussianNeighborAttention):
            module.sampling, module.num_samples = sampling, number
    model.run_seed = run_seed


def by_points(id: str = NETWORK) -> pd.DataFrame:
    """`in_the_network` with one and three samplings for the networks of Table XI, of the group and seed of `id`."""
    like = Experiment.parse(id)
    parts = {
        number: in_the_network(f"{like.group}/{name}/seed{like.seed}", variants=VARIANTS[:2])
        for number, name in POINTS.items()
    }
    return pd.concat(parts, names=["P"]).reset_index(level="P")


def points_cost(points: Sequence[int] = (8, 16, 32, 64), *, case: Case | None = None, turns: int = 9) -> pd.DataFrame:
    """Milliseconds and extra MiB of a forward pass of GNA with γ = 5, by backend and P, which take turns.

    The time is that of the fastest turn: other work on the machine can only add to it.
    """
    case = case or Case(3, 64, 36, 64, 1)  # a clip of the mini preset
    query, key = (x.detach() for x in case.maps("cpu"))
    meter = Meter("cpu")
    calls = {
        (backend, number): partial(gaussian_neighbor_attention, query, key, key, gamma=5.0, num_points=number,
                                   num_samples=case.samples, backend=backend)
        for backend in BACKENDS
        for number in points
    }  # fmt: skip
    times: dict[tuple[str, int], list[float]] = {place: [] for place in calls}
    for turn in range(1 + turns):  # the first one warms up
        for place, call in calls.items():
            taken = [meter.milliseconds(call) for _ in range(1 if place[0] == "reference" else 5)]
            if turn:
                times[place] += taken
    rows = [
        {"backend": BACKENDS[backend], "P": number, "ms": round(min(times[backend, number]), 3),
         "extra MiB": meter.extra_mib(call)}
        for (backend, number), call in calls.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def speed(id: str = NETWORK, *, frames: int = 12, repeats: int = 5) -> pd.DataFrame:
    """Seconds per frame at batch 1: one forward pass of a clip, and end to end with one new frame encoded and peaks.

    The variants take turns, so that a disturbance meets all of them; medians over `frames` × `repeats`.
    """
    experiment = Experiment.parse(id)
    model, test = runs.load_model(experiment).eval(), experiment.load("test")
    assert isinstance(model, Localizer)
    window = [encode(model, test.image(i)) for i in range(len(model.offsets))]
    features = torch.stack([frame.maps[0] for frame in window])[None]
    size = window[0].size
    image = test.image(0)

    def forward() -> object:
        encode(model, image)
        return model.localize(features)

    def whole() -> object:
        encode(model, image)
        return model.decode([frame.maps for frame in window], size)

    calls: dict[str, Callable[[], object]] = {"forward": forward, "end to end": whole}
    times: dict[tuple[str, int, str], list[float]] = {}
    with torch.inference_mode():
        for turn in range(1 + repeats):  # the first one warms up
            for sampling, number in VARIANTS:
                change(model, sampling, number)
                for name, call in calls.items():
                    for _ in range(frames if sampling != "limit" else 2):
                        start = time.perf_counter()
                        call()
                        if turn:
                            times.setdefault((sampling, number, name), []).append(time.perf_counter() - start)
    found = {place: median(values) for place, values in times.items()}
    return pd.DataFrame(
        {"sampling": sampling, "S": number, "what": what, "seconds": round(t, 5), "frames per second": round(1 / t, 3)}
        for (sampling, number, what), t in found.items()
    )


def table(name: str = "draws_synthcrowd-sense-mini") -> pd.DataFrame:
    """The stored `in_the_network` study: mean and, over draws, standard deviation; index (sampling, S)."""
    grouped = read_study(name).groupby(["sampling", "S"], sort=False)
    columns = ["mAP σ5", "mAP σ20", "mAP σ40", "mAR σ20", "MAE"]
    deviations = {f"± {column}": grouped[column].std() for column in ("mAP σ5", "mAP σ20", "mAR σ20", "MAE")}
    return grouped[columns].mean().assign(runs=grouped.size(), **deviations)


def printed() -> str:
    """Table X as the paper prints it."""
    cells = paper.table("X").pivot(index="row", columns="metric", values="value")
    return cells[["mAP", "mAP deviation", "mAR", "mAR deviation", "FPS"]].to_string()


def scores_text(name: str = "draws_synthcrowd-sense-mini") -> str:
    """`table` as text."""
    return table(name).to_string(float_format="{:.4f}".format, na_rep="")


def speed_text(name: str = "speed_synthcrowd-sense-mini") -> str:
    """The stored `speed` study: milliseconds and frames per second, by what was timed."""
    rows = read_study(name)
    rows["ms"] = (1000 * rows["seconds"].astype(float)).round(1)
    wide = rows.pivot(index=["sampling", "S"], columns="what", values=["ms", "frames per second"])
    return wide.reindex([v for v in VARIANTS if v in wide.index]).to_string(float_format="{:.1f}".format)


def claims_text() -> str:
    """Verdicts on the paper's claims about Table X alone. One network stands behind them: one seed."""
    ledger = paper.claims()
    ids = ledger.loc[ledger["table"] == "X", "id"].tolist()
    found = verdicts({}, numbers=decisions.from_studies(paths.RESULTS), claims=ids)
    width = max(len(word) for word in found["verdict"])
    return "\n".join(
        f"{row.verdict:{width}}  {row.held}/{row.parts} parts hold  {row.predicate}" for row in found.itertuples()
    )


def points_text(name: str = "points_synthcrowd-sense-mini") -> str:
    """The stored `by_points` study: mean and, over draws, standard deviation."""
    grouped = read_study(name).astype({"P": int, "S": int}).groupby(["S", "P"])
    columns = ["mAP σ5", "mAP σ20", "mAR σ20"]
    deviations = grouped[columns].std().add_prefix("± ")
    return grouped[columns].mean().join(deviations).assign(tests=grouped.size()).to_string(float_format="{:.4f}".format)


def cost_text(name: str = "points_cost") -> str:
    """The stored `points_cost` study: a row per P, a column per backend."""
    wide = read_study(name).astype({"P": int}).pivot(index="P", columns="backend", values=["ms", "extra MiB"])
    return wide.astype(float).round(1).to_string()


def main(arguments: Sequence[str] | None = None) -> None:
    made: dict[str, Callable[[str], pd.DataFrame]] = {
        "draws": in_the_network, "speed": speed, "points": by_points, "points_cost": lambda _: points_cost(),
    }  # fmt: skip
    parser = argparse.ArgumentParser(prog="python -m crowdloc.studies.sampling", description=__doc__)
    parser.add_argument("study", nargs="?", choices=list(made), default="draws", help="times: on a quiet machine")
    parser.add_argument("--id", default=NETWORK, help="a stored GNANet")
    options = parser.parse_args(arguments)
    name = options.study if options.study == "points_cost" else f"{options.study}_{Experiment.parse(options.id).group}"
    print(write_study(name, made[options.study](options.id), {"network": options.id}))


if __name__ == "__main__":
    main()

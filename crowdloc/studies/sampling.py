"""How random GNA makes a trained network at test, and what repeated samplings cost (Table X, notebooks 10 and 19).

`python -m crowdloc.studies.sampling [--speed]` makes `draws_<group>` (scores under other draws) or `speed_<group>`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import pandas as pd
import torch

from crowdloc import paper
from crowdloc.attention import GaussianNeighborAttention
from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.inference.maps import keep_maps
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


def in_the_network(id: str = NETWORK, *, draws: Sequence[int] = (0, 1, 2, 3, 4)) -> pd.DataFrame:
    """A stored GNANet on its test images with other draws, more of them, better ones, and none: one row per run."""
    experiment = Experiment.parse(id)
    model, test = runs.load_model(experiment), experiment.load("test")
    run = runs.read(experiment)
    if run is None or run.threshold is None:
        raise CrowdlocError(f"{id} is not stored with a counting threshold: name a stored GNANet")
    maps = keep_maps(model, test, mirrored=False) if experiment.recipe.frozen else None
    rows: list[dict[str, Any]] = []
    for sampling, number in VARIANTS:
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m crowdloc.studies.sampling", description=__doc__)
    parser.add_argument("--id", default=NETWORK, help="a stored GNANet")
    parser.add_argument("--speed", action="store_true", help="measure time, on a quiet machine, instead of scores")
    arguments = parser.parse_args()
    group = Experiment.parse(arguments.id).group
    name, made = ("speed", speed) if arguments.speed else ("draws", in_the_network)
    print(write_study(f"{name}_{group}", made(arguments.id), {"network": arguments.id}))


if __name__ == "__main__":
    main()

"""Where a training step's time goes: `python -m crowdloc.benchmarks.steps [--json PATH]`.

Trainings of the mini preset on SynthCrowd `sense` with one thread, for a few steps, watched by PyTorch's profiler:
stage 1 (RAZNet, whole), stage 2 behind its frozen backbone, from kept maps, and GNANet trained whole on the same crops.
The time of an operation is its own, without those that it calls; what no operation took (reading of batches, Python,
the log) is "outside". The profiler itself slows a step; a step's time is therefore taken without it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from crowdloc.benchmarks.loader import one_thread
from crowdloc.core.files import write_json
from crowdloc.core.provenance import measurement
from crowdloc.datasets.base import ClipDataset
from crowdloc.results.experiments import Experiment

GROUP = "synthcrowd-sense-mini"
# The first kind one of whose words is in an operation's name; what is in none is the rest.
KINDS = {
    "attention": ("neighbor_attention", "crowdloc::"),
    "convolution": ("conv",),
    "batch norm": ("batch_norm",),
    "optimizer": ("foreach", "adam"),
}
REST, OUTSIDE = "rest", "outside"


@dataclass(frozen=True)
class Case:
    """A training to watch: an experiment of `GROUP`, and the fields of its recipe that differ."""

    title: str
    name: str
    recipe: Mapping[str, Any] = field(default_factory=dict)


_STAGE1 = Experiment.parse(f"{GROUP}/raznet.stage1/seed0").recipe
_WHOLE = {"frozen": False, "crop": _STAGE1.crop, "batch_size": _STAGE1.batch_size}
CASES = (
    Case("RAZNet, stage 1", "raznet.stage1"),
    Case("RAZNet, stage 2", "raznet"),
    Case("stacked frames, stage 2", "frame-stack"),
    Case("GNANet, stage 2", "gnanet"),
    Case("GNANet, whole, crops", "gnanet", _WHOLE),
)


def kind_of(operation: str) -> str:
    """The kind that an operation's time belongs to."""
    return next((kind for kind, words in KINDS.items() if any(word in operation for word in words)), REST)


def shares(times: Mapping[str, float], whole: float) -> dict[str, float]:
    """Share of `whole` by kind, from each operation's own time in the same unit."""
    found = dict.fromkeys((*KINDS, REST), 0.0)
    for operation, own in times.items():
        found[kind_of(operation)] += own / whole
    return found | {OUTSIDE: 1 - sum(found.values())}


def measure_case(case: Case, data: ClipDataset, steps: int) -> dict[str, Any]:
    """Seconds per step (median, without the profiler), and the shares of its time by kind (with it)."""
    from torch.profiler import ProfilerActivity, profile

    from crowdloc.inference.maps import keep_maps
    from crowdloc.training.batches import frames_seen
    from crowdloc.training.log import LOG, read_log
    from crowdloc.training.loop import new_model, train

    experiment = Experiment.parse(f"{GROUP}/{case.name}/seed0")
    recipe = experiment.recipe.with_options(**case.recipe, steps=steps)
    model = new_model(experiment.method, recipe, 0, data, **experiment.options)
    seen = frames_seen(data, model.offsets, recipe, 0)
    maps = keep_maps(model, data, frames=seen) if recipe.frozen else None

    def clock(folder: Path) -> list[float]:
        train(model, data, recipe, seed=0, out=folder, maps=maps, progress=False, devices=1)
        return [row["seconds"] for row in read_log(folder / LOG)]

    with tempfile.TemporaryDirectory() as folder:
        clock(Path(folder) / "first")  # compiles the kernels
        plain = clock(Path(folder) / "plain")
        with profile(activities=[ProfilerActivity.CPU]) as found:
            watched = clock(Path(folder) / "watched")
    own = {event.key: event.self_cpu_time_total / 1e6 for event in found.key_averages()}
    return {
        "training": case.title,
        "images": recipe.batch_size * len(model.offsets),
        "pixels": "whole frames" if recipe.crop is None else "{} × {}".format(*recipe.crop),
        "seconds per step": round(statistics.median(b - a for a, b in pairwise(plain)), 4),
        **{kind: round(share, 4) for kind, share in shares(own, watched[-1]).items()},
    }


def measure(steps: int = 12) -> list[dict[str, Any]]:
    """A row per case."""
    data = Experiment.parse(f"{GROUP}/raznet/seed0").load("dev").subset(range(24))
    with one_thread():
        return [measure_case(case, data, steps) for case in CASES]


def as_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The measurement as a table, shares in per cent."""
    table = pd.DataFrame(rows)
    parts = [*KINDS, REST, OUTSIDE]
    return table.assign(**{f"{part} %": (100 * table[part]).round() for part in parts}).drop(columns=parts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m crowdloc.benchmarks.steps", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results to this file")
    parser.add_argument("--steps", type=int, default=12, help="steps of each training (default 12; a minute in all)")
    options = parser.parse_args(arguments)
    if options.steps < 2:
        parser.error("--steps must be at least 2")
    facts = measurement()  # before this run makes the machine busy
    rows = measure(options.steps)
    print(as_table(rows).to_string(index=False))
    if options.json:
        write_json(options.json, {"metadata": facts, "rows": rows})


if __name__ == "__main__":
    main()

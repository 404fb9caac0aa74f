"""Is data made and read faster than training uses it? `python -m crowdloc.benchmarks.loader [--json PATH]`.

Measures on SynthCrowd `sense`, mini preset: frames generated per second, by the two worker processes, into a temporary
folder; and clips per second from `TrainingBatches` with one thread, cold (the first epoch decodes every frame, from
files in the page cache) and warm (later epochs). What training uses comes from the `log.csv` of the stored trainings:
the median time of a step.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from crowdloc.core.files import read_json, write_json
from crowdloc.core.paths import RESULTS
from crowdloc.core.provenance import measurement
from crowdloc.datasets.base import ClipDataset
from crowdloc.models.recipes import Recipe
from crowdloc.results.experiments import Experiment, all_experiments

_DOMAIN, _SPLIT, _GROUP = "sense", "dev", "synthcrowd-sense-mini"


def consumption() -> dict[str, dict[str, Any]]:
    """Per method the fastest stored mini training: its id, threads, seconds per step (median), clips per second.

    Trainings behind a frozen backbone are left out: they read kept maps and no images.
    """
    from crowdloc.results.runs import is_stored
    from crowdloc.training.log import LOG, read_log

    found: dict[str, dict[str, Any]] = {}
    for experiment in all_experiments():
        if experiment.group != _GROUP or not is_stored(experiment) or experiment.recipe.frozen:
            continue
        clock = [row["seconds"] for row in read_log(RESULTS / experiment.id / LOG)]
        step = statistics.median(later - earlier for earlier, later in pairwise(clock))
        row = {
            "id": experiment.id,
            "threads": read_json(RESULTS / experiment.id / "run.json")["threads"],
            "seconds_per_step": round(step, 4),
            "clips_per_second": experiment.recipe.batch_size / step,
        }
        best = found.get(experiment.name)
        if best is None or row["clips_per_second"] > best["clips_per_second"]:
            found[experiment.name] = row
    return found


def generation(folder: Path) -> tuple[int, float]:
    """Frames of the measured split, rendered into `folder`, and the seconds from nothing, process start included."""
    from crowdloc.datasets.synthcrowd import DOMAINS, generate

    start = time.perf_counter()
    generate(folder, domains=(_DOMAIN,), splits=(_SPLIT,), progress=False)
    kind = DOMAINS[_DOMAIN]
    return kind.videos[_SPLIT] * kind.frames[_SPLIT], time.perf_counter() - start


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV and PyTorch with one thread, then as before."""
    import cv2
    import torch

    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def loading(dataset: ClipDataset, recipe: Recipe, offsets: Sequence[int], repeats: int) -> dict[str, float]:
    """Clips per second, cold and warm: the median of `repeats` epochs each."""
    from crowdloc.training.batches import TrainingBatches

    steps = max(1, len(dataset) // recipe.batch_size)
    rates: dict[str, list[float]] = {"cold": [], "warm": []}
    with one_thread():
        for seed in range(repeats):
            batches = TrainingBatches(
                dataset, offsets=offsets, crop=recipe.crop, batch_size=recipe.batch_size, seed=seed
            )
            for kind in rates:
                first = steps * (kind == "warm")
                start = time.perf_counter()
                for step in range(first, first + steps):
                    batches.batch(step)
                rates[kind].append(steps * recipe.batch_size / (time.perf_counter() - start))
    return {kind: statistics.median(values) for kind, values in rates.items()}


def measure(repeats: int = 5) -> dict[str, Any]:
    """Everything measured: `generation`, and a row per model that has a stored mini training."""
    from crowdloc.datasets.synthcrowd import load_synthcrowd
    from crowdloc.models import build_model

    used = consumption()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        frames, seconds = generation(Path(folder))
        for model, use in used.items():
            experiment = Experiment.parse(use["id"])
            offsets = build_model(experiment.method, width=1 / 512, **experiment.options).offsets
            dataset = load_synthcrowd(folder, _SPLIT, domain=_DOMAIN)
            row = {"model": model, "frames_of_a_clip": len(offsets), "training": use}
            rows.append(row | {"loader": loading(dataset, experiment.recipe, offsets, repeats)})
    return {
        "generation": {"frames": frames, "seconds": seconds, "frames_per_second": frames / seconds},
        "repeats": repeats,
        "rows": rows,
    }


def as_text(found: dict[str, Any]) -> str:
    """The measurement as one table; ratios are against what training uses.

    In an epoch every frame is the keyframe of one clip, so training needs as many new frames as it uses clips.
    """
    import pandas as pd

    made = found["generation"]["frames_per_second"]
    rows = []
    for row in found["rows"]:
        used = row["training"]["clips_per_second"]
        rates = {"generate": made, "load, cold": row["loader"]["cold"], "load, warm": row["loader"]["warm"]}
        for stage, rate in rates.items():
            rows.append(
                {
                    "model": row["model"],
                    "frames of a clip": row["frames_of_a_clip"],
                    "stage": stage,
                    "per second": f"{rate:.1f} {'frames' if stage == 'generate' else 'clips'}",
                    "training uses": f"{used:.2f} clips",
                    "ratio": f"{rate / used:.1f}",
                }
            )
    return pd.DataFrame(rows).to_string(index=False)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m crowdloc.benchmarks.loader", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results to this file")
    parser.add_argument("--repeats", type=int, default=5, help="epochs of each kind (default 5; takes about a minute)")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    facts = measurement()  # before this run makes the machine busy
    found = measure(options.repeats)
    print(as_text(found))
    if options.json:
        write_json(options.json, {"metadata": facts, **found})


if __name__ == "__main__":
    main()

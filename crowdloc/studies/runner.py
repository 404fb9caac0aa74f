"""The one way to make a study: `python -m crowdloc.studies.runner NAME [DATA] [--part I N] [--data-root FOLDER]`.

Every training of a study has a folder `build/studies/<study>/<label>/` with its weights, log and, once it is finished,
`row.json`. What is finished is not made again, so an interrupted study goes on, and several processes may share one.
The table is `build/studies/<study>.csv`, a line per training and set of test images, with the provenance beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import digest, read_json, write_json
from crowdloc.core.locking import locked
from crowdloc.core.provenance import describe as provenance
from crowdloc.datasets.base import ClipDataset
from crowdloc.inference.maps import keep_maps
from crowdloc.metrics import sigma_scale
from crowdloc.models import Method
from crowdloc.results.evidence import CountEvidence, Evidence
from crowdloc.results.experiments import Experiment
from crowdloc.studies.plans import STUDIES, plan_of
from crowdloc.studies.resized import Resized
from crowdloc.studies.rows import PRESET, Best, Images, Row
from crowdloc.studies.scoring import best_threshold, learned, loss_thirds, measure, scores
from crowdloc.studies.stored import write_study
from crowdloc.training.batches import frames_seen
from crowdloc.training.checkpoints import CHECKPOINT
from crowdloc.training.log import LOG, read_log
from crowdloc.training.loop import new_model, train
from crowdloc.training.weights import copy_weights, rounded, save_weights

ROW, WEIGHTS = "row.json", "weights.safetensors"
_FITTED_IMAGES = 60  # training images on which the fit is measured
_WEEK = 7 * 24 * 3600.0


class Runner:
    """Makes the rows of a study, each once, in whatever process comes first."""

    def __init__(self, name: str, rows: Sequence[Row], root: str | Path | None = None) -> None:
        self.name, self.root = name, root
        self.rows = {row.label: row for row in rows}
        self.folder = paths.BUILD / "studies" / name

    def made(self, label: str) -> dict[str, Any]:
        """What was measured of a row, which is made first, after the rows that it begins with, if it is not there.

        Where another process is making it, this one waits.

        Raises:
            CrowdlocError: the folder holds the row as it was planned before.
        """
        row, folder = self.rows[label], self.folder / label
        start = self._start(row)
        about = json.loads(json.dumps(row.describe() | {"start": start, "start weights": self._digest(start)}))
        with locked(folder / ".lock", f"row {label} of study {self.name}", patience=_WEEK):
            if not (folder / ROW).is_file():
                print(f"{self.name}: {label}", file=sys.stderr)
                write_json(folder / ROW, self._make(row, folder, start) | {"about": about, "provenance": provenance()})
                (folder / CHECKPOINT).unlink(missing_ok=True)
        found = read_json(folder / ROW)
        if found["about"] != about:
            raise CrowdlocError(f"{folder} was made by another plan, recipe or start: delete it to make it again")
        return found

    def table(self) -> pd.DataFrame:
        """One line per finished training and set of test images, in the order of the plan."""
        found = [read_json(path) for path in self._finished()]
        return pd.DataFrame([line for row in found for line in row["lines"]])

    def write(self) -> Path:
        """The table and its provenance, of what is finished; returns the path of the table."""
        finished = self._finished()
        made_by = sorted({str(read_json(row)["provenance"]["commit"]) for row in finished})
        facts = {"rows": len(finished), "planned": len(self.rows), "commits of rows": made_by}
        return write_study(self.name, self.table(), facts)

    def _finished(self) -> list[Path]:
        return [path for label in self.rows if (path := self.folder / label / ROW).is_file()]

    def _start(self, row: Row) -> str | None:
        """The label of the row that a row begins with; those to choose from are made first."""
        if not isinstance(row.start, Best):
            if row.start is not None:
                self.made(row.start)
            return row.start
        groups = row.start.groups
        means = [sum(self.made(label)["lines"][0]["mAP σ20"] for label in g) / len(g) for g in groups]
        return groups[means.index(max(means))][row.start.place]

    def _digest(self, start: str | None) -> str | None:
        return read_json(self.folder / start / ROW)["weights"] if start is not None else None

    def _make(self, row: Row, folder: Path, start: str | None) -> dict[str, Any]:
        recipe, experiment = row.full_recipe, row.experiment
        training = experiment.load("train", self.root)
        if recipe.pretrained not in (None, "imagenet"):  # the name of a file beside the real data
            file = paths.require_data_root(self.root) / "weights" / str(recipe.pretrained)
            recipe = recipe.with_options(pretrained=str(file))
        model = new_model(row.method, recipe, row.seed, training, **row.options)
        before = self.folder / start / WEIGHTS if start is not None else None
        if before is not None:
            copy_weights(before, model)
        elif recipe.frozen and recipe.pretrained is None:
            raise CrowdlocError(f"row {row.label} of study {self.name} freezes what it starts from: give it a start")

        kept = row.keeps_maps and model.keeps_maps
        maps = None
        if kept:
            maps = keep_maps(model, training, frames=frames_seen(training, model.offsets, recipe, row.seed))
        about = {"study": self.name, "row": row.label, "options": dict(row.options), "start": self._digest(start)}
        model = rounded(train(model, training, recipe, seed=row.seed, out=folder, about=about, maps=maps, devices=1))
        save_weights(folder / WEIGHTS, model, about=about)

        some = training.subset(range(0, len(training), -(-len(training) // _FITTED_IMAGES)))
        maps = keep_maps(model, some) if kept else None
        fitted = measure(model, some, scale=sigma_scale(experiment.group), maps=maps)
        log = list(read_log(folder / LOG))
        facts = {
            "label": row.label, "data": row.data, "method": row.method, "options": str(dict(row.options)),
            "seed": row.seed, "start": start or "", "learning_rate": recipe.learning_rate, "steps": recipe.steps,
            "differs": str({k: v for k, v in row.recipe.items() if k != "learning_rate"}),
        }  # fmt: skip
        common = {"train AP.50 σ20": scores(fitted, best_threshold(fitted)).get("AP.50 σ20")}
        common |= loss_thirds([entry["loss"] for entry in log]) | learned(model)
        common |= {"seconds": round(log[-1]["seconds"], 1) if log else 0.0}
        lines = [facts | line | common for line in self._tested(row, model)]
        return {"lines": lines, "weights": digest(folder / WEIGHTS)}

    def _tested(self, row: Row, model: Method) -> list[dict[str, Any]]:
        """Scores on each set of test images.

        Counts take the threshold that is best there on validation images of the row's own data, else (test images,
        other data) the one that is best on those.
        """
        own: float | None = None
        lines, frozen = [], row.keeps_maps
        for images in row.images:
            dataset, found = self._measured(model, images, frozen)
            threshold = best_threshold(found)
            if images.data != row.data or images.split == "test" or images.height is not None:
                own = own or best_threshold(self._measured(model, Images(row.data), frozen)[1])
                threshold = own
            where = {"tested on": images.data, "split": images.split, "height": str(images.height or "as is")}
            lines.append(where | {"images": len(dataset)} | scores(found, threshold))
        return lines

    def _measured(self, model: Method, images: Images, frozen: bool) -> tuple[ClipDataset, Evidence | CountEvidence]:
        experiment = Experiment(images.data, PRESET, "raznet", 0)  # of any method
        dataset = experiment.load(images.split, self.root)
        if images.height is not None:
            dataset = Resized(dataset, images.height)
        kept = frozen and images.height is None and model.keeps_maps
        maps = keep_maps(model, dataset) if kept else None
        return dataset, measure(model, dataset, scale=sigma_scale(experiment.group), maps=maps)


def run(name: str, data: str | None = None, *, root: str | Path | None = None, part: tuple[int, int] = (0, 1)) -> Path:
    """Make what is missing of a study, then write its table, which is returned.

    Args:
        data: the data set, for studies that can be made on several.
        part: (i, n) takes every n-th row from the i-th on, and whatever those begin with: n processes share the work.
    """
    first, step = part
    if not 0 <= first < step:
        raise CrowdlocError(f"part {first} of {step}: give I and N with 0 ≤ I < N")
    full_name, rows = plan_of(name, data)
    runner = Runner(full_name, rows, root)
    for row in rows[first::step]:
        runner.made(row.label)
        runner.write()
    return runner.write()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m crowdloc.studies.runner", description="Make a study.")
    parser.add_argument("name", choices=STUDIES)
    parser.add_argument("data", nargs="?", help="data set, for studies that can be made on several")
    parser.add_argument("--data-root", help="folder of the real data sets")
    parser.add_argument("--part", nargs=2, type=int, default=(0, 1), metavar=("I", "N"), help="every N-th row")
    options = parser.parse_args(arguments)
    try:
        print(run(options.name, options.data, root=options.data_root, part=tuple(options.part)))
    except CrowdlocError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()

"""What can be done with an experiment: train it, evaluate it on test images, read it at a depth.

Training writes to `build/experiments/<id>/` and never looks at test data. Evaluation is a step of its own and writes
evidence to `build/evaluations/<depth>/<id>/`. Every number of a notebook comes from `read`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import digest, read_json, write_json
from crowdloc.core.paths import BUILD, PACKAGE, RESULTS
from crowdloc.core.provenance import describe as provenance
from crowdloc.datasets.base import ClipDataset
from crowdloc.inference.maps import Kept, keep_maps
from crowdloc.inference.windows import predict
from crowdloc.metrics import counting_errors, sigma_scale
from crowdloc.models import Method, Prediction, get_entry
from crowdloc.results import evidence as ev
from crowdloc.results.evidence import CountEvidence, Evidence
from crowdloc.results.experiments import Experiment
from crowdloc.training.batches import frames_seen
from crowdloc.training.checkpoints import CHECKPOINT, read_checkpoint
from crowdloc.training.log import LOG, read_log
from crowdloc.training.loop import empty_model, is_main_process, new_model
from crowdloc.training.loop import train as train_model
from crowdloc.training.weights import copy_weights, load_weights, read_about, rounded, save_weights

EXPERIMENT, METRICS, RUN, WEIGHTS = "experiment.json", "metrics.json", "run.json", "weights.safetensors"
TRAINING, EVALUATION, HISTORY = "training.json", "evaluation.json", "history.json"
DEPTHS = ("stored", "weights", "train")
_CONVERGENCE_IMAGES = 60
# Code that can change what a trained network predicts or how it is matched.
_CODE = ("attention", "datasets", "inference", "metrics", "models")
_EVIDENCE = tuple(f"results/{name}.py" for name in ("evidence", "formats", "parquet"))


def trained(experiment: Experiment) -> Path:
    """Folder of a training made here."""
    return BUILD / "experiments" / experiment.id


def stored(experiment: Experiment) -> Path:
    """Folder of a stored result."""
    return RESULTS / experiment.id


def is_stored(experiment: Experiment) -> bool:
    return (stored(experiment) / METRICS).is_file()


def train(
    experiment: Experiment,
    *,
    out: Path | None = None,
    root: str | Path | None = None,
    progress: bool = True,
    devices: int | str = "auto",
) -> Path:
    """Train and validate; returns the folder with weights, log and `training.json`. Test images are not touched.

    With `devices` above 1 the training is spread over processes; the first one validates and writes. Interrupted
    training goes on from its last checkpoint. Weights are rounded to float16 before anything is measured.
    """
    folder = out or trained(experiment)
    recipe, start = experiment.recipe, experiment.start
    if start is not None and find_weights(start) is None:
        train(start, root=root, progress=progress, devices=devices)
    training = experiment.load("train", root)
    model = new_model(experiment.method, recipe, experiment.seed, training, **experiment.options)
    if start is not None:
        copy_weights(_weights(start), model)
    maps = kept_maps(experiment, model, training, to_train=True, progress=progress)
    print(f"{experiment.id}: {recipe.steps} steps of {recipe.batch_size} clips", file=sys.stderr)
    started, about = time.monotonic(), experiment.describe()
    if _steps(folder) < recipe.steps and is_main_process():
        _note_start(folder)
    model = train_model(
        model,
        training,
        recipe,
        seed=experiment.seed,
        out=folder,
        about=about,
        maps=maps,
        progress=progress,
        devices=devices,
    )
    if not is_main_process():
        return folder
    seconds = time.monotonic() - started
    facts = {"experiment": about, "sigma_scale": sigma_scale(experiment.group)}
    facts |= {"backbone": digest(_weights(start))} if recipe.frozen and start is not None else {}
    model = rounded(model)
    validation = experiment.load("val", root)
    of_validation = kept_maps(experiment, model, validation, progress=progress)
    found = _measure(experiment, model, validation, of_validation, progress)
    threshold = found.best_counting_threshold() if isinstance(found, Evidence) else None
    save_weights(folder / WEIGHTS, model, about=facts | {"threshold": threshold}, backbone=not recipe.frozen)
    logged = list(read_log(folder / LOG))
    write_json(folder / EXPERIMENT, about)
    write_json(
        folder / TRAINING,
        {
            "id": experiment.id,
            "seconds": round(max(seconds, logged[-1]["seconds"] if logged else 0.0), 1),
            "threshold": threshold,
            "validation": _validation(found, threshold),
            "convergence": _convergence(experiment, model, training, folder, progress),
            "weights": digest(folder / WEIGHTS),
            "history": _history(folder),
        },
    )
    return folder


def evaluate(
    experiment: Experiment, *, source: str = "weights", root: str | Path | None = None, progress: bool = True
) -> Path:
    """Run weights over the test images; returns the folder with the evidence and `evaluation.json`.

    Args:
        source: "weights" takes the stored weights, "train" those of the training made here.

    Real data: the images of the stored evaluation are used where there is one, so that a more complete copy of the data
    gives the same numbers.
    """
    origin = stored(experiment) if source == "weights" else trained(experiment)
    out = evaluated(experiment, source)
    test = experiment.load("test", root)
    if is_stored(experiment) and not experiment.source.generated:
        test = _same_images(experiment, test)
    _check_weights(origin, RUN if source == "weights" else TRAINING)
    model = load_model(experiment, origin / WEIGHTS)
    maps = kept_maps(experiment, model, test, progress=progress)
    print(f"{experiment.id}: {len(test)} images", file=sys.stderr)
    predictions = predict(model, test, maps=maps, progress=progress)
    ev.write_evidence(out, experiment, predictions, test)
    write_json(
        out / EVALUATION,
        {
            "id": experiment.id,
            "weights": digest(origin / WEIGHTS),
            "code": _code(),
            "evidence": ev.evidence_digest(out),
            "threshold": _threshold(experiment, source),
            "provenance": provenance(),
        },
    )
    return out


def evaluated(experiment: Experiment, source: str) -> Path:
    """Folder of an evaluation made here."""
    return BUILD / "evaluations" / source / experiment.id


@dataclass(frozen=True)
class Run:
    """One experiment at a depth: everything that a table, a verdict or a picture may ask of it."""

    experiment: Experiment
    source: str
    evidence: Evidence | None
    counts: CountEvidence | None
    threshold: float | None
    convergence: dict[str, float]
    folder: Path  # holds the log

    @property
    def metrics(self) -> dict[str, Any]:
        """Computed from the evidence, never read from a file."""
        return ev.metrics(self.evidence, self.counts, self.threshold)

    @property
    def has_weights(self) -> bool:
        """Whether it keeps its weights; of stored results one seed does."""
        return (self.folder / WEIGHTS).is_file()

    @property
    def log(self) -> pd.DataFrame:
        """The training log."""
        return pd.DataFrame(read_log(self.folder / LOG))


def read(experiment: Experiment, source: str = "stored", root: str | Path | None = None) -> Run | None:
    """An experiment at a depth; None where it is not stored ("stored", "weights") or keeps no weights ("weights").

    "stored" computes from the stored evidence; "weights" runs the stored weights over the test images; "train" trains
    and evaluates. What was made in `build/` is used while weights, code and evidence are what they were.
    """
    if source not in DEPTHS:
        raise CrowdlocError(f"source {source!r} is unknown: choose one of {', '.join(DEPTHS)}")
    if source == "stored":
        if not is_stored(experiment):
            return None
        folder = origin = stored(experiment)
    else:
        origin = stored(experiment) if source == "weights" else trained(experiment)
        if source == "weights" and not (origin / WEIGHTS).is_file():
            return None
        if source == "train" and not (origin / TRAINING).is_file():
            train(experiment, root=root)
        folder = evaluated(experiment, source)
        if not _is_current(folder, origin):
            evaluate(experiment, source=source, root=root)
    located, counted = ev.read_evidence(folder, experiment)
    facts = read_json(origin / (METRICS if source != "train" else TRAINING))
    threshold = _threshold(experiment, source)
    return Run(experiment, source, located, counted, threshold, facts["convergence"], origin)


def read_all(
    experiments: Sequence[Experiment], source: str = "stored", root: str | Path | None = None, seed: int | None = None
) -> list[Run]:
    """Those that can be read at a depth; deeper than "stored" only those of `seed`."""
    wanted = [e for e in experiments if source == "stored" or seed is None or e.seed == seed]
    return [run for run in (read(e, source, root) for e in wanted) if run is not None]


def load_model(experiment: Experiment, path: Path | None = None) -> Method:
    """The network of an experiment with stored weights, or with those of a file."""
    model = empty_model(experiment.method, experiment.recipe, experiment.seed, **experiment.options)
    return _load(experiment, path or stored(experiment) / WEIGHTS, model)


def yields(experiment: Experiment) -> tuple[str, ...]:
    """What an experiment's method yields: "points", "count" or both."""
    return get_entry(experiment.method).load().yields


def find_weights(experiment: Experiment) -> Path | None:
    """The weights of an experiment: those made here, else the stored ones."""
    for folder in (trained(experiment), stored(experiment)):
        if (folder / WEIGHTS).is_file():
            return folder / WEIGHTS
    return None


def _weights(experiment: Experiment) -> Path:
    path = find_weights(experiment)
    if path is None:
        raise CrowdlocError(f"no weights of {experiment.id}: `crowdloc train {experiment.id}` first")
    return path


def _load(experiment: Experiment, path: Path, model: Method) -> Method:
    """Fill a network from its file, and from the one that holds its frozen backbone: the very one it was trained on."""
    start = experiment.start
    if start is None or not experiment.recipe.frozen:
        return load_weights(path, model)
    wanted = read_about(path).get("backbone")
    for folder in (trained(start), stored(start)):
        if (folder / WEIGHTS).is_file() and digest(folder / WEIGHTS) == wanted:
            return load_weights(path, model, backbone=folder / WEIGHTS)
    raise CrowdlocError(f"{path} stands on other weights of {start.id} than are here: train {experiment.id} again")


def kept_maps(
    experiment: Experiment,
    model: Method,
    dataset: ClipDataset,
    *,
    to_train: bool = False,
    progress: bool,
) -> Kept | None:
    """Kept maps of the frozen backbone, as `keep_maps`; None where it is trained, or where the method keeps none.

    Of the frames of a data set, or (`to_train`) of what the experiment's training looks at.
    """
    if not experiment.recipe.frozen or experiment.start is None or not model.keeps_maps:
        return None
    frames = frames_seen(dataset, model.offsets, experiment.recipe, experiment.seed) if to_train else None
    return keep_maps(model, dataset, frames=frames, progress=progress)


def _measure(
    experiment: Experiment, model: Method, dataset: ClipDataset, maps: Kept | None, progress: bool
) -> Evidence | CountEvidence:
    predictions: list[Prediction] = predict(model, dataset, maps=maps, progress=progress)
    return ev.measure(predictions, dataset, scale=sigma_scale(experiment.group))


def _validation(found: Evidence | CountEvidence, threshold: float | None) -> dict[str, Any]:
    metrics = found.metrics(threshold) if isinstance(found, Evidence) and threshold is not None else None
    if metrics is None:
        assert isinstance(found, CountEvidence)
        return found.metrics()["counting"]
    return {"mAP": {sigma: row["mAP"] for sigma, row in metrics["localization"].items()}, **metrics["counting"]}


def _convergence(
    experiment: Experiment, model: Method, training: ClipDataset, folder: Path, progress: bool
) -> dict[str, float]:
    """Signs that the training reached its end: fit of training images and the loss over the last third of the steps."""
    stride = max(1, len(training) // _CONVERGENCE_IMAGES)
    some = training.subset(range(0, len(training), stride))
    maps = kept_maps(experiment, model, some, progress=progress)
    predictions = predict(model, some, maps=maps, progress=progress)
    found = ev.measure(predictions, some, scale=sigma_scale(experiment.group))
    counted = ev.measure_counts(predictions, some)
    losses = [row["loss"] for row in read_log(folder / LOG)]
    third, sixth = losses[-len(losses) // 3 :], max(1, len(losses) // 6)
    halves = np.array(third[:sixth]), np.array(third[-sixth:])
    fitted: dict[str, float] = {}
    if isinstance(found, Evidence):
        row = found.localization["20"]
        fitted |= {"train_mAP_sigma20": row["mAP"], "train_AP50_sigma20": row["AP.50"]}
    if counted is not None:
        constant = np.full(len(counted.heads), np.median(counted.heads))
        fitted |= {
            "train_MAE": counted.metrics()["counting"]["MAE"],
            "train_MAE_of_a_constant": counting_errors(constant, counted.heads)["MAE"],
            "last_third_loss_error": float(np.sqrt(sum(half.var() / len(half) for half in halves))),
        }
    return fitted | {
        "last_third_loss_first_half": float(halves[0].mean()),
        "last_third_loss_second_half": float(halves[1].mean()),
    }


def _same_images(experiment: Experiment, test: ClipDataset) -> ClipDataset:
    wanted = set(ev.stored_images(stored(experiment), experiment))
    test = test.subset([i for i, frame in enumerate(test.frames) if frame.id in wanted])
    if len(test) != len(wanted):
        lost = len(wanted) - len(test)
        raise CrowdlocError(f"{lost} test images of {experiment.id} are missing: complete the data set")
    return test


def _check_weights(folder: Path, record: str) -> None:
    """Weights that are readable may still have changed."""
    path = folder / WEIGHTS
    if (folder / record).is_file() and path.is_file() and read_json(folder / record).get("weights") != digest(path):
        raise CrowdlocError(f"{path} is not the file that {record} knows: restore it, or train again")


def _is_current(folder: Path, origin: Path) -> bool:
    """Whether an evaluation belongs to these weights and this code, and its evidence is as it was written."""
    try:
        facts = read_json(folder / EVALUATION)
        return (facts["weights"], facts["code"], facts["evidence"]) == (
            digest(origin / WEIGHTS),
            _code(),
            ev.evidence_digest(folder),
        )
    except (CrowdlocError, OSError, KeyError):
        return False


def _threshold(experiment: Experiment, source: str) -> float | None:
    if source == "train":
        return read_json(trained(experiment) / TRAINING)["threshold"]
    return read_json(stored(experiment) / METRICS).get("counting_threshold")


def _code() -> str:
    return digest(*(PACKAGE / part for part in _CODE + _EVIDENCE))


def _history(folder: Path) -> list[dict[str, Any]]:
    """Who made the steps, one entry for each start of the training that had some to make."""
    path = folder / HISTORY
    return read_json(path)["starts"] if path.is_file() else []


def _note_start(folder: Path) -> None:
    """Add this process to those who make the steps; of an earlier start after which none was kept, nothing is left."""
    first = _steps(folder)
    kept = [start for start in _history(folder) if start["from_step"] < first]
    write_json(folder / HISTORY, {"starts": [*kept, provenance() | {"from_step": first}]})


def _steps(folder: Path) -> int:
    """Steps that were made and kept before."""
    path = folder / CHECKPOINT
    return int(read_checkpoint(path, torch.device("cpu"))["step"]) if path.is_file() else 0

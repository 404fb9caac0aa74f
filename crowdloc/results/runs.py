"""What can be done with an experiment: train it, evaluate its stored weights, read its metrics, promote it."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write, digest, read_json, write_json
from crowdloc.core.paths import BUILD, RESULTS
from crowdloc.core.provenance import describe as provenance
from crowdloc.datasets.base import ClipDataset
from crowdloc.inference.windows import predict
from crowdloc.metrics import sigma_scale
from crowdloc.models import Localizer, build_model
from crowdloc.models.decoding import SCORE_FLOOR
from crowdloc.results import evidence as ev
from crowdloc.results.experiments import Experiment
from crowdloc.training.loop import LOG, is_main_process, new_model, read_log
from crowdloc.training.loop import train as train_model
from crowdloc.training.weights import load_weights, save_weights

EXPERIMENT, METRICS, RUN, WEIGHTS = "experiment.json", "metrics.json", "run.json", "weights.safetensors"
_STORED = (EXPERIMENT, METRICS, RUN, LOG, ev.IMAGES, ev.PREDICTIONS, ev.MATCHES)
WEIGHTS_SEED = 0  # the one seed whose weights are kept
_CONVERGENCE_IMAGES = 60


def train(
    experiment: Experiment,
    *,
    out: Path | None = None,
    root: str | Path | None = None,
    progress: bool = True,
    devices: int | str = "auto",
) -> Path:
    """Train, evaluate on the test split and write the result's folder, which is returned.

    With `devices` above 1 the training is spread over processes; the first one evaluates and writes.

    Interrupted training goes on from its last checkpoint. Weights are rounded to float16 before they are evaluated, so
    what is stored is what was measured. The counting threshold comes from the validation split.
    """
    folder = out or BUILD / "experiments" / experiment.id
    recipe = experiment.recipe
    training = experiment.load("train", root)
    model = new_model(experiment.model, recipe, experiment.seed, training, **experiment.options)
    print(f"{experiment.id}: {recipe.steps} steps of {recipe.batch_size} clips", file=sys.stderr)
    started = time.monotonic()
    model = train_model(model, training, recipe, seed=experiment.seed, out=folder, progress=progress, devices=devices)
    if not is_main_process():
        return folder
    seconds = time.monotonic() - started
    save_weights(folder / WEIGHTS, model)
    load_weights(folder / WEIGHTS, model)
    scale = sigma_scale(experiment.group)
    validation = experiment.load("val", root)
    threshold = ev.match(predict(model, validation, progress=progress), validation, scale=scale)
    counting_threshold = threshold.best_counting_threshold()
    convergence = _convergence(model, training, folder, scale=scale, progress=progress)
    test = experiment.load("test", root)
    detections = predict(model, test, progress=progress)
    if experiment.source.generated:
        ev.write_predictions(folder, detections, test)
    else:
        ev.write_matches(folder, ev.match(detections, test, scale=scale))
    stored = ev.read_evidence(folder, scale=scale)
    write_json(folder / EXPERIMENT, experiment.describe())
    write_json(
        folder / METRICS,
        {"id": experiment.id, "score_floor": SCORE_FLOOR, "sigma_scale": scale}
        | stored.metrics(counting_threshold)
        | {"validation_mAP_sigma20": threshold.localization["20"]["mAP"], "convergence": convergence},
    )
    logged = list(read_log(folder / LOG))
    seconds = max(seconds, logged[-1]["seconds"]) if logged else seconds
    write_json(
        folder / RUN,
        provenance() | {"training_seconds": round(seconds, 1), "weights": digest(folder / WEIGHTS)},
    )
    return folder


def _convergence(
    model: Localizer, training: ClipDataset, folder: Path, *, scale: float, progress: bool
) -> dict[str, float]:
    """Signs that the training reached its end: AP on training images and the loss over the last third of the steps."""
    stride = max(1, len(training) // _CONVERGENCE_IMAGES)
    some = training.subset(range(0, len(training), stride))
    fitted = ev.match(predict(model, some, progress=progress), some, scale=scale)
    losses = [row["loss"] for row in read_log(folder / LOG)]
    third, sixth = losses[-len(losses) // 3 :], max(1, len(losses) // 6)
    return {
        "train_mAP_sigma20": fitted.localization["20"]["mAP"],
        "train_AP50_sigma20": fitted.localization["20"]["AP.50"],
        "last_third_loss_first_half": sum(third[:sixth]) / len(third[:sixth]),
        "last_third_loss_second_half": sum(third[-sixth:]) / len(third[-sixth:]),
    }


def untrained(experiment: Experiment) -> Localizer:
    """The network of an experiment, its weights still to be filled in."""
    recipe = experiment.recipe
    options = {**recipe.model, **experiment.options}
    model = build_model(experiment.model, width=recipe.width, norm=recipe.norm, **options)
    model.run_seed = experiment.seed
    return model


def stored_model(experiment: Experiment, path: Path | None = None) -> Localizer:
    """The network of an experiment with its stored weights."""
    return load_weights(path or RESULTS / experiment.id / WEIGHTS, untrained(experiment))


def stored_metrics(experiment: Experiment) -> dict[str, Any]:
    """`metrics.json` of a stored result."""
    return read_json(RESULTS / experiment.id / METRICS)


def is_stored(experiment: Experiment) -> bool:
    return (RESULTS / experiment.id / METRICS).is_file()


def recomputed_metrics(experiment: Experiment, folder: Path | None = None) -> dict[str, Any]:
    """The metrics of a result computed again from its evidence."""
    folder = folder or RESULTS / experiment.id
    evidence = ev.read_evidence(folder, scale=sigma_scale(experiment.group))
    return evidence.metrics(read_json(folder / METRICS)["counting_threshold"])


def evaluate_stored_weights(
    experiment: Experiment, *, out: Path | None = None, root: str | Path | None = None, progress: bool = True
) -> dict[str, Any]:
    """Run the stored weights over the test images again; the metrics are returned and written to `out`.

    Real data: the images of the stored evaluation are used, so that a more complete copy gives the same numbers.
    """
    path = out or BUILD / "evaluations" / f"{experiment.id}.json"
    weights = digest(RESULTS / experiment.id / WEIGHTS)
    test = experiment.load("test", root)
    stored = ev.read_evidence(RESULTS / experiment.id, scale=sigma_scale(experiment.group))
    wanted = set(stored.images)
    test = test.subset([i for i, frame in enumerate(test.frames) if frame.id in wanted])
    if len(test) != len(wanted):
        raise CrowdlocError(
            f"{len(wanted) - len(test)} test images of {experiment.id} are missing: complete the data set"
        )
    print(f"{experiment.id}: {len(test)} images", file=sys.stderr)
    detections = predict(stored_model(experiment), test, progress=progress)
    found = ev.match(detections, test, scale=sigma_scale(experiment.group))
    metrics = found.metrics(stored_metrics(experiment)["counting_threshold"]) | {"weights": weights}
    write_json(path, metrics)
    return metrics


def promote(experiment: Experiment, folder: Path | None = None) -> Path:
    """Copy a finished run from `build/` into `results/`: the only way in. Weights go along for one seed."""
    origin, target = folder or BUILD / "experiments" / experiment.id, RESULTS / experiment.id
    if not (origin / METRICS).is_file():
        raise CrowdlocError(f"{origin} holds no finished run: `crowdloc train {experiment.id}` first")
    names = _STORED + ((WEIGHTS,) if experiment.seed == WEIGHTS_SEED else ())
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (origin / name).is_file():
            with atomic_write(target / name) as temporary:
                shutil.copyfile(origin / name, temporary)
    return target

"""What the files of a result hold: composed when it is promoted, compared when it is checked."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.provenance import FIELDS, validate
from crowdloc.metrics import sigma_scale
from crowdloc.results import evidence as ev
from crowdloc.results.evidence import CountEvidence, Evidence
from crowdloc.results.experiments import Experiment

EXPERIMENT, METRICS, RUN, WEIGHTS = "experiment.json", "metrics.json", "run.json", "weights.safetensors"
WEIGHTS_SEED = 0  # the one seed whose weights are kept
_FITTED = ("train_mAP_sigma20", "train_AP50_sigma20")
COUNTED_SIGNS = (
    "train_MAE",
    "train_MAE_of_a_constant",
    "last_third_loss_error",
)  # of methods with a count of their own
_LOSSES = ("last_third_loss_first_half", "last_third_loss_second_half")
_RUN_FIELDS = {"training_seconds", "weights", "evaluation", "from_step", "earlier"}
_PROVENANCE = ("provenance", "metadata", "run")  # where a study, a timing, a census keeps it


def result_metrics(
    experiment: Experiment,
    located: Evidence | None,
    counted: CountEvidence | None,
    threshold: float | None,
    validation: object,
    convergence: object,
) -> dict[str, Any]:
    """The content of `metrics.json`: what follows from the evidence, and what the training measured."""
    scale: dict[str, Any] = {}
    if located is not None:
        scale = {"score_floor": experiment.describe()["score_floor"], "sigma_scale": sigma_scale(experiment.group)}
    key = "validation_mAP_sigma20" if located is not None else "validation_MAE"
    found = ev.metrics(located, counted, threshold)
    return {"id": experiment.id} | scale | found | {key: validation, "convergence": convergence}


def wrong_numbers(metrics: Mapping[str, Any], *, counts: bool) -> list[str]:
    """Values of a `metrics.json` that no result may have: not finite, or convergence by other names than are known.

    `counts`: the method gives a count of its own, alone or beside its points.
    """
    wrong = [f"{key} is {value}, not a finite number" for key, value in _numbers(metrics) if not _finite(value)]
    locates, convergence = "localization" in metrics, metrics.get("convergence")
    wanted = {*_LOSSES, *(_FITTED if locates else ()), *(COUNTED_SIGNS if counts else ())}
    if not isinstance(convergence, dict) or set(convergence) != wanted:
        found = ", ".join(sorted(convergence)) if isinstance(convergence, dict) else repr(convergence)
        wrong.append(f"convergence holds {found or 'nothing'}, not {', '.join(sorted(wanted))}")
    return wrong


def _numbers(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, value in content.items():
        if isinstance(value, dict):
            found += _numbers(value, f"{prefix}{key}.")
        elif prefix or key != "id":
            found.append((f"{prefix}{key}", value))
    return found


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def result_run(history: Any, seconds: object, weights: str, evaluation: object) -> dict[str, Any]:
    """The content of `run.json`: see `check_run`.

    Args:
        history: provenance of every process that made steps of the training, with `from_step`, where it began.
    """
    if not isinstance(history, list) or not history or not all(isinstance(entry, dict) for entry in history):
        raise CrowdlocError(f"the training's history is {history!r}, no list of provenances: train again")
    earlier = {"earlier": history[:-1]} if len(history) > 1 else {}
    return history[-1] | {"training_seconds": seconds, "weights": weights, "evaluation": evaluation} | earlier


def check_run(path: Path, run: Mapping[str, Any]) -> None:
    """The schema of `run.json`; CrowdlocError names the first fault.

    It is the provenance of the training (of the process that made its last steps), `training_seconds`, and `weights`,
    the digest of the weights that were evaluated; further `evaluation`, its provenance where it was a run of its own,
    `from_step`, the step at which the process began, and `earlier`, the processes before it that are known (one that
    was killed before the end of the training leaves no provenance).
    """
    remedy = "restore it from version control, or train, evaluate and promote again"
    validate(run, path)
    if "evaluation" in run:
        validate(run["evaluation"], f"{path}: evaluation")
    earlier = run.get("earlier", [])
    for number, entry in enumerate(earlier if isinstance(earlier, list) else [earlier]):
        validate(entry, f"{path}: earlier {number}")
    steps = [entry.get("from_step", 0) for entry in [*earlier, run]]
    whole = [step for step in steps if isinstance(step, int) and step >= 0]
    if whole != steps or whole != sorted(set(whole)):
        raise CrowdlocError(f"{path}: training began at steps {steps}, not each process after the other: {remedy}")
    seconds, weights = run.get("training_seconds"), run.get("weights")
    if not isinstance(seconds, (int, float)) or not _finite(seconds) or seconds < 0:
        raise CrowdlocError(f"{path}: training_seconds is {seconds!r}, not a number of seconds: {remedy}")
    if not isinstance(weights, str) or not re.fullmatch("[0-9a-f]{16}", weights):
        raise CrowdlocError(f"{path}: weights is {weights!r}, not a digest of 16 hexadecimal digits: {remedy}")
    if unknown := set(run) - FIELDS - _RUN_FIELDS:
        raise CrowdlocError(f"{path} has the unknown field {min(unknown)!r}: {remedy}")


def check_log(path: Path, steps: int) -> None:
    """A stored log has one sound line for every step; CrowdlocError names the line that is not."""
    remedy = "restore it from version control, or train again"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise CrowdlocError(f"{path} cannot be read ({error}): {remedy}") from None
    seconds = 0.0
    for number, row in enumerate(rows):
        try:
            numbers = {key: float(value) for key, value in row.items()}
            sound = row["step"] == str(number) and all(map(math.isfinite, numbers.values()))
            sound = sound and {"loss", "learning_rate"} <= set(numbers) and numbers["seconds"] >= seconds
            seconds = numbers["seconds"]
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise CrowdlocError(f"{path}, line {number + 2}: not the finite numbers of step {number}: {remedy}")
    if len(rows) != steps:
        raise CrowdlocError(f"{path} holds {len(rows)} steps, the recipe {steps}: {remedy}")


def check_csv(path: Path) -> None:
    """A table has a header and as many cells in every line; CrowdlocError names the first line that has not."""
    restore = "restore it from version control, or make it again"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise CrowdlocError(f"{path} cannot be read ({error}): {restore}") from None
    if len(rows) < 2 or not all(rows[0]) or len(set(rows[0])) != len(rows[0]):
        raise CrowdlocError(f"{path} is no table with a header and lines: {restore}")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(rows[0]):
            raise CrowdlocError(f"{path}, line {number}: {len(row)} cells instead of {len(rows[0])}: {restore}")


def check_provenance(path: Path, content: Mapping[str, Any], *, measured: bool) -> None:
    """The provenance in a study, census or timing (`measured`) is whole."""
    validate(next((content[key] for key in _PROVENANCE if key in content), None), path, measured=measured)


def as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """What comes back when `content` is written and read: tuples are lists, keys are texts."""
    return dict(json.loads(json.dumps(content)))

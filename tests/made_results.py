"""What training and evaluation would leave in `build/`, made in a moment, to be promoted into results of a test."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from helpers import disc_video
from safetensors.torch import save_file

from crowdloc.core import paths
from crowdloc.core.files import digest, write_json
from crowdloc.datasets.base import ClipDataset
from crowdloc.models.method import Prediction
from crowdloc.results import evidence as ev
from crowdloc.results.experiments import Experiment

PROVENANCE = {
    "crowdloc": "0.1.0", "commit": "0" * 40, "code": "0" * 16, "python": "3.11.7", "packages": {"numpy": "2.0"},
    "system": "Linux x86_64", "processor": "any", "cores": 2, "threads": 1, "memory_gib": 8.0, "gpu": None,
}  # fmt: skip
CONVERGENCE = {
    "train_mAP_sigma20": 0.7, "train_AP50_sigma20": 0.8,
    "last_third_loss_first_half": 0.2, "last_third_loss_second_half": 0.1,
}  # fmt: skip
COUNTED = {
    "train_MAE": 1.5, "train_MAE_of_a_constant": 4.0, "last_third_loss_error": 0.01,
    "last_third_loss_first_half": 0.2, "last_third_loss_second_half": 0.1,
}  # fmt: skip


def noisy(data: ClipDataset, seed: int) -> list[Prediction]:
    """Detections of a data set, some missing, some invented."""
    random, made = np.random.default_rng(seed), []
    for frame in data.frames:
        found = frame.points[1:]
        points = np.concatenate([found + random.normal(0, 2, found.shape), random.random((2, 2)) * 40])
        made.append(Prediction(np.abs(points), np.sort(random.random(len(points)))[::-1]))
    return made


def train(experiment: Experiment, *, seed: int, counts: bool = False) -> Path:
    """`build/experiments/<id>` as after a training."""
    folder = paths.BUILD / "experiments" / experiment.id
    folder.mkdir(parents=True)
    write_json(folder / "experiment.json", experiment.describe())
    random = np.random.default_rng(seed)
    with open(folder / "log.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "loss", "learning_rate", "seconds"])
        for step in range(experiment.recipe.steps):
            writer.writerow([step, f"{random.random():.6g}", 0.001, f"{step / 10:.2f}"])
    save_file({"a": torch.from_numpy(random.random(100)).half()}, folder / "weights.safetensors")
    validation = {"MAE": 2.0, "MSE": 3.0} | ({} if counts else {"mAP": {"5": 0.1, "20": 0.6, "40": 0.7}})
    write_json(
        folder / "training.json",
        {
            "id": experiment.id,
            "seconds": 12.5,
            "threshold": None if counts else 0.4,
            "validation": validation,
            "convergence": COUNTED if counts else CONVERGENCE,
            "weights": digest(folder / "weights.safetensors"),
            "history": [PROVENANCE | {"from_step": 0}, PROVENANCE | {"from_step": 7}],
        },
    )
    return folder


def evaluate(experiment: Experiment, data: ClipDataset, predictions: list[Prediction]) -> Path:
    """`build/evaluations/train/<id>` as after an evaluation."""
    folder = paths.BUILD / "evaluations" / "train" / experiment.id
    ev.write_evidence(folder, experiment, predictions, data)
    write_json(
        folder / "evaluation.json",
        {
            "id": experiment.id,
            "weights": digest(paths.BUILD / "experiments" / experiment.id / "weights.safetensors"),
            "code": "0" * 16,
            "evidence": ev.evidence_digest(folder),
            "threshold": None if predictions[0].points is None else 0.4,
            "provenance": PROVENANCE,
        },
    )
    return folder


def finish(id: str, data: ClipDataset, *, seed: int, count: bool = False) -> Experiment:
    """Train and evaluate, as it were."""
    experiment = Experiment.parse(id)
    train(experiment, seed=seed, counts=count)
    found = [Prediction(count=3.5 + seed)] * len(data) if count else noisy(data, seed)
    evaluate(experiment, data, found)
    return experiment


def frames(folder: Path) -> ClipDataset:
    """4 images of one scene."""
    return disc_video(folder)

"""Methods on maps of several scales go through both stages: frozen backbone, no kept maps, points (and counts)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from crowdloc.core.files import read_json
from crowdloc.datasets.base import ClipDataset
from crowdloc.results import experiments, runs
from crowdloc.results.experiments import Chosen, Experiment
from tests.helpers import disc_video

CHOSEN = Chosen(
    {"width": 1 / 16, "network": {"head_width": 1 / 32}, "crop": (48, 64), "batch_size": 2, "steps": 2},
    second={"frozen": True, "crop": None, "steps": 2},
)


@pytest.fixture
def house(tmp_path, monkeypatch):
    """Empty folders, four frames of moving discs with boxes as "synthcrowd-fdst", and a recipe of two stages."""
    video = disc_video(tmp_path / "frames", frames=4, size=(48, 64))
    frames = [dataclasses.replace(f, boxes=np.hstack([f.points - 6, f.points + 6])) for f in video.frames]
    for name in ("RESULTS", "BUILD"):
        monkeypatch.setattr(runs, name, tmp_path / name.lower())
    monkeypatch.setattr("crowdloc.inference.maps.BUILD", tmp_path / "build")
    monkeypatch.setattr(experiments, "load", lambda *_, **__: ClipDataset(frames, name="discs"))
    monkeypatch.setitem(experiments.CHOSEN, "synthcrowd-fdst-mini", CHOSEN)
    return tmp_path / "build"


@pytest.mark.parametrize(("method", "counts"), [("stanet", True), ("fcos", False), ("faster-rcnn", False)])
def test_both_stages_and_the_evaluation(method, counts, house):
    experiment = Experiment("synthcrowd-fdst", "mini", method, 0)
    assert experiment.start is not None and experiment.recipe.frozen
    folder = runs.train(experiment, progress=False)
    assert not (house / "maps").exists()
    assert read_json(folder / runs.TRAINING)["threshold"] is not None
    run = runs.read(experiment, "train")
    assert run is not None and run.evidence is not None and (run.counts is not None) == counts
    assert set(run.metrics["localization"]) == {"5", "20", "40"} and run.metrics["counting"]["MAE"] >= 0
    model, start = (runs.load_model(e, runs.trained(e) / runs.WEIGHTS) for e in (experiment, experiment.start))
    for name, value in start.state_dict().items():
        if name.startswith("backbone."):
            assert (model.state_dict()[name] == value).all()

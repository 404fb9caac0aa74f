"""Trainings and evaluations in `build/`: who made them, when they are made again, and that test images wait."""

from __future__ import annotations

import json

import pytest
import torch

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import read_json, write_json
from crowdloc.results import evidence as ev
from crowdloc.results import experiments, runs
from crowdloc.results.experiments import Chosen, Experiment
from crowdloc.training.weights import save_weights
from tests.helpers import disc_video

CHOSEN = Chosen(
    {"width": 1 / 32, "network": {}, "crop": (48, 64), "batch_size": 2, "steps": 4, "precision": "32-true"},
    second={"frozen": True, "crop": None, "steps": 3},
)


@pytest.fixture
def house(tmp_path, monkeypatch):
    """Empty folders, six frames of moving discs as "synthcrowd-fdst", and a recipe of two stages."""
    video = disc_video(tmp_path / "frames", frames=6, size=(48, 64))
    loaded = []

    def load(name, root, split, **options):
        loaded.append(split)
        return video

    for name in ("RESULTS", "BUILD"):
        monkeypatch.setattr(runs, name, tmp_path / name.lower())
    monkeypatch.setattr("crowdloc.inference.maps.BUILD", tmp_path / "build")
    monkeypatch.setattr(experiments, "load", load)
    monkeypatch.setitem(experiments.CHOSEN, "synthcrowd-fdst-mini", CHOSEN)
    return loaded


def experiment(method: str = "raznet", seed: int = 0) -> Experiment:
    return Experiment("synthcrowd-fdst", "mini", method, seed)


def test_training_touches_no_test_image_and_trains_what_it_starts_from(house):
    folder = runs.train(experiment("gnanet"), progress=False)
    assert set(house) == {"train", "val"}
    start = experiment("gnanet").start
    assert start is not None and runs.find_weights(start) == runs.trained(start) / runs.WEIGHTS
    facts = read_json(folder / runs.TRAINING)
    assert 0.05 <= facts["threshold"] <= 0.95 and facts["weights"]
    runs.evaluate(experiment("gnanet"), source="train", progress=False)
    assert "test" in house


def test_the_frozen_backbone_is_the_starts_and_is_stored_once(house):
    from safetensors.torch import load_file

    runs.train(experiment("gnanet"), progress=False)
    start = experiment("gnanet").start
    assert start is not None
    own = load_file(runs.trained(experiment("gnanet")) / runs.WEIGHTS)
    assert not [name for name in own if name.startswith("backbone.")]
    model = runs.load_model(experiment("gnanet"), runs.trained(experiment("gnanet")) / runs.WEIGHTS)
    first = load_file(runs.trained(start) / runs.WEIGHTS)
    state = model.state_dict()
    for name, value in first.items():
        if name.startswith("backbone."):
            assert (state[name].float() == value.float()).all()
    assert (state["head.layers.1.weight"] != first["head.layers.1.weight"].float()).any()  # the head went on


def test_a_network_is_never_put_on_another_backbone(house):
    """Stage 1 trained again gives other features: what stood on the old ones must not be run on the new ones."""
    one = experiment("gnanet")
    runs.train(one, progress=False)
    start = one.start
    assert start is not None
    path = runs.trained(start) / runs.WEIGHTS
    model = runs.load_model(start, path)
    torch.nn.init.normal_(model.get_parameter("backbone.features.0.weight"))
    save_weights(path, model)
    with pytest.raises(CrowdlocError, match="stands on other weights of synthcrowd-fdst-mini/raznet.stage1/seed0"):
        runs.load_model(one, runs.trained(one) / runs.WEIGHTS)


def test_a_finished_training_keeps_the_provenance_of_those_who_made_it(house, monkeypatch):
    folder = runs.train(experiment(), progress=False)
    before = read_json(folder / runs.TRAINING)["history"]
    monkeypatch.setattr(runs, "provenance", lambda: {"commit": "another", "code": "another"})
    runs.train(experiment(), progress=False)  # no step is left
    assert read_json(folder / runs.TRAINING)["history"] == before and len(before) == 1


def test_what_is_edited_or_belongs_to_other_weights_is_made_again(house):
    one = experiment()
    first = runs.read(one, "train")
    assert first is not None
    house.clear()
    assert runs.read(one, "train") is not None and "test" not in house  # used as it is
    folder = runs.evaluated(one, "train")
    facts = read_json(folder / runs.EVALUATION)
    for change in ({"weights": "0" * 16}, {"code": "0" * 16}, {"evidence": "0" * 16}):
        write_json(folder / runs.EVALUATION, facts | change)
        house.clear()
        again = runs.read(one, "train")
        assert "test" in house and again is not None and again.metrics == first.metrics
    evidence = ev.evidence_files(folder)[0]
    evidence.write_bytes(evidence.read_bytes()[:-9])
    house.clear()
    again = runs.read(one, "train")
    assert "test" in house and again is not None and again.metrics == first.metrics
    (folder / runs.EVALUATION).write_text("[" * 5000)
    house.clear()
    assert runs.read(one, "train") is not None and "test" in house


def test_what_is_not_there_is_none_or_named(house):
    assert runs.read(experiment(), "stored") is None and runs.read(experiment(), "weights") is None
    with pytest.raises(CrowdlocError, match="source 'deep' is unknown: choose one of stored, weights, train"):
        runs.read(experiment(), "deep")
    assert json.dumps(experiment().describe())

"""From a stranger's CSV to located heads: train, evaluate, calibrate and locate with the commands of the README."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from crowdloc import cli
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import read_json
from crowdloc.datasets.own import load_own
from crowdloc.results import own, runs, scoring
from crowdloc.results.experiments import Experiment
from crowdloc.results.networks import open_network
from crowdloc.training.weights import save_weights


def command(capsys, *arguments):
    try:
        status = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """Ten frames of pale squares that wander over a striped ground; nothing of the project drew them."""
    folder = tmp_path_factory.mktemp("footage") / "square"
    (folder / "cam 1").mkdir(parents=True)
    random = np.random.default_rng(3)
    start = random.random((6, 2)) * (70, 40) + (8, 8)
    step = random.random((6, 2)) * 2 - 1
    lines = ["frame,x,y"]
    for k in range(10):
        image = np.full((64, 96, 3), 60, np.uint8)
        image[:, ::8] = 90
        for x, y in np.round(start + k * step).astype(int):
            image[y - 2 : y + 3, x - 2 : x + 3] = 220
            lines.append(f"cam 1/{k}.png,{x},{y}")
        cv2.imwrite(str(folder / "cam 1" / f"{k}.png"), image)
    (folder / "points.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def trained(footage, tmp_path_factory):
    """Weights of a RAZNet that was trained on it for a few steps."""
    out = tmp_path_factory.mktemp("own") / "raznet"
    return own.train(footage, method="raznet", start="scratch", steps=60, out=out, progress=False)


def test_from_a_csv_to_located_heads(capsys, footage, trained, tmp_path):
    status, out, _ = command(capsys, "evaluate", "--data", footage, "--weights", trained)
    assert status == 0
    assert "own/square/raznet/seed0 on square, split test: 2 images, 12 heads" in out
    metrics = own.evaluate(footage, open_network(trained), progress=False)
    assert metrics["localization"]["20"]["AP.50"] > 0.3  # it has learnt something
    assert scoring.as_text(metrics) + "\n" == out
    result = tmp_path / "found"
    status, out, err = command(capsys, "locate", footage / "cam 1", "--weights", trained, "--out", result)
    assert status == 0 and "RAZNet, trained on 6 images of square, 36 heads" in err
    counts = pd.read_csv(result / "counts.csv")
    assert len(counts) == 10
    threshold = read_json(trained.parent / "training.json")["threshold"]
    assert read_json(result / "run.json")["run"]["threshold"] == threshold == open_network(trained).threshold


def test_a_training_goes_on_and_is_not_overwritten(footage, trained):
    before = trained.read_bytes()
    options = {"method": "raznet", "start": "scratch", "out": trained.parent, "progress": False}
    assert own.train(footage, steps=60, **options) == trained
    assert trained.read_bytes() == before
    with pytest.raises(CrowdlocError, match="holds another training: choose another folder"):
        own.train(footage, steps=61, **options)


def test_fine_tuning_begins_with_the_weights_that_are_named(footage, trained, tmp_path):
    path = own.train(footage, method="raznet", start=trained, steps=1, out=tmp_path, progress=False)
    about = open_network(path).about
    assert about["experiment"]["start"] == "own/square/raznet/seed0"
    begun, tuned = (open_network(p).method.state_dict() for p in (trained, path))
    weights = "backbone.features.0.weight"
    assert not np.array_equal(begun[weights], tuned[weights])
    assert abs(begun[weights] - tuned[weights]).max() < 0.02  # one step away


def test_calibration_writes_weights_that_know_their_threshold(capsys, footage, trained, tmp_path):
    out = tmp_path / "calibrated.safetensors"
    status, printed, _ = command(capsys, "calibrate", "--data", footage, "--weights", trained, "--out", out)
    assert status == 0 and "on 8 images; before: " in printed and printed.endswith(f"{out}\n")
    network, before = open_network(out), open_network(trained)
    found = own.calibrate(footage, before, progress=False)
    assert network.threshold == found["threshold"]
    assert found["MAE"] <= found["MAE before"]
    assert "calibrated on 8 images of square" in network.describe()
    for name, value in before.method.state_dict().items():
        assert np.array_equal(value, network.method.state_dict()[name])
    status, _, err = command(capsys, "calibrate", "--data", footage, "--weights", trained, "--out", out)
    assert (status, err.count("\n")) == (2, 1) and "exists: choose another name" in err


def test_stored_weights_can_be_calibrated_into_a_file_of_their_own(footage, tmp_path):
    """Those that stand on a frozen backbone take it along."""
    stored = open_network(method="raznet")
    out = tmp_path / "c.safetensors"
    own.calibrate(footage, stored, out, progress=False)
    assert "backbone" in stored.about and "backbone" not in open_network(out).about
    metrics = own.evaluate(footage, open_network(out), progress=False)
    assert metrics["split"] == "test"  # it has seen the others
    assert own.evaluate(footage, stored, progress=False)["split"] == "all"


def test_an_experiment_is_scored_on_every_image_that_is_here(capsys, footage, trained, tmp_path, monkeypatch):
    """Not only on those of its stored evaluation; nothing is written."""
    monkeypatch.setattr(runs, "RESULTS", tmp_path)
    id = "mall-mini/raznet/seed0"
    experiment = Experiment.parse(id)
    (tmp_path / id).mkdir(parents=True)
    network = open_network(trained)
    about = network.about | {"experiment": network.about["experiment"] | {"id": id}, "threshold": 0.3}
    save_weights(tmp_path / id / "weights.safetensors", network.method, about=about)
    asked = []
    monkeypatch.setattr(Experiment, "load", lambda self, *given: asked.append((self, *given)) or load_own(footage))
    status, out, _ = command(capsys, "evaluate", id, "--split", "all", "--data-root", "there")
    assert status == 0 and asked == [(experiment, "all", "there")]
    assert f"{id} on square, split all: 10 images, 60 heads" in out and "scores from 0.3" in out
    assert len(list((tmp_path / id).iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "give either the ID of an experiment or --data FOLDER"),
        (["train", "mall-mini/gnanet/seed0", "--data", "x"], "give either the ID"),
        (["train", "mall-mini/gnanet/seed0", "--steps", "3"], "--steps goes with --data FOLDER"),
        (["train", "mall-mini/gnanet/seed0", "--from", "scratch"], "--from goes with --data FOLDER"),
        (["train", "--data", "/no/such"], "/no/such is no folder"),
        (["evaluate", "--data", "x", "--source", "train"], "--source goes with an experiment"),
        (["evaluate", "--data", "x", "--data-root", "y"], "--data-root goes with an experiment"),
        (["evaluate", "mall-mini/gnanet/seed0", "--photos"], "--photos goes with --data FOLDER"),
        (["calibrate"], "required: --data"),
        (["locate", "/no/such"], "/no/such not found: give an image"),
        (["locate", "x", "--method", "nonsense"], "unknown method 'nonsense'"),
        (["locate", __file__, "--weights", __file__], "is no readable safetensors file"),
        (["locate", __file__, "--plot"], "--plot needs a folder for what it makes: give --out FOLDER"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line(capsys, arguments, message):
    status, out, err = command(capsys, *arguments)
    err = err[err.index("crowdloc: error") :]
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err

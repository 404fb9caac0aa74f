"""Full-width trainings on ShanghaiTech in one stage: the commands that a GPU is needed for, at small scale."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from crowdloc import cli
from crowdloc.core.files import read_json
from crowdloc.models.recipes import get_preset
from crowdloc.results import experiments, runs
from crowdloc.results.experiments import Chosen, Experiment, experiments_of
from tests.files_of_sets import head_struct, save

SMALL = {"width": 1 / 16, "steps": 2, "batch_size": 2, "crop": (48, 64), "pretrained": None}


@pytest.fixture
def shanghaitech(tmp_path, monkeypatch):
    """Part B, ten images to train on, IMG_10 to validate, two to test; one is smaller than the crop. Empty folders."""
    for folder, count in (("train_data", 11), ("test_data", 2)):
        images = tmp_path / "data" / "shanghaitech" / "part_B_final" / folder / "images"
        images.mkdir(parents=True)
        for number in range(1, count + 1):
            height, width = (40, 56) if number == 2 else (60, 80)
            image = np.full((height, width, 3), 90, np.uint8)
            image[10:15, 20:25] = 220
            cv2.imwrite(str(images / f"IMG_{number}.jpg"), image)
            truth = images.parent / "ground_truth" / f"GT_IMG_{number}.mat"
            save(truth, image_info=head_struct([[23.0, 13.0], [30.0, 30.0]]))
    for name in ("RESULTS", "BUILD"):
        monkeypatch.setattr(runs, name, tmp_path / name.lower())
    monkeypatch.setattr("crowdloc.inference.maps.BUILD", tmp_path / "build")
    return tmp_path / "data"


@pytest.mark.parametrize("preset", ["paper", "paper-adam"])
def test_one_command_trains_in_one_stage_and_another_scores(shanghaitech, preset, monkeypatch):
    experiment = Experiment.parse(f"shanghaitech_b-{preset}/s-gnanet/seed0")
    assert experiment.recipe == get_preset(preset)  # the paper's sizes, nothing of the mini preset
    assert (experiment.recipe.width, experiment.recipe.norm, experiment.recipe.pretrained) == (1.0, "none", "imagenet")
    monkeypatch.setitem(experiments.CHOSEN, experiment.group, Chosen(SMALL))
    assert experiment.start is None and not experiment.recipe.frozen
    assert cli.main(["train", experiment.id, "--data-root", str(shanghaitech)]) == 0
    folder = runs.trained(experiment)
    model = runs.load_model(experiment, folder / runs.WEIGHTS)  # complete in itself: no backbone elsewhere
    assert model.channels == 512 * SMALL["width"]
    assert read_json(folder / runs.EXPERIMENT)["recipe"]["optimizer"] == get_preset(preset).optimizer
    assert read_json(folder / runs.TRAINING)["threshold"] is not None
    arguments = ["evaluate", experiment.id, "--source", "train", "--data-root", str(shanghaitech)]
    assert cli.main(arguments) == 0
    run = runs.read(experiment, "train", shanghaitech)
    assert run is not None and run.evidence is not None and run.evidence.heads.tolist() == [2, 2]


@pytest.mark.parametrize("table", ["IV", "V"])
def test_the_tables_list_them(table):
    part = {"IV": "shanghaitech_a", "V": "shanghaitech_b"}[table]
    ids = [e.id for e in experiments_of(table, "paper-adam", part)]
    for method in ("raznet", "s-gnanet"):
        assert f"{part}-paper-adam/{method}/seed0" in ids

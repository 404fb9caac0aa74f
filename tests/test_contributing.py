"""CONTRIBUTING.md's three examples work as they stand there, and what it and the configurations name exists."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from crowdloc.datasets.base import ClipDataset
from crowdloc.models import METHODS, build_model
from crowdloc.models.method import Sample
from crowdloc.reproduce import notebooks

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
METHOD, DATA, *NOTEBOOK = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_method_learns(monkeypatch):
    monkeypatch.setattr("crowdloc.models.registry.METHODS", dict(METHODS))
    exec(METHOD, names := {})
    model = names["FrameMean"](width=1 / 32)
    maps = torch.rand(1, 3, model.channels, 4, 5)
    assert torch.equal(model.aggregate(maps, None), maps.mean(dim=1))
    points = [[torch.tensor([[9.0, 7.0]])] * 3]
    model.loss(Sample(images=None, maps=(maps,), points=points, boxes=None, size=(32, 40)), 0)[
        "localization"
    ].backward()
    assert all(p.grad is not None for p in model.head.parameters())
    assert build_model("frame-mean", width=1 / 32).offsets == (-1, 0, 1)


def test_the_data_set_is_read(tmp_path):
    video = tmp_path / "corridor" / "train" / "one"
    video.mkdir(parents=True)
    for number in (1, 2):
        cv2.imwrite(str(video / f"{number:04}.png"), np.full((20, 30, 3), number, np.uint8))
        (video / f"{number:04}.csv").write_text("3,4\n5,6.5\n")
    exec(DATA, names := {})
    listing = names["scan"](tmp_path, "train")
    frames = [frame for read in listing.parts for frame in read()]
    assert [(f.id, f.scene, f.points.tolist()) for f in frames] == [
        (name, "one", [[3.0, 4.0], [5.0, 6.5]]) for name in ("0001", "0002")
    ]
    assert ClipDataset(frames, name="corridor").image(1)[0, 0].tolist() == [2, 2, 2]


def test_the_notebook_reads_its_table(capsys):
    names: dict = {}
    for code in NOTEBOOK:
        exec(code, names)
    assert "RAZNet" in capsys.readouterr().out


@pytest.mark.parametrize("name", re.findall(r"`((?:tests|crowdloc|results)/[\w/.]+)`", TEXT))
def test_files_that_are_named_exist(name):
    assert (ROOT / name).exists() or name.endswith("corridor.py")


def test_numbers_of_notebooks_in_commands_exist():
    there = {path.stem[:2] for path in notebooks.numbered()}
    assert set(re.findall(r"crowdloc refresh (\d\d)", TEXT)) <= there


def test_hooks_use_the_linter_of_the_tests():
    (pinned,) = re.findall(r"^ruff==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert f"rev: v{pinned}\n" in (ROOT / ".pre-commit-config.yaml").read_text()


def test_the_workflow_runs_what_ci_runs():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert "run: .ci/run" in text and '["3.11", "3.13"]' in text
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111

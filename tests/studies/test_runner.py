"""The study runner on tiny trainings: each is made once, after what it begins with, and measured as it says."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import disc_video
from safetensors.torch import load_file, save_file

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import read_json, write_json
from crowdloc.core.provenance import validate
from crowdloc.models import VGG16Frontend
from crowdloc.results.experiments import Experiment
from crowdloc.studies import runner as studies
from crowdloc.studies.plans import STUDIES, Study
from crowdloc.studies.rows import Best, Images, Row
from crowdloc.studies.runner import Runner, run

TINY = {"width": 1 / 64, "steps": 2, "batch_size": 2, "crop": (32, 32)}


@pytest.fixture(autouse=True)
def discs(tmp_path, monkeypatch) -> list[tuple[str, str]]:
    """Every split of every data set is a few frames with discs; returns what was loaded."""
    loaded = []

    def load(self, split, root=None):
        loaded.append((self.data, split))
        return disc_video(tmp_path / "data" / split, frames={"train": 5, "val": 2}.get(split, 3))

    monkeypatch.setattr(Experiment, "load", load)
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr("crowdloc.inference.maps.BUILD", tmp_path / "build")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield loaded
    torch.set_num_threads(threads)


def first(label: str, rate: float = 1e-3, seed: int = 0, **others) -> Row:
    return Row(label, "mall", "raznet", seed, recipe={**TINY, "learning_rate": rate}, **others)


def second(start: str | Best, label: str = "second", method: str = "gnanet", **others) -> Row:
    return Row(label, "mall", method, 0, recipe={**TINY, "frozen": True}, start=start, **others)


def test_a_row_behind_another_takes_its_backbone_and_leaves_it(discs) -> None:
    runner = Runner("two", [first("one"), second("one")])
    line = runner.made("second")["lines"][0]
    one, two = (load_file(runner.folder / label / "weights.safetensors") for label in ("one", "second"))
    backbone = [name for name in one if name.startswith("backbone.")]
    assert backbone and all(torch.equal(one[name], two[name]) for name in backbone)
    assert any(not torch.equal(one[name], two[name]) for name in one if name.startswith("head.") and name in two)
    assert (line["start"], line["method"], line["steps"], line["images"]) == ("one", "gnanet", 2, 2)
    assert line["differs"].startswith("{'width'") and "'frozen': True" in line["differs"]
    maps = paths.BUILD / "maps"
    assert len(list(maps.glob("discs-*"))) == 2  # of training and validation frames
    assert not list(runner.folder.rglob("checkpoint.pt"))
    assert set(discs) == {("mall", "train"), ("mall", "val")}


def test_what_is_finished_is_not_made_again(monkeypatch) -> None:
    rows = [first("one"), second("one")]
    Runner("two", rows).made("second")
    monkeypatch.setattr(studies, "train", None)
    found = Runner("two", rows)
    assert found.made("second")["lines"] == found.made("second")["lines"]
    with pytest.raises(CrowdlocError, match=r"one was made by another plan, recipe or start: delete it"):
        Runner("two", [first("one", 2e-3), second("one")]).made("second")


def test_other_weights_of_the_start_are_noticed() -> None:
    runner = Runner("two", [first("one"), second("one")])
    runner.made("second")
    path = runner.folder / "one" / "row.json"
    write_json(path, read_json(path) | {"weights": "0" * 16})
    with pytest.raises(CrowdlocError, match="second was made by another plan, recipe or start"):
        runner.made("second")


def test_the_best_of_several_is_taken_by_its_mean(monkeypatch) -> None:
    scores = {"a0": 0.9, "a1": 0.1, "b0": 0.6, "b1": 0.5, "c0": 0.6, "c1": 0.5}
    groups = (("a0", "a1"), ("b0", "b1"), ("c0", "c1"))
    rows = [first(label) for label in scores] + [second(Best(groups, place=1))]
    made = []

    def make(self, row, folder, start):
        made.append((row.label, start))
        folder.mkdir(parents=True, exist_ok=True)
        return {"lines": [{"mAP σ20": scores.get(row.label)}], "weights": "0" * 16}

    monkeypatch.setattr(Runner, "_make", make)
    Runner("best", rows).made("second")
    assert made == [(label, None) for label in scores] + [("second", "b1")]  # .55, the first of two


def test_counts_take_a_threshold_that_other_images_did_not_choose(monkeypatch, discs) -> None:
    tests = (Images("mall"), Images("shanghaitech_b", "val"), Images("mall", "test"), Images("mall", "val", 32))
    asked = []
    monkeypatch.setattr(studies, "scores", lambda found, threshold: asked.append((found, threshold)) or {})
    monkeypatch.setattr(studies, "best_threshold", lambda found: found)
    monkeypatch.setattr(studies, "measure", lambda model, dataset, **_: (len(dataset), type(dataset).__name__))
    lines = Runner("tested", [first("one", tests=tests)]).made("one")["lines"]
    own = (2, "ClipDataset")
    assert asked[1:] == [(own, own), (own, own), ((3, "ClipDataset"), own), ((2, "Resized"), own)]
    assert [(line["tested on"], line["split"], line["height"]) for line in lines] == [
        ("mall", "val", "as is"), ("shanghaitech_b", "val", "as is"), ("mall", "test", "as is"), ("mall", "val", "32"),
    ]  # fmt: skip


def test_freezing_needs_a_start() -> None:
    row = replace(first("one"), recipe=TINY | {"frozen": True})
    with pytest.raises(CrowdlocError, match="row one of study alone freezes what it starts from: give it a start"):
        Runner("alone", [row]).made("one")


def small(_: str):
    yield first("one", seed=1)
    yield first("two", seed=2)
    yield second("two", "three", "s-gnanet", options={"fusion": "gated", "sampling": "limit", "learn_gamma": True})


def test_a_study_in_two_parts_is_one_table(monkeypatch) -> None:
    monkeypatch.setitem(STUDIES, "small", Study(small, ()))
    path = run("small", part=(0, 2))  # the first row, and the third with the second, which it begins with
    table = pd.read_csv(path, keep_default_na=False)
    assert table["label"].tolist() == ["one", "two", "three"]
    facts = read_json(path.with_suffix(".json"))
    assert (facts["rows"], facts["planned"]) == (3, 3)
    validate(facts["provenance"])
    before = path.read_bytes()
    assert run("small", part=(1, 2)) == path and path.read_bytes() == before
    assert table["gates"].tolist()[:2] == ["", ""] and table["gates"][2][0] in "+-"
    assert table["learned gamma"][2].startswith("gna 3.") and table["learning_rate"].tolist()[:2] == [1e-3, 1e-3]
    assert set(table.columns) >= {
        *(f"{name} σ{sigma}" for name in ("mAP", "mAR") for sigma in (5, 20, 40)),
        "AP.50 σ20", "MAE", "train AP.50 σ20", "loss a", "loss b", "loss c", "seconds",
    }  # fmt: skip


def test_what_another_process_makes_is_waited_for(monkeypatch) -> None:
    runner, made = Runner("one", [first("one")]), Runner("one", [first("one")]).made("one")
    path = runner.folder / "one" / "row.json"
    path.unlink()

    @contextmanager
    def locked(lock, what, *, patience):  # as long as this one waits, the other one writes
        assert lock == path.with_name(".lock") and patience > 24 * 3600
        write_json(path, made)
        yield

    monkeypatch.setattr(studies, "locked", locked)
    monkeypatch.setattr(studies, "train", None)
    assert runner.made("one") == made


def test_parts_are_counted_from_zero() -> None:
    with pytest.raises(CrowdlocError, match="part 2 of 2: give I and N with 0 ≤ I < N"):
        run("control", part=(2, 2))
    with pytest.raises(SystemExit, match="error: study rates on data set 'ucsd'"):
        studies.main(["rates", "ucsd"])


def test_loss_thirds_and_what_is_learned() -> None:
    assert studies.loss_thirds([3, 3, 2, 2, 1, 1]) == {"loss a": 3, "loss b": 2, "loss c": 1}
    assert np.isnan(studies.loss_thirds([1.0])["loss c"])


def test_an_interrupted_training_goes_on(monkeypatch) -> None:
    real = studies.train

    def stopped(*arguments, **others):
        real(*arguments, **others)
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "train", stopped)
    runner = Runner("one", [first("one")])
    with pytest.raises(KeyboardInterrupt):
        runner.made("one")
    assert not (runner.folder / "one" / "row.json").exists() and runner.table().empty
    monkeypatch.setattr(studies, "train", real)
    monkeypatch.setattr("crowdloc.training.loop.learning_rate", None)  # every step asks for it
    assert runner.made("one")["lines"][0]["steps"] == 2
    assert len(runner.table()) == 1


def test_a_pretrained_front_end_is_frozen_without_a_start_and_its_maps_are_not_kept(tmp_path, monkeypatch) -> None:
    source = VGG16Frontend()
    with torch.no_grad():
        for p in source.parameters():
            p.fill_(1e-3)
    (tmp_path / "weights").mkdir()
    save_file(source.state_dict(), tmp_path / "weights" / "front.safetensors")
    recipe = {"width": 1.0, "norm": "none", "network": {"head_width": 1 / 64}, "steps": 1, "batch_size": 1}
    recipe |= {"crop": (32, 32), "frozen": True, "pretrained": "front.safetensors"}
    runner = Runner("front", [Row("one", "mall", "raznet", 0, recipe=recipe)], root=tmp_path)
    line = runner.made("one")["lines"][0]
    trained = load_file(runner.folder / "one" / "weights.safetensors")
    assert torch.allclose(trained["backbone.features.0.weight"].float(), torch.tensor(1e-3), atol=1e-6)
    assert str(tmp_path) not in str(line) and "front.safetensors" in line["differs"]
    assert not (paths.BUILD / "maps").exists()

"""The loader's benchmark, tiny: two scenes, one repeat, and the arithmetic of its table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
from helpers import disc_video

from crowdloc.benchmarks import loader as benchmark
from crowdloc.core.provenance import validate
from crowdloc.datasets.synthcrowd import DOMAINS
from crowdloc.models.recipes import get_preset
from crowdloc.results.experiments import Experiment
from crowdloc.training.batches import TrainingBatches


def test_the_whole_benchmark_on_two_scenes(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = replace(DOMAINS["sense"], videos={**DOMAINS["sense"].videos, "dev": 2})
    monkeypatch.setitem(DOMAINS, "sense", small)
    ids = {name: f"synthcrowd-sense-mini/{name}/seed0" for name in ("raznet.stage1", "gnanet")}
    used = {name: {"id": id, "clips_per_second": 4.0} for name, id in ids.items()}
    monkeypatch.setattr(benchmark, "consumption", lambda: used)
    benchmark.main(["--json", str(tmp_path / "loader.json"), "--repeats", "1"])
    found = json.loads((tmp_path / "loader.json").read_text())
    assert found["generation"]["frames"] == 16 and found["generation"]["frames_per_second"] > 0
    validate(found["metadata"], measured=True)
    frames = {row["model"]: row["frames_of_a_clip"] for row in found["rows"]}
    assert frames == {"raznet.stage1": 1, "gnanet": 3}
    assert all(rate > 0 for row in found["rows"] for rate in row["loader"].values())
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 1 + 3 * len(found["rows"]) and table[0].split()[-1] == "ratio"


def test_cold_epochs_decode_every_frame_once_and_warm_ones_none(tmp_path: Path, monkeypatch) -> None:
    dataset, decoded = disc_video(tmp_path, frames=8), []
    real = type(dataset).image
    monkeypatch.setattr(type(dataset), "image", lambda self, index: decoded.append(index) or real(self, index))
    asked: list[int] = []
    batch = TrainingBatches.batch
    monkeypatch.setattr(TrainingBatches, "batch", lambda self, step: asked.append(step) or batch(self, step))
    clock = iter(range(100))
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    recipe = get_preset("mini").with_options(batch_size=4, crop=(16, 16))
    rates = benchmark.loading(dataset, recipe, (-1, 0, 1), repeats=3)
    assert sorted(decoded) == sorted(list(range(8)) * 3)  # three repeats, each begins with an empty cache
    assert asked == [0, 1, 2, 3] * 3  # the warm epoch is the second, of another order
    assert rates == {"cold": 8, "warm": 8}  # two steps of four clips in one tick


def test_one_thread_is_taken_back() -> None:
    found = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(2)
    torch.set_num_threads(2)
    before = cv2.getNumThreads(), torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), benchmark.one_thread():
        assert (cv2.getNumThreads(), torch.get_num_threads()) == (1, 1)
        raise ZeroDivisionError
    assert (cv2.getNumThreads(), torch.get_num_threads()) == before
    cv2.setNumThreads(found[0])
    torch.set_num_threads(found[1])


def test_consumption_is_the_fastest_stored_training_that_reads_images(tmp_path: Path, monkeypatch) -> None:
    group = "synthcrowd-sense-mini"
    for name in ("raznet.stage1", "raznet"):  # the second one trains behind a frozen backbone
        for seed, clock in ((0, (5, 7, 9, 20)), (1, (30, 31, 32, 40)), (2, (1, 5, 9, 13))):
            folder = tmp_path / group / name / f"seed{seed}"
            folder.mkdir(parents=True)
            rows = "".join(f"{step},0.1,0.001,{seconds}\n" for step, seconds in enumerate(clock))
            (folder / "log.csv").write_text("step,loss,learning_rate,seconds\n" + rows)
            (folder / "run.json").write_text('{"threads": 1}')
            (folder / "metrics.json").write_text("{}")
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    monkeypatch.setattr("crowdloc.results.runs.RESULTS", tmp_path)
    assert Experiment.parse(f"{group}/raznet/seed1").recipe.frozen
    batch = Experiment.parse(f"{group}/raznet.stage1/seed1").recipe.batch_size
    use = {"threads": 1, "seconds_per_step": 1.0, "clips_per_second": batch}
    assert benchmark.consumption() == {"raznet.stage1": {"id": f"{group}/raznet.stage1/seed1"} | use}


def test_the_table_divides_by_what_training_uses() -> None:
    row = {"model": "gnanet", "frames_of_a_clip": 3, "training": {"clips_per_second": 4.0}}
    text = benchmark.as_text(
        {"generation": {"frames_per_second": 60.0}, "rows": [row | {"loader": {"cold": 100.0, "warm": 250.0}}]}
    )
    assert [line.split()[-1] for line in text.splitlines()[1:]] == ["15.0", "25.0", "62.5"]


def test_repeats_must_be_positive() -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["--repeats", "0"])

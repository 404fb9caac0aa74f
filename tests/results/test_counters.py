"""Every method that only counts goes through all: its stages, evaluation, promotion, and a row of a table."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from crowdloc import results
from crowdloc.core import paths
from crowdloc.core.files import read_json
from crowdloc.datasets.base import ClipDataset
from crowdloc.models import METHODS
from crowdloc.results import checking, experiments, runs, store
from crowdloc.results.experiments import TABLES, Chosen, Experiment, Listed, Source
from tests.helpers import disc_video

CHOSEN = Chosen(
    {"width": 1 / 16, "network": {"head_width": 1 / 32}, "crop": (48, 64), "batch_size": 2, "steps": 2},
    second={"frozen": True, "crop": None, "steps": 2},
    counters={"batch_size": 1, "steps": 3},
)
COUNTERS = [name for name, entry in METHODS.items() if entry.counts]


@pytest.fixture
def house(tmp_path, monkeypatch):
    """Empty folders, two videos of discs with crowds of 3 and 5 as "synthcrowd-fdst", and a recipe of two stages."""
    few, more = (disc_video(tmp_path / f"frames{n}", frames=3, size=(48, 64), heads=n) for n in (3, 5))
    frames = [*few.frames, *(dataclasses.replace(f, id=f"more{f.id}", scene="more") for f in more.frames)]
    for module in (runs, paths, store, checking):
        for name in ("RESULTS", "BUILD"):
            monkeypatch.setattr(module, name, tmp_path / name.lower(), raising=False)
    monkeypatch.setattr("crowdloc.inference.maps.BUILD", tmp_path / "build")
    monkeypatch.setattr(experiments, "load", lambda *_, **__: ClipDataset(frames, name="discs"))
    monkeypatch.setitem(experiments.SOURCES, "synthcrowd-fdst", Source("discs", generated=True))
    monkeypatch.setitem(experiments.CHOSEN, "synthcrowd-fdst-mini", CHOSEN)
    monkeypatch.setitem(TABLES, "VI", (Listed("synthcrowd-fdst", tuple(COUNTERS), seeds=1),))
    return tmp_path / "build"


@pytest.mark.parametrize("name", COUNTERS)
def test_every_counter_reaches_its_row(name, house):
    experiment = Experiment("synthcrowd-fdst", "mini", name, 0)
    staged = METHODS[name].start is not None
    assert (experiment.start is not None) == experiment.recipe.frozen == staged
    folder = runs.train(experiment, progress=False)
    assert (house / "maps").exists() == (staged and METHODS[name].load().keeps_maps)
    facts = read_json(folder / runs.TRAINING)
    assert facts["threshold"] is None and facts["convergence"]["train_MAE_of_a_constant"] == 1.0
    assert facts["convergence"]["last_third_loss_error"] >= 0
    run = runs.read(experiment, "train")
    assert run is not None and run.evidence is None and run.counts is not None
    assert len(run.log) == (2 if staged else 3)
    assert facts["convergence"]["train_MAE"] == pytest.approx(run.metrics["counting"]["MAE"])  # the same images here
    stored = store.promote(experiment.id)
    if experiment.start is not None:  # weights are kept with the backbone that they stand on
        runs.evaluate(experiment.start, source="train", progress=False)
        store.promote(experiment.start.id)
    assert (stored / "counts.csv").is_file() and not (stored / "predictions.parquet").exists()
    cells = results.compare(results.read_table("VI", data="synthcrowd-fdst"))
    measured = cells[cells["this run"].notna()]
    assert measured["metric"].tolist() == ["MAE", "MSE"] and (measured["verdict"] == "reproduced").all()
    np.testing.assert_allclose(measured["this run"].astype(float), list(run.metrics["counting"].values()))
    again = runs.read(experiment, "weights")
    assert again is not None and again.counts is not None
    np.testing.assert_allclose(again.counts.counts, run.counts.counts, rtol=1e-6)

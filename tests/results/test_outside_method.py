"""The README's method, added from outside, through everything: train, evaluate, promote, check, a row in a table."""

from __future__ import annotations

import re

import numpy as np
import pytest

from crowdloc import results
from crowdloc.core import paths
from crowdloc.core.paths import ROOT
from crowdloc.models import METHODS, recipes
from crowdloc.results import checking, experiments, runs, store
from crowdloc.results.experiments import TABLES, Chosen, Experiment, Listed, Source
from tests.helpers import disc_video

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = re.search(r"```python\n(import torch\nfrom torch import nn\n.*?register\(.*?)```", README, re.S)


@pytest.fixture
def house(tmp_path, monkeypatch):
    """Empty `build/` and `results/`, a data set of moving discs called "synthcrowd-fdst", and a short recipe."""
    video = disc_video(tmp_path / "frames", frames=6, size=(48, 64))
    for module in (runs, paths, store, checking):
        for name in ("RESULTS", "BUILD"):
            monkeypatch.setattr(module, name, tmp_path / name.lower(), raising=False)
    monkeypatch.setattr("crowdloc.inference.maps.BUILD", tmp_path / "build")
    monkeypatch.setattr(experiments, "load", lambda *_, **__: video)
    monkeypatch.setitem(experiments.SOURCES, "synthcrowd-fdst", Source("discs", generated=True))
    recipe = {"crop": (48, 64), "batch_size": 2, "steps": 60, "learning_rate": 1e-2}
    monkeypatch.setitem(experiments.CHOSEN, "synthcrowd-fdst-mini", Chosen(recipe, {"": 1e-2}))
    monkeypatch.setitem(TABLES, "II", (Listed("synthcrowd-fdst", ("two-frames",), seeds=1),))
    assert recipes.PRESETS["mini"] is not None
    before = dict(METHODS)
    yield tmp_path
    METHODS.clear()
    METHODS.update(before)


def test_the_readmes_method_goes_through_everything(house):
    assert EXAMPLE is not None
    lines = [line for line in EXAMPLE[1].splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 30
    exec(EXAMPLE[1], {"__name__": "example"})
    experiment = Experiment("synthcrowd-fdst", "mini", "two-frames", 0)
    folder = runs.train(experiment, progress=False)
    assert not (house / "build" / "evaluations").exists()  # training looks at no test image
    assert {"weights.safetensors", "log.csv", "experiment.json", "training.json"} <= {p.name for p in folder.iterdir()}
    run = runs.read(experiment, "train")
    assert run is not None and run.evidence is not None
    assert run.metrics["localization"]["40"]["AP.50"] > 0.5  # it has learnt something
    store.promote(experiment.id)
    stored = runs.read(experiment)
    assert stored is not None and stored.metrics == run.metrics
    cells = results.compare("II", data="synthcrowd-fdst")
    row = cells[cells["method"] == "two frames"]
    assert len(row) == 18 and (row["verdict"] == "reproduced").all()
    np.testing.assert_allclose(row["difference"].astype(float), 0.0, atol=1e-12)

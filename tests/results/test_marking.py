"""Pictures show what is counted, on generated frames only, by a run that keeps its weights."""

from __future__ import annotations

import numpy as np
import pytest

from crowdloc import results
from crowdloc.core.errors import CrowdlocError
from crowdloc.models import Prediction
from crowdloc.results import marking, runs
from crowdloc.results.experiments import Experiment
from crowdloc.results.runs import Run
from tests.helpers import disc_video


def run(folder, seed: int, data: str = "synthcrowd-sense", threshold: float | None = 0.5) -> Run:
    return Run(Experiment(data, "mini", "gnanet", seed), "stored", None, None, threshold, {}, folder / f"seed{seed}")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Two runs, the second with weights, on a validation split of 5 frames; the heads are found a pixel beside."""
    dataset = disc_video(tmp_path / "frames", frames=5)
    (tmp_path / "seed1").mkdir()
    (tmp_path / "seed1" / runs.WEIGHTS).write_bytes(b"")
    loaded = []
    monkeypatch.setattr(Experiment, "load", lambda self, split: dataset if split == "val" else None)
    monkeypatch.setattr(runs, "load_model", lambda *arguments: loaded.append(arguments))

    def predict(model, some, progress):
        # A head is missed because its score is too low to count, and the last detection is where no head is.
        return [
            Prediction(np.vstack([f.points + np.array([1.0, 0]), [[0.0, 47.0]]]), np.array([0.9, 0.8, 0.7, 0.4, 0.6]))
            for f in some.frames
        ]

    monkeypatch.setattr(marking, "predict", predict)
    return dataset, tmp_path, loaded


def test_frames_are_evenly_spaced_and_counted_detections_are_marked(kept) -> None:
    dataset, folder, loaded = kept
    found = results.examples([run(folder, 0), run(folder, 1)], count=2)
    assert [np.array_equal(e.image, dataset.image(i)) for e, i in zip(found, (0, 2), strict=True)] == [True, True]
    ((experiment, weights),) = loaded
    assert experiment.seed == 1 and weights == folder / "seed1" / runs.WEIGHTS
    for example in found:
        assert example.hit.tolist() == [True, True, True, False]
        assert example.missed.tolist() == [False, False, False, True]
        assert example.title == "discs: 3 hit, 1 missed, 1 false"


def test_frames_of_real_data_are_not_shown(kept) -> None:
    _, folder, _ = kept
    with pytest.raises(CrowdlocError, match="mall is a real data set"):
        results.examples([run(folder, 1, "mall")])
    with pytest.raises(CrowdlocError, match="counts without locating"):
        results.examples([run(folder, 1, threshold=None)])
    with pytest.raises(CrowdlocError, match="keeps its weights"):
        results.examples([run(folder, 0)])


def test_every_method_with_weights_is_shown_on_the_same_frames(kept) -> None:
    dataset, folder, _ = kept
    other = Run(Experiment("synthcrowd-sense", "mini", "stanet", 0), "stored", None, None, 0.5, {}, folder / "seed9")
    table = {"gnanet": [run(folder, 0), run(folder, 1)], "raznet": [], "stanet": [other]}
    (found,) = results.examples_by_method(table)
    assert found.title == "GNANet, discs: 3 hit, 1 missed, 1 false"
    (folder / "seed9").mkdir()
    (folder / "seed9" / runs.WEIGHTS).write_bytes(b"")
    both = results.examples_by_method(table)
    assert [e.title.split(",")[0] for e in both] == ["GNANet", "STANet"]
    assert all(np.array_equal(e.image, dataset.image(0)) for e in both)

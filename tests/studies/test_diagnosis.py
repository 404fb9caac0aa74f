"""What enters the head of a GNANet: shares that add to one, inputs of the shapes that the docstring states."""

from __future__ import annotations

import pytest
import torch
from helpers import disc_video

from crowdloc.core.errors import CrowdlocError
from crowdloc.models import build_model, initialise
from crowdloc.results import runs
from crowdloc.results.experiments import Experiment
from crowdloc.studies import diagnosis

ID = "synthcrowd-sense-mini/gnanet/seed0"


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """Networks with random weights instead of the stored ones, on frames with discs."""

    def load_model(experiment, path):
        assert path is None
        model = build_model(experiment.method, width=1 / 64)
        initialise(model, experiment.seed)
        return model.eval()

    monkeypatch.setattr(runs, "load_model", load_model)
    monkeypatch.setattr(Experiment, "load", lambda self, split: disc_video(tmp_path, frames=5))


def test_terms_of_the_sum():
    table = diagnosis.fusion_terms(ID, images=2)
    terms = table.drop(index="sum")
    assert terms["share of sum"].sum() == pytest.approx(1, abs=1e-5)
    assert table["fine share"].between(0, 1).all() and table.loc["keyframe feature", "variance"] == 1
    assert table["fine"].to_numpy() == pytest.approx((table["fine share"] * table["variance"]).to_numpy())
    assert table["like a plain average"].dropna().abs().max() < 1 + 1e-5
    assert table["like a plain average"].notna().tolist() == [False, True, True, False]


def test_fine_variance_is_what_a_mean_takes_away():
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(1, 1, 10, 10)  # nearly all of it
    slope = torch.arange(400.0).reshape(1, 1, 20, 20)  # none of it but at the border
    assert diagnosis._fine_variance(checks) > 0.7 * diagnosis._covariance(checks, checks)
    assert diagnosis._fine_variance(slope) < 0.01 * diagnosis._covariance(slope, slope)


def test_only_a_gnanet_has_attention_to_look_at():
    with pytest.raises(CrowdlocError, match="no GNANet with keyframe and temporal attention"):
        diagnosis.attention_inputs("synthcrowd-sense-mini/raznet/seed0", images=1)


def test_inputs_have_one_keyframe_and_one_context_per_clip():
    model, inputs = diagnosis.attention_inputs(ID, images=2)
    batch, frames = inputs["clips"].shape[:2]
    assert (batch, frames) == (2, len(model.offsets))
    assert inputs["context"].shape == inputs["keyframe"].shape == inputs["clips"][:, 0].shape
    assert (inputs["keyframe"] == inputs["clips"][:, frames // 2]).all()


def test_what_was_trained_here_is_looked_into_at_that_depth(tmp_path, monkeypatch):
    trained, looked = [], []
    folder = tmp_path / "trained"
    monkeypatch.setattr(runs, "trained", lambda experiment: folder)

    def train(experiment):
        trained.append(experiment.id)
        folder.mkdir()
        (folder / runs.TRAINING).touch()

    monkeypatch.setattr(runs, "train", train)
    monkeypatch.setattr(runs, "load_model", lambda experiment, path: looked.append(path))
    for _ in range(2):
        with pytest.raises(CrowdlocError, match="is no GNANet"):
            diagnosis.attention_inputs(ID, source="train")
    assert trained == [ID] and looked == [folder / runs.WEIGHTS] * 2
    with pytest.raises(CrowdlocError, match="source='all': choose stored, weights, train"):
        diagnosis.fusion_terms(ID, source="all")

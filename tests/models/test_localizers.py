"""The losses of the map networks: they notice a change of the target, and every parameter learns from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.inference.windows import predict
from crowdloc.metrics import localization_scores
from crowdloc.models import Prediction, build_model, initialise
from crowdloc.models.localizer import head_share
from crowdloc.models.method import Sample
from crowdloc.results import evidence as ev
from tests.helpers import disc_video

NAMES = ("raznet", "frame-stack", "gnanet", "s-gnanet")
SMALL = {"width": 1 / 32, "norm": "batch"}
HEADS = ((20.0, 10.0), (9.0, 21.0))


def started(name, **options):
    """A network away from its start, where the head's last layer gives the same answer everywhere."""
    torch.manual_seed(0)
    return build_model(name, **SMALL, **options)


def sample(model, heads=HEADS, size=(32, 40)):
    """Two clips with these heads in the keyframe of the first; all other frames have another head."""
    frames = len(model.offsets)
    images = torch.randn(2, frames, 3, *size, generator=torch.Generator().manual_seed(0))
    other = torch.tensor([[3.0, 3.0]], dtype=torch.float64)
    points = [[other] * frames, [other] * frames]
    points[0] = [torch.tensor(heads, dtype=torch.float64).reshape(-1, 2) if o == 0 else other for o in model.offsets]
    return Sample(images, None, points, None, size)


def total(model, batch) -> float:
    return float(sum(model.loss(batch, 0).values()).detach())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("moved", [((23.0, 10.0), (9.0, 21.0)), ((20.0, 10.0),), ()])
def test_the_loss_notices_a_change_of_the_keyframes_heads(name, moved):
    model = started(name)
    before, after = total(model, sample(model)), total(model, sample(model, moved))
    assert np.isfinite(after) and abs(after - before) > 1e-4 * before


@pytest.mark.parametrize("name", ["frame-stack", "gnanet"])
def test_heads_of_neighbouring_frames_are_not_asked_for(name):
    model = started(name)
    batch = sample(model)
    elsewhere = [[p if o == 0 else p + 5 for o, p in zip(model.offsets, clip, strict=True)] for clip in batch.points]
    assert total(model, batch) == total(model, batch._replace(points=elsewhere))


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_reaches_every_parameter_also_without_any_head(name):
    for heads in (HEADS, ()):
        model = started(name)
        sum(model.loss(sample(model, heads), 0).values()).backward()
        assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("name", NAMES)
def test_behind_a_frozen_backbone_all_else_learns(name):
    model = started(name)
    model.backbone.requires_grad_(False)
    sum(model.loss(sample(model), 0).values()).backward()
    for parameter_name, p in model.named_parameters():
        assert (p.grad is not None) != parameter_name.startswith("backbone.")


def test_a_data_set_without_heads_gives_a_start_and_an_answer(tmp_path):
    video = disc_video(tmp_path, frames=2)
    empty = ClipDataset([type(f)(f.id, f.scene, f.path, []) for f in video.frames], name="empty")
    assert head_share(empty) == pytest.approx(head_share(video) / sum(len(f.points) for f in video.frames))
    model = build_model("raznet", **SMALL)
    initialise(model, 0)
    model.prepare(empty)
    found = predict(model, empty, progress=False)
    assert all(p.points.shape == (len(p.scores), 2) for p in found)


def test_no_detection_at_all_is_no_error(tmp_path):
    video = disc_video(tmp_path, frames=2)
    nothing = [Prediction(np.zeros((0, 2)), np.zeros(0)) for _ in video.frames]
    found = ev.measure(nothing, video, scale=1.0)
    assert isinstance(found, ev.Evidence) and found.localization["20"]["mAP"] == 0
    assert found.counts(0.5).tolist() == [0, 0]
    scores = localization_scores([(p.points, p.scores) for p in nothing], [f.points for f in video.frames])
    assert (scores == 0).all(axis=None)


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_of_another_length_is_refused(name):
    model = started(name)
    with pytest.raises(ValueError, match=f"clips have 5 frames but {type(model).__name__} looks at"):
        model(torch.zeros(1, 5, 3, 8, 8))


def test_options_that_do_not_exist_are_named():
    with pytest.raises(CrowdlocError, match="raznet has no option 'gama'"):
        build_model("raznet", gama=3)

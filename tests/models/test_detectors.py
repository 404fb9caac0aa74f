"""Faster R-CNN and FCOS: torchvision's sizes, rules for boxes, determinism, and a video of discs that they learn."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.inference.windows import predict
from crowdloc.metrics import localization_scores
from crowdloc.models import build_model, initialise, load_pretrained, parameter_count
from crowdloc.models.detectors import oracle_predictions
from crowdloc.models.method import Sample
from crowdloc.models.parts.resnet import ResNet50
from crowdloc.training.batches import TrainingBatches
from tests.helpers import disc_video

NAMES = ("faster-rcnn", "fcos")
SMALL = {"width": 1 / 4, "feature_width": 1 / 8, "norm": "batch"}
TERMS = {
    "faster-rcnn": {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"},
    "fcos": {"classification", "bbox_regression", "bbox_ctrness"},
}


def boxed(video: ClipDataset, reach: float = 6.0) -> ClipDataset:
    """The discs with boxes around them."""
    frames = [dataclasses.replace(f, boxes=np.hstack([f.points - reach, f.points + reach])) for f in video.frames]
    return ClipDataset(frames, name=video.name)


def sample(boxes=((4.0, 6.0, 15.0, 18.0), (20.0, 9.0, 31.0, 20.0)), size=(32, 40)):
    images = torch.randn(2, 1, 3, *size, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    points = [[(boxes[:, :2] + boxes[:, 2:]) / 2], [torch.zeros(0, 2)]]
    return Sample(images, None, points, [[boxes], [torch.zeros(0, 4)]], size)  # the second clip is empty


def started(name, **options):
    torch.manual_seed(0)
    return build_model(name, **{**SMALL, **options})


@pytest.mark.parametrize(("name", "count"), [("faster-rcnn", 41_352_281), ("fcos", 32_115_270)])
def test_parameters_at_full_width_are_torchvisions(name, count):
    from torchvision.models import detection

    with torch.device("meta"):
        model = build_model(name)
        make = {"faster-rcnn": detection.fasterrcnn_resnet50_fpn, "fcos": detection.fcos_resnet50_fpn}[name]
        theirs = make(weights=None, weights_backbone=None, num_classes={"faster-rcnn": 2, "fcos": 1}[name])
    assert parameter_count(model) == parameter_count(theirs) == count
    own = sorted(tuple(p.shape) for p in model.parameters())
    assert own == sorted(tuple(p.shape) for p in theirs.parameters())


def test_the_full_detectors_maps_have_torchvisions_strides():
    with torch.device("meta"):
        for name, strides in (("faster-rcnn", (4, 8, 16, 32)), ("fcos", (8, 16, 32))):
            model = build_model(name)
            maps = model.encode(torch.zeros(1, 3, 60, 90))  # padded to 64 × 96
            assert [tuple(m.shape[-2:]) for m in maps] == [(64 // s, 96 // s) for s in strides]
            levels, images = model.levels(maps)
            assert (
                list(levels) == {"faster-rcnn": ["0", "1", "2", "3", "pool"], "fcos": ["0", "1", "2", "p6", "p7"]}[name]
            )
            assert images.image_sizes == [(64, 96)]


def test_settings_are_those_of_crowds():
    faster, fcos = started("faster-rcnn").detector, started("fcos").detector
    heads = faster.roi_heads
    assert (heads.score_thresh, fcos.score_thresh) == (0.05, 0.05)
    assert heads.detections_per_img >= 1000 and fcos.detections_per_img >= 1000 and fcos.topk_candidates >= 1000
    assert faster.rpn._post_nms_top_n["testing"] >= 1000
    assert faster.rpn.anchor_generator.sizes[0][0] == 8
    with torch.device("meta"):
        assert build_model("faster-rcnn").detector.rpn.anchor_generator.sizes == ((8,), (16,), (32,), (64,), (128,))


@pytest.mark.parametrize("name", NAMES)
def test_terms_are_torchvisions_and_every_parameter_gets_a_gradient(name):
    model = started(name)
    terms = model.loss(sample(), 0)
    assert set(terms) == TERMS[name] and all(torch.isfinite(value) for value in terms.values())
    sum(terms.values()).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_a_function_of_run_seed_and_step_and_notices_the_target(name):
    model = started(name)  # batch norms use the batch, so that calls do not change each other
    if name == "faster-rcnn":
        model.detector.rpn.head.cls_logits.weight.data.mul_(100)  # anchors must differ for their choice to matter

    def total(batch, step, seed=0):
        model.run_seed = seed
        torch.manual_seed(torch.seed())  # whatever the generator's state
        return sum(model.loss(batch, step).values()).item()

    assert total(sample(), 0) == total(sample(), 0)
    if name == "faster-rcnn":  # it draws proposals
        assert len({total(sample(), 0), total(sample(), 1), total(sample(), 0, seed=1)}) == 3
    moved = sample(boxes=[(6.0, 6.0, 17.0, 18.0), (20.0, 9.0, 31.0, 20.0)])
    assert total(sample(), 0) != total(moved, 0) != total(sample(boxes=[]), 0)


@pytest.mark.parametrize("name", NAMES)
def test_boxes_without_area_and_outside_are_left_out_and_others_clipped(name):
    boxes = [(5, 5, 5, 9), (2, 2, 9, 2), (-30, 4, -20, 9), (50, 50, 60, 60), (-4, -4, 5, 6), (30, 20, 60, 60)]
    model = started(name)
    target = model.target(torch.tensor(boxes, dtype=torch.float64), (32, 40), torch.device("cpu"))
    # torchvision's coordinates begin at the corner of the first pixel: half a pixel more.
    assert target["boxes"].tolist() == [[0.0, 0.0, 5.5, 6.5], [30.5, 20.5, 40.0, 32.0]]
    assert target["labels"].tolist() == 2 * [{"faster-rcnn": 1, "fcos": 0}[name]]
    kept = sample(boxes=boxes[-2:])
    first, second = (sum(started(name).loss(b, 0).values()).item() for b in (sample(boxes=boxes), kept))
    assert first == second


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_is_all_background(name):
    terms = started(name).loss(sample(boxes=[]), 0)
    assert all(torch.isfinite(value) for value in terms.values())
    assert terms["loss_box_reg" if name == "faster-rcnn" else "bbox_regression"].item() == 0


@pytest.mark.parametrize("name", NAMES)
def test_data_without_boxes_are_refused(name, tmp_path):
    video = disc_video(tmp_path)
    with pytest.raises(CrowdlocError, match=r"(FasterRCNN|FCOS) needs boxes, but discs has none \(image 000\)"):
        started(name).prepare(video)
    with pytest.raises(CrowdlocError, match="learns from boxes"):
        started(name).loss(sample()._replace(boxes=None), 0)
    with pytest.raises(CrowdlocError, match="the oracle of detectors needs boxes, but discs has none"):
        oracle_predictions(video)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(32, 40), (33, 47), (8, 8), (1, 1)])
@torch.inference_mode()
def test_detections_lie_in_the_image_whatever_its_size(name, size):
    model = started(name).eval()
    last = model.detector.roi_heads.box_predictor.cls_score if name == "faster-rcnn" else None
    if last is None:
        torch.nn.init.constant_(model.detector.head.classification_head.cls_logits.bias, 1.0)
    else:
        torch.nn.init.constant_(last.bias, 0.0)
    maps = model.encode(torch.randn(1, 3, *size))
    found = model.decode([tuple(stage[0] for stage in maps)], size)
    assert found.points.shape == (len(found.scores), 2) and found.count is None
    assert len(found.scores) > 0 or size == (1, 1)
    assert (found.points >= -0.5).all() and (found.points < (size[1] - 0.5, size[0] - 0.5)).all()
    assert (found.scores >= 0.05).all() and (found.scores <= 1).all() and (np.diff(found.scores) <= 0).all()


def test_a_boxs_centre_is_the_point(monkeypatch):
    model = started("fcos")
    boxes = torch.tensor([[10.0, 6.0, 15.0, 13.0], [30.0, 0.0, 50.0, 8.0]])  # the second is centred in the padding
    monkeypatch.setattr(model, "detect", lambda *_: [{"boxes": boxes, "scores": torch.tensor([0.9, 0.8])}])
    maps = model.encode(torch.randn(1, 3, 30, 39))
    found = model.decode([tuple(stage[0] for stage in maps)], (30, 39))
    np.testing.assert_allclose(found.points, [[12.0, 9.0]])
    target = model.target(torch.tensor([[9.5, 5.5, 14.5, 12.5]]), (30, 39), torch.device("cpu"))["boxes"]
    torch.testing.assert_close(target, boxes[:1])  # there and back


def test_the_oracle_says_what_perfect_boxes_are_worth(tmp_path):
    video = boxed(disc_video(tmp_path))
    for prediction, frame in zip(oracle_predictions(video), video.frames, strict=True):
        np.testing.assert_allclose(prediction.points, frame.points)
        assert (prediction.scores == 1).all()
    empty = ClipDataset([dataclasses.replace(video.frames[0], points=[], boxes=[])], name="none")
    assert oracle_predictions(empty)[0].points.shape == (0, 2)


@pytest.mark.parametrize("name", NAMES)
def test_torchvisions_initialisation_is_a_function_of_the_seed(name, tmp_path):
    video, states = boxed(disc_video(tmp_path)), []
    for seed in (1, 1, 2):
        model = build_model(name, **SMALL)
        model.run_seed = seed
        initialise(model, seed)
        front = model.backbone.features[0].weight.clone()
        model.prepare(video)
        assert torch.equal(front, model.backbone.features[0].weight)  # the one that all methods share
        states.append(model.state_dict())
    first, second, other = states
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first if key.startswith("detector."))
    if name == "fcos":
        bias = first["detector.head.classification_head.cls_logits.bias"].item()
        assert bias == pytest.approx(-np.log(99), rel=1e-4)
    else:
        assert first["detector.rpn.head.cls_logits.weight"].std() < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_boxes_are_exact_under_autocast(name):
    """In bfloat16 the places of anchors beyond 256 pixels would be multiples of 2."""
    model = started(name)
    with torch.autocast("cpu", torch.bfloat16):
        levels, _ = model.levels(model.encode(torch.randn(1, 3, 16, 32)))
        terms = model.loss(sample(), 0)
    assert all(stage.dtype == torch.float32 for stage in levels.values())
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in terms.values())


@pytest.mark.parametrize("name", NAMES)
def test_broken_weights_are_noticed(name, tmp_path):
    model = started(name)
    part = model.detector.rpn.head.cls_logits if name == "faster-rcnn" else model.detector.head.regression_head.bbox_reg
    torch.nn.init.constant_(part.bias, float("nan"))
    with pytest.raises(CrowdlocError, match="not finite"):
        predict(model, disc_video(tmp_path, frames=1), progress=False)


def test_resnet_takes_torchvisions_weights(tmp_path):
    model = ResNet50(stages=3)
    state = {k: torch.full_like(v, 0.25) for k, v in model.state_dict().items() if v.is_floating_point()}
    save_file(state | {"fc.bias": torch.zeros(1000)}, tmp_path / "resnet50.safetensors")
    assert "resnet50.safetensors" in load_pretrained(model, tmp_path / "resnet50.safetensors")
    assert model.layer4[2].conv3.weight.unique().tolist() == [0.25]
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "odd.safetensors")
    with pytest.raises(CrowdlocError, match="odd.safetensors does not hold ResNet50 conv1.weight"):
        load_pretrained(model, tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match="feature_width"):
        build_model("fcos", feature_width=0.5)


def test_models_are_imported_without_torchvision():
    code = "import sys, crowdloc.models.stanet, crowdloc.models.fcos, crowdloc.models.faster_rcnn as f; "
    assert (
        subprocess.run([sys.executable, "-c", code + "sys.exit('torchvision' in sys.modules)"], check=False).returncode
        == 0
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rate", "steps"), [("faster-rcnn", 3e-3, 100), ("fcos", 3e-3, 100)])
def test_it_learns_a_video_of_discs(name, rate, steps, tmp_path):
    video = boxed(disc_video(tmp_path, frames=2, size=(48, 64)))
    model = build_model(name, width=1 / 8, norm="batch")
    model.run_seed = 1
    initialise(model, 1)
    model.prepare(video)
    batches = TrainingBatches(video, offsets=model.offsets, crop=None, batch_size=2, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for step in range(steps):
        optimizer.zero_grad()
        sum(model.train().loss(batches.batch(step), step).values()).backward()
        optimizer.step()
        schedule.step()
    found = predict(model, video, progress=False)
    scores = localization_scores([(p.points, p.scores) for p in found], [f.points for f in video.frames])
    assert scores.loc[20, "AP.50"] > 0.9 and scores.loc[5, "AP.50"] > 0.6

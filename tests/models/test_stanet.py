"""STANet: its layers are counted, its targets and sums checked by hand, and it learns a video of discs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crowdloc.core.errors import CrowdlocError
from crowdloc.inference.windows import predict
from crowdloc.metrics import localization_scores
from crowdloc.models import VGG16Frontend, build_model, initialise, parameter_count
from crowdloc.models.method import Sample
from crowdloc.models.parts.deformable import ModulatedDeformableConv
from crowdloc.models.parts.scales import ChannelGate, Fusion, SpatialGate
from crowdloc.models.peaks import peak_map, window_peaks
from crowdloc.models.stanet import WEIGHTS
from crowdloc.results import evidence as ev
from crowdloc.training.batches import TrainingBatches
from tests.helpers import disc_video

SMALL = {"width": 1 / 16, "norm": "batch"}


def sample(points=((20.0, 10.0), (9.0, 21.0)), size=(32, 40), seed=0):
    images = torch.randn(2, 2, 3, *size, generator=torch.Generator().manual_seed(seed))
    heads = torch.tensor(points, dtype=torch.float64).reshape(-1, 2)
    return Sample(images, None, [[heads, heads + 1], [heads + 2, heads[:1]]], None, size)


@torch.inference_mode()
def predicted(model, size):
    maps = model.eval().encode(torch.randn(2, 3, *size))
    return model.decode([tuple(stage[i] for stage in maps) for i in (0, 1)], size)


def test_parameters_at_full_width():
    with torch.device("meta"):
        model = build_model("stanet")
    parts = {name: parameter_count(part) for name, part in model.named_children()}
    assert parts["backbone"] == 7_635_264 and parts["refine"] == 2_608_694 and parts["gates"] == 3 * 98
    assert parts["to_middle"] + parts["to_fine"] == 2_376_832
    assert parts["localization"] == 16_378
    assert parameter_count(model) == 12_639_504


def test_it_looks_at_the_frame_before_and_shares_the_backbone_of_the_others():
    model = build_model("stanet", width=1 / 4, feature_width=1 / 8, norm="batch")
    assert model.offsets == (-1, 0) and model.keyframe == 1 and model.yields == ("points", "count")
    other = VGG16Frontend(width=1 / 4, feature_width=1 / 8, norm="batch").state_dict()
    assert {k: v.shape for k, v in model.backbone.state_dict().items()} == {k: v.shape for k, v in other.items()}


@pytest.mark.parametrize("size", [(32, 40), (33, 47), (8, 8), (1, 1)])
@pytest.mark.parametrize("peaks", ["shared", "window"])
def test_points_lie_in_the_image_whatever_its_size(size, peaks):
    model = build_model("stanet", peaks=peaks, **SMALL)
    torch.nn.init.constant_(model.localization.merge[-1].bias, 0.5)  # everything is a head
    model.eval().localization.merge[-1].weight.data.mul_(10)
    found = predicted(model, size)
    assert found.points.shape == (len(found.scores), 2) and np.isfinite(found.count) and found.count >= 0
    assert (found.points >= 0).all() and (found.points <= (size[1] - 1, size[0] - 1)).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all() and (np.diff(found.scores) <= 0).all()


def test_maps_are_those_of_two_frames_at_three_scales():
    model = build_model("stanet", **SMALL)
    found = model(model.features(sample()))
    shapes = [(2, 2, 16, 20), (2, 2, 8, 10), (2, 2, 4, 5), (2, 2, 16, 20)]
    assert {name: [tuple(m.shape) for m in maps] for name, maps in found.items()} == {
        "localization": shapes,
        "density": shapes,
    }


def test_the_order_of_the_frames_does_not_change_their_sum():
    model = build_model("stanet", **SMALL)
    maps = model.features(sample())
    a, b = model(maps), model(tuple(stage.flip(1) for stage in maps))
    torch.testing.assert_close(a["density"][-1], b["density"][-1])


def test_frames_that_are_concatenated_begin_as_a_sum_and_can_be_told_apart():
    summed, joined = (build_model("stanet", join=join, **SMALL) for join in ("sum", "concat"))
    initialise(joined, 0)
    for part in joined.join:
        part.begin_as_sum()
    summed.load_state_dict({k: v for k, v in joined.state_dict().items() if not k.startswith("join.")})
    features = summed.eval().encode(torch.randn(2, 3, 32, 40))
    pair = tuple(stage[None] for stage in features)
    for name, maps in joined.eval()(pair).items():
        for found, expected in zip(maps, summed(pair)[name], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    extra = parameter_count(joined) - parameter_count(summed)
    assert extra == sum(2 * stage.shape[1] ** 2 for stage in features)
    with torch.no_grad():
        for part in joined.join:
            part.mix.weight[:, : part.mix.in_channels // 2] *= 0.5
    swapped = tuple(stage.flip(1) for stage in pair)
    assert not torch.allclose(joined(pair)["localization"][-1], joined(swapped)["localization"][-1])
    with pytest.raises(ValueError, match="join must be sum or concat, got 'mean'"):
        build_model("stanet", join="mean", **SMALL)


def test_preparing_for_data_makes_the_concatenation_a_sum(tmp_path):
    model = build_model("stanet", join="concat", **SMALL)
    initialise(model, 0)
    model.prepare(disc_video(tmp_path))
    for part in model.join:
        weight = part.mix.weight[:, :, 0, 0]
        assert torch.equal(weight, torch.cat(2 * [torch.eye(len(weight))], dim=1))


def test_every_parameter_gets_a_gradient():
    for norm in ("none", "batch"):
        torch.manual_seed(0)
        model = build_model("stanet", width=1 / 16, norm=norm)
        sum(model.loss(sample(), 0).values()).backward()
        assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0], norm


def test_the_loss_is_the_authors_up_to_a_factor():
    """Sums of squares weighted 2, .5, .05 and 2, localization times 1e-4, mean over frames and clips."""
    model = build_model("stanet", **SMALL).eval()  # sigma is 5 before `prepare`
    batch = sample()
    with torch.no_grad():
        found, got = model(model.features(batch)), model.loss(batch, 0)
    targets = model.targets(batch, (16, 20))
    for branch, factor in (("localization", 1.0), ("density", 1e4)):
        total = 0.0
        for clip in range(2):
            for frame in range(2):
                for level, maps, weight in zip((0, 1, 2, 0), found[branch], (2.0, 0.5, 0.05, 2.0), strict=True):
                    cells, wanted = 2**level, targets[branch][clip, frame]
                    sums = wanted.reshape(16 // cells, cells, 20 // cells, cells).sum(dim=(1, 3))
                    total += weight * float((maps[clip, frame] - sums).square().sum())
        assert got[branch].item() == pytest.approx(factor * total / 4 / (32 * 40), rel=1e-4)


@pytest.mark.parametrize("moved", [[(24.0, 10.0), (9.0, 21.0)], [(20.0, 10.0)], []])
def test_the_loss_notices_a_change_of_the_target(moved):
    model = build_model("stanet", **SMALL).eval()
    for name, value in model.loss(sample(), 0).items():
        assert abs(value.item() - model.loss(sample(points=moved), 0)[name].item()) > 1e-4 * value.item()


def test_targets_mark_heads_in_cells_of_two_pixels_and_sum_to_the_count():
    model = build_model("stanet", sigma=1.0, **SMALL)
    made = model.targets(sample(points=[(20.0, 10.0), (7.0, 0.0)], size=(33, 39)), (20, 20))  # padded to 40 × 40
    first = made["localization"][0, 0]
    assert first.shape == (20, 20) and first[5, 10] == 1 and first[0, 3] == 1 and (first == 1).sum() == 2
    assert first[5, 11].item() == pytest.approx(np.exp(-0.5)) and first[5, 14] == 0  # cut off at 3 sigma
    np.testing.assert_allclose(made["density"].sum(dim=(2, 3)), [[2, 2], [2, 1]], rtol=1e-5)
    assert made["density"][..., 17:, :].sum() == 0


def test_sigma_follows_the_height_of_the_images_and_so_do_the_losses(tmp_path):
    video = disc_video(tmp_path, size=(48, 64))
    model, given = build_model("stanet", **SMALL), build_model("stanet", sigma=2.0, **SMALL)
    model.prepare(video)
    given.prepare(video)
    assert model.sigma == pytest.approx(5 * 48 / 1080) and given.sigma == 2.0
    # Twice the pixels per head: localization has four times the squares, density a quarter.
    errors = [torch.ones(1, 1, n, n) for n in (8, 4, 2, 8)]
    assert sum(w * e.sum() for w, e in zip(WEIGHTS, errors, strict=True)) == 2 * 64 + 0.5 * 16 + 0.05 * 4 + 2 * 64
    empty = sample(points=[])
    before = {k: v.item() for k, v in given.eval().loss(empty, 0).items()}
    given.sigma = 4.0
    after = {k: v.item() for k, v in given.loss(empty, 0).items()}
    assert after["localization"] < before["localization"] / 3 and after["density"] > 3.5 * before["density"]


def test_the_authors_initialisation_is_a_function_of_the_seed(tmp_path):
    video = disc_video(tmp_path)
    models = [build_model("stanet", width=1 / 16) for _ in range(2)]
    for model in models:
        model.run_seed = 3
        initialise(model, 3)
        model.prepare(video)
    first, second = (model.to_fine.enlarge[0].weight for model in models)
    assert torch.equal(first, second) and first.std().item() == pytest.approx(0.01, rel=0.1)
    assert models[0].refine[0].where.bias.abs().max() == 0
    assert models[0].backbone.features[0].weight.std() > 0.05  # the front-end keeps its own


def test_a_deformable_convolution_without_offsets_is_half_a_convolution():
    """Offsets 0 and weights sigmoid(0) = .5."""
    layer = ModulatedDeformableConv(4, 6, groups_of_offsets=2)
    for parameter in layer.where.parameters():
        torch.nn.init.zeros_(parameter)
    maps = torch.randn(2, 4, 7, 5)
    expected = torch.nn.functional.conv2d(maps, layer.weight / 2, layer.bias, padding=1)
    torch.testing.assert_close(layer(maps), expected, rtol=1e-4, atol=1e-5)
    torch.nn.init.constant_(layer.where.bias[:36], 1.0)  # offsets 1 down and 1 right, weights still .5
    shifted = torch.nn.functional.pad(maps, (0, 1, 0, 1))[..., 1:, 1:]
    inside = torch.nn.functional.conv2d(shifted, layer.weight / 2, layer.bias, padding=1)[..., 1:-2, 1:-2]
    torch.testing.assert_close(layer(maps)[..., 1:-2, 1:-2], inside, rtol=1e-4, atol=1e-5)


def test_gates_and_the_dilated_deconvolution():
    maps = torch.randn(2, 6, 5, 4)
    channel = ChannelGate(6)(maps) / maps
    assert ((channel >= 0.5 - 1e-6) & (channel < 1)).all()  # a ReLU comes before the sigmoid
    torch.testing.assert_close(channel, channel[..., :1, :1].expand_as(maps))
    spatial = SpatialGate()(maps) / maps
    torch.testing.assert_close(spatial, spatial[:, :1].expand_as(maps))
    assert Fusion(6, 3).enlarge(maps).shape == (2, 3, 12, 10)  # 2H + 2, then resized to the finer map
    assert Fusion(6, 3)(maps, torch.randn(2, 3, 10, 7)).shape == (2, 3, 10, 7)


def test_overlapping_peaks_keep_the_larger_one_and_borders_cut():
    made = peak_map(np.array([(2.0, 3.0), (4.0, 3.0), (0.0, 0.0), (99.0, -5.0)]), 1.0, (7, 9))
    assert (made == 1).sum() == 4 and made[0, 8] == 1  # outside moves to the border
    assert made[3, 3] == pytest.approx(np.exp(-0.5))  # between two heads: no sum
    assert peak_map(np.zeros((0, 2)), 5.0, (4, 4)).sum() == 0


def test_the_authors_peak_rule():
    values = np.zeros((20, 20), np.float32)
    values[5, 5], values[5, 7], values[15, 10:12], values[0, 19] = 0.9, 0.8, 0.3, 0.004
    found = window_peaks(values)
    np.testing.assert_array_equal(found.points, [[5, 5], [10.5, 15]])  # 8×8 hides the second, .004 is too weak
    np.testing.assert_allclose(found.scores, [0.9, 0.3], rtol=1e-6)
    assert len(window_peaks(np.zeros((3, 3), np.float32)).points) == 0
    with pytest.raises(ValueError, match="NaN"):
        window_peaks(np.full((3, 3), np.nan, np.float32))
    with pytest.raises(ValueError, match="peaks must be shared or window"):
        build_model("stanet", peaks="best", **SMALL)


def test_a_cell_is_decoded_to_its_centre(monkeypatch):
    model = build_model("stanet", **SMALL)
    located = torch.from_numpy(peak_map(np.array([(10.0, 5.0)]), 1.3, (16, 20)))
    maps = torch.stack([torch.zeros(16, 20), located])[None]
    monkeypatch.setattr(model, "forward", lambda features: {"localization": [maps], "density": [0.5 * maps]})
    found = predicted(model, (32, 40))
    np.testing.assert_allclose(found.points, [[20.5, 10.5]], atol=1e-6)  # pixels 20 and 21, 10 and 11
    assert found.count == pytest.approx(0.5 * located.sum().item(), rel=1e-5)


def test_broken_weights_are_noticed(tmp_path):
    model = build_model("stanet", **SMALL)
    torch.nn.init.constant_(model.localization.merge[-1].bias, float("nan"))
    with pytest.raises(CrowdlocError, match="not finite"):
        predict(model, disc_video(tmp_path), progress=False)


def test_it_learns_a_video_of_discs_and_yields_points_and_counts(tmp_path):
    video = disc_video(tmp_path, frames=2, size=(48, 64))
    model = build_model("stanet", width=1 / 8, norm="batch", sigma=1.3)
    model.run_seed = 1
    initialise(model, 1)
    model.prepare(video)
    batches = TrainingBatches(video, offsets=model.offsets, crop=None, batch_size=2, seed=0)
    steps = 80
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for step in range(steps):
        optimizer.zero_grad()
        sum(model.train().loss(batches.batch(step), step).values()).backward()
        optimizer.step()
        schedule.step()
    found = predict(model, video, progress=False)
    scores = localization_scores([(p.points, p.scores) for p in found], [f.points for f in video.frames])
    assert scores.loc[20, "AP.50"] > 0.9 and scores.loc[5, "AP.50"] > 0.6
    assert np.abs([p.count - 4 for p in found]).max() < 1.5
    assert isinstance(ev.measure(found, video, scale=1.0), ev.Evidence)  # points come first in validation

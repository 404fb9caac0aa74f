"""What holds for every network that counts: shapes, gradients, odd sizes, empty images, kept maps, learning."""

import itertools

import numpy as np
import pytest
import torch
from helpers import disc_video

from crowdloc.inference.maps import keep_maps
from crowdloc.inference.windows import predict
from crowdloc.models import METHODS, build_model, initialise, normalise, parameter_count
from crowdloc.models.method import Sample
from crowdloc.models.recipes import get_preset
from crowdloc.results.evidence import CountEvidence, measure
from crowdloc.results.experiments import TABLES, experiments_of
from crowdloc.results.verdicts import MOST_OVERFIT_MAE
from crowdloc.training.batches import frames_seen
from crowdloc.training.loop import new_model, train

SMALL = {
    "mcnn": {"norm": "batch"},
    "csrnet": {"width": 1 / 16, "norm": "batch"},
    "bayesian": {"width": 1 / 16, "norm": "batch"},
    "convlstm": {"width": 1 / 8},
    "lstn": {"width": 1 / 16, "norm": "batch"},
    "epf": {"width": 1 / 16, "norm": "batch"},
}
OFFSETS = {"mcnn": (0,), "csrnet": (0,), "bayesian": (0,), "convlstm": (-1, 0, 1), "lstn": (0, 1), "epf": (-1, 0, 1)}
every = pytest.mark.parametrize("name", SMALL)


def made(name, seed=0):
    model = build_model(name, **SMALL[name])
    initialise(model, seed)
    model.reset_output(0.05)
    return model


def sample(model, size=(33, 47), batch=2, heads=3, seed=0):
    random = np.random.default_rng(seed)
    frames = len(model.offsets)
    points = [[torch.from_numpy(random.random((heads, 2)) * (size[1] - 1, size[0] - 1)) for _ in range(frames)]
              for _ in range(batch)]  # fmt: skip
    images = torch.from_numpy(random.standard_normal((batch, frames, 3, *size))).float()
    return Sample(images, None, points, None, size)


def total(model, batch, step=0):
    return sum(model.loss(batch, step).values())


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("mcnn", {}, 127_953),
        ("mcnn", {"grey": False}, 133_705),
        ("csrnet", {}, 16_263_489),
        ("bayesian", {}, 21_499_457),
        ("convlstm", {}, 2 * 1_637_120 + 129),
        ("convlstm", {"kernel": 5}, 9_090_689),
        ("lstn", {"blocks": (1, 2)}, 16_363_409),
        ("epf", {}, 20_463_370),
    ],
)
def test_parameter_counts_at_full_size(name, options, count):
    with torch.device("meta"):
        assert parameter_count(build_model(name, **options)) == count


@every
def test_counters_say_what_they_yield_and_look_at(name):
    model = made(name)
    assert (model.yields, model.offsets) == (("count",), OFFSETS[name])
    assert METHODS[name].start == ("raznet" if name in ("csrnet", "epf", "lstn") else None)
    assert METHODS[name].counts and model.keeps_maps == (name != "lstn")


@every
@pytest.mark.parametrize("size", [(32, 40), (33, 47), (8, 8), (1, 1), (65, 7)])
def test_any_size_gives_one_count(name, size):
    model = made(name).eval()
    with torch.no_grad():
        frames = [tuple(m[0] for m in model.encode(torch.randn(1, 3, *size))) for _ in model.offsets]
        density = model.keyframe_density(frames, size)
        found = model.decode(frames, size)
    assert density.shape == (-(-size[0] // model.stride), -(-size[1] // model.stride))
    assert found.points is None and found.scores is None
    assert found.count == pytest.approx(density.sum(), abs=1e-4)


@every
def test_every_parameter_gets_a_gradient(name):
    model = made(name)
    torch.nn.init.normal_(model.output.weight, std=0.1)
    if name == "lstn":  # its transformer begins with the identity, where only the last layer has a gradient
        torch.nn.init.normal_(model.transformer.locate[-1].weight, std=0.1)
        model.tie = 1.0
    total(model, sample(model, (48, 64))).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@every
def test_the_loss_looks_at_the_heads_of_every_frame_that_it_says(name):
    model = made(name)
    batch = sample(model)
    before = total(model, batch)
    for frame in range(len(model.offsets)):
        points = [list(clip) for clip in batch.points]
        points[1][frame] = points[1][frame] * 0.5
        assert total(model, batch._replace(points=points)) != before


@every
def test_images_without_heads_can_be_trained_on(name):
    model = made(name)
    empty = sample(model, heads=0)
    loss = total(model, empty)
    loss.backward()
    assert torch.isfinite(loss) and loss > 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    model.output.bias.grad = None
    mixed = empty._replace(points=[empty.points[0], sample(model).points[1]])
    assert torch.isfinite(total(model, mixed))


@pytest.mark.parametrize("name", ["csrnet", "epf"])
def test_kept_maps_train_as_the_images_do(name):
    model = made(name)
    model.backbone.requires_grad_(False).eval()
    batch = sample(model, (40, 56))
    kept = tuple(m.unflatten(0, batch.images.shape[:2]) for m in model.encode(batch.images.flatten(0, 1)))
    assert kept[0].shape == (2, len(model.offsets), model.backbone.out_channels, 5, 7)
    from_images, from_maps = total(model, batch), total(model, batch._replace(images=None, maps=kept))
    torch.testing.assert_close(from_images, from_maps)
    from_maps.backward()
    assert model.output.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.backbone.parameters())


@every
def test_training_starts_at_the_mean_density(name, tmp_path):
    model = build_model(name, **SMALL[name])
    initialise(model, 0)
    model.prepare(disc_video(tmp_path, heads=6))
    cells = (48 // model.stride) * (64 // model.stride)
    assert model.unit.item() == pytest.approx(6 / cells)
    features = torch.zeros(1, model.output.in_channels, 2, 3)
    assert model.heads(features).sum(dim=1).detach().numpy() == pytest.approx(np.full((1, 2, 3), 6 / cells))
    again = model.output.weight.clone()
    model.prepare(disc_video(tmp_path, heads=6))
    assert torch.equal(again, model.output.weight)
    model.run_seed = 1
    model.prepare(disc_video(tmp_path, heads=6))
    assert not torch.equal(again, model.output.weight)


@every
@pytest.mark.parametrize("precision", [torch.bfloat16])
def test_reduced_precision_gives_nearly_the_same_loss(name, precision):
    model = made(name)
    batch = sample(model, (48, 64))
    exact = total(model, batch)
    with torch.autocast("cpu", dtype=precision):
        found = total(model, batch)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=0.1)


@pytest.mark.slow
@every
def test_two_clips_of_different_crowds_are_told_apart(name, tmp_path):
    few, many = disc_video(tmp_path / "few", heads=2), disc_video(tmp_path / "many", heads=9)
    model = build_model(name, **SMALL[name])
    initialise(model, 0)
    model.prepare(few)
    images, points = [], []
    for video in (few, many):
        places = video.neighbours(1, model.offsets)
        images.append(torch.stack([normalise(torch.from_numpy(video.image(i))) for i in places]))
        points.append([torch.from_numpy(video.frame(i).points) for i in places])
    batch = Sample(torch.stack(images), None, points, None, (48, 64))
    rate, steps = (2e-2 if name == "bayesian" else 3e-2), 500
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] *= 0.99
        total(model, batch, step).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        maps = model.encode(batch.images.flatten(0, 1))[0].unflatten(0, batch.images.shape[:2])
        counts = [model.decode([(m,) for m in clip], (48, 64)).count for clip in maps]
    errors = np.abs(np.array(counts) - [2, 9])
    assert errors.max() < 1.5 and errors.sum() / 11 <= MOST_OVERFIT_MAE


@pytest.mark.slow
@pytest.mark.parametrize(("name", "frozen"), [("csrnet", True), ("epf", True), ("lstn", False)])
def test_counters_go_the_way_of_all_methods(name, frozen, tmp_path):
    """Trained by the common loop, on kept maps where the backbone is frozen; predicted and measured like any other."""
    video = disc_video(tmp_path / "video", heads=5)
    network = {k: v for k, v in SMALL[name].items() if k != "norm"}
    recipe = get_preset("mini").with_options(
        **network, crop=None, batch_size=2, steps=3, frozen=frozen, precision="32-true", learning_rate=1e-4, network={}
    )
    model = new_model(name, recipe, 0, video)
    seen = frames_seen(video, model.offsets, recipe, 0) | {(key, False) for key in range(len(video))}
    maps = keep_maps(model, video, frames=seen, progress=False, where=tmp_path / "maps") if frozen else None
    trained = train(model, video, recipe, seed=0, out=tmp_path / "run", maps=maps, progress=False, devices=1)
    found = predict(trained, video, maps=maps, progress=False)
    counted = measure(found, video, scale=1.0)
    assert isinstance(counted, CountEvidence) and np.isfinite(counted.counts).all()
    assert counted.metrics()["counting"]["MAE"] < 5  # a start at the mean density is not far off
    again = predict(trained, video, progress=False)
    assert [p.count for p in again] == pytest.approx([p.count for p in found], abs=0.05)  # maps are kept in float16


@pytest.mark.parametrize("name", ["mcnn", "convlstm"])
def test_networks_without_a_backbone_need_no_pretrained_one(name, tmp_path):
    recipe = get_preset("paper").with_options(pretrained=str(tmp_path / "none.safetensors"), width=1 / 16)
    assert not hasattr(new_model(name, recipe, 0, disc_video(tmp_path)), "backbone")


def test_counters_have_the_rows_of_tables_vi_and_vii():
    rows = {t: set(itertools.chain(*(e.rows.get(t, {}) for e in METHODS.values()))) for t in ("VI", "VII")}
    assert {"MCNN", "CSRNet", "Bayesian"} <= rows["VI"]
    assert {"ConvLSTM", "LST", "EPF"} <= rows["VII"]
    assert all(METHODS[name].note for name in ("convlstm", "lstn"))


@pytest.mark.parametrize("table", ["VI", "VII"])
def test_no_table_of_counters_has_two_methods_of_one_colour(table):
    for data in {listed.data for listed in TABLES[table]}:
        names = dict.fromkeys(e.method for e in experiments_of(table, data=data))
        assert len({METHODS[name].colour for name in names}) == len(names)

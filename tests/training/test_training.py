import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import disc_video

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.inference.windows import predict
from crowdloc.metrics import localization_scores
from crowdloc.models import RAZNet, build_model, normalise
from crowdloc.models.recipes import get_preset
from crowdloc.training.batches import TrainingBatches
from crowdloc.training.checkpoints import CHECKPOINT
from crowdloc.training.log import LOG, read_log
from crowdloc.training.loop import learning_rate, new_model, train
from crowdloc.training.weights import load_weights, save_weights

TINY = get_preset("mini").with_options(width=1 / 32, crop=(48, 64), batch_size=2, steps=6, precision="32-true")


def batches_of(data, **options):
    return TrainingBatches(data, **{"offsets": (-1, 0, 1), "crop": (32, 40), "batch_size": 3, "seed": 0} | options)


def test_batches_are_a_function_of_seed_and_step(tmp_path):
    data = disc_video(tmp_path)
    first, second = (batches_of(data, seed=1) for _ in range(2))
    second.batch(0)
    a, b, other = first.batch(5), second.batch(5), batches_of(data, seed=2).batch(5)
    assert torch.equal(a.images, b.images) and not torch.equal(a.images, other.images)
    for left, right in zip(a.points, b.points, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(left, right, strict=True))
    assert a.images.shape == (3, 3, 3, 32, 40) and a.images.dtype == torch.float32
    assert [len(frames) for frames in a.points] == [3, 3, 3] and a.boxes is None and a.maps is None
    assert a.size == (32, 40)


def test_processes_share_a_step_without_overlap(tmp_path):
    data = disc_video(tmp_path)
    whole = batches_of(data, batch_size=4).batch(3).images
    parts = [batches_of(data, batch_size=4, rank=r, world_size=2).batch(3).images for r in (0, 1)]
    assert torch.equal(whole[0::2], parts[0])
    assert torch.equal(whole[1::2], parts[1])


def test_every_clip_is_seen_equally_often(tmp_path):
    batches = batches_of(disc_video(tmp_path), batch_size=2)
    seen = [batches.index(step, slot) for step in range(6) for slot in range(2)]
    assert np.bincount(seen).tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("offsets", [(0,), (-1, 0), (-1, 0, 1)])
def test_points_of_every_frame_follow_their_heads_through_crop_and_mirror(tmp_path, offsets):
    """They must lie on the bright discs of their own frame, and mirroring must happen about half of the time."""
    batches = batches_of(disc_video(tmp_path), offsets=offsets, crop=(40, 48))
    plain = normalise(torch.full((1, 1, 3), 150, dtype=torch.uint8)).flatten()  # brighter than any background
    found = 0
    for step in range(8):
        sample = batches.batch(step)
        for clip, frames in zip(sample.images, sample.points, strict=True):
            for image, points in zip(clip, frames, strict=True):
                x, y = points.round().long().T
                assert (image[:, y, x] > plain[:, None]).all()
                found += len(points)
    assert found > 30
    sides = [batches._window(step, slot).mirrored for step in range(100) for slot in range(3)]
    assert 110 < sum(sides) < 190


def test_boxes_are_mirrored_and_cut_at_the_crop(tmp_path):
    data = disc_video(tmp_path, frames=1, heads=1)
    (x, y), frame = data.frames[0].points[0], data.frames[0]
    boxed = ClipDataset([replace(frame, boxes=np.array([[x - 30, y - 2, x + 1, y + 3]]))], name="boxes")
    batches = batches_of(boxed, offsets=(0,), crop=None, batch_size=1)
    seen = {}
    for step in range(20):
        sample = batches.batch(step)
        assert sample.size == (48, 64)
        seen[batches._window(step, 0).mirrored] = (sample.points[0][0][0].tolist(), sample.boxes[0][0][0].tolist())
    assert seen[False] == ([x, y], [max(x - 30, 0), y - 2, x + 1, y + 3])
    assert seen[True] == ([63 - x, y], [62 - x, y - 2, min(93 - x, 63), y + 3])


def test_crops_larger_than_the_frame_are_padded(tmp_path):
    sample = batches_of(disc_video(tmp_path), crop=(56, 80), batch_size=1).batch(0)
    assert sample.images.shape == (1, 3, 3, 56, 80) and sample.size == (56, 80)
    assert torch.equal(sample.images[..., 48:, :], sample.images[..., 47:48, :].expand(-1, -1, -1, 8, -1))


def test_one_cycle_rises_then_falls_to_nothing():
    rates = [learning_rate(get_preset("mini").with_options(steps=100), s) for s in range(100)]
    assert np.argmax(rates) in (9, 10)
    assert rates[0] < rates[5] < rates[9]
    assert rates[99] < 0.01 * max(rates)
    assert learning_rate(get_preset("paper"), 0) == learning_rate(get_preset("paper"), 90_000) == 2e-6


@pytest.mark.parametrize("name", ["raznet", "frame-stack", "gnanet", "s-gnanet"])
def test_overfits_one_clip(tmp_path, name):
    """Learning happens: one clip is fitted to AP ≥ .9 at σ 5."""
    data = disc_video(tmp_path, frames=3).subset([1])
    preset = TINY.with_options(width=1 / 16, steps=90, batch_size=2, learning_rate=5e-3)
    model = train(new_model(name, preset, 0, data), data, preset, seed=0, out=tmp_path / "run", progress=False)
    found = predict(model, data, progress=False)[0]
    scores = localization_scores([(found.points, found.scores)], [data.frames[0].points])
    assert scores.loc[5, "AP.50"] >= 0.9


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_repeats_bit_for_bit(tmp_path, precision):
    data = disc_video(tmp_path)
    recipe = TINY.with_options(precision=precision)
    runs = [
        train(new_model("gnanet", recipe, 3, data), data, recipe, seed=3, out=tmp_path / str(i), progress=False)
        for i in range(2)
    ]
    for a, b in zip(runs[0].state_dict().values(), runs[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("name", "expected"), [("raznet", 6), ("csrnet", 3)])
def test_networks_that_count_by_a_sum_end_with_running_statistics(tmp_path, name, expected):
    """The batch norms of the others see every batch."""
    recipe = TINY.with_options(network={}, channels_last=False)
    data = disc_video(tmp_path / "video")
    model = train(new_model(name, recipe, 0, data), data, recipe, seed=0, out=tmp_path, progress=False, devices=1)
    seen = {module.num_batches_tracked.item() for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert seen == {expected}


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    """Options that change no weight (the limit has no draws) and other networks alike."""
    data = disc_video(tmp_path / "data")
    train(new_model("gnanet", TINY, 0, data), data, TINY, seed=0, out=tmp_path / "run", progress=False)
    for name, options in (("gnanet", {"sampling": "limit"}), ("raznet", {})):
        with pytest.raises(CrowdlocError, match=r"checkpoint\.pt belongs to another recipe or network"):
            other = new_model(name, TINY, 0, data, **options)
            train(other, data, TINY, seed=0, out=tmp_path / "run", progress=False)


_KILLED = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import torch
    from helpers import disc_video
    torch.set_num_threads({threads})
    from crowdloc.training import loop as training
    from crowdloc.models.recipes import get_preset
    training._CHECKPOINT_SECONDS = 0.0
    data = disc_video(Path({folder!r}))
    preset = get_preset("mini").with_options(width=1 / 32, crop=(48, 64), batch_size=2, steps=40, precision="32-true")
    model = training.new_model("gnanet", preset, 0, data)
    training.train(model, data, preset, seed=0, out=Path({out!r}), progress=False)
"""


def test_killed_training_resumes_to_the_same_weights(tmp_path):
    preset = TINY.with_options(steps=40)
    data = disc_video(tmp_path / "data")
    whole = train(new_model("gnanet", preset, 0, data), data, preset, seed=0, out=tmp_path / "whole", progress=False)
    out = tmp_path / "killed"
    here = str(Path(__file__).parents[1])
    code = textwrap.dedent(_KILLED).format(
        tests=here, folder=str(tmp_path / "data"), out=str(out), threads=torch.get_num_threads()
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / CHECKPOINT).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / CHECKPOINT).exists()
    step = torch.load(out / CHECKPOINT, weights_only=True)["step"]
    assert 0 < step < 40, "the process should have been killed in the middle"
    resumed = train(new_model("gnanet", preset, 0, data), data, preset, seed=0, out=out, progress=False)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert [row["step"] for row in read_log(out / LOG)] == list(range(40))


def test_points_reach_the_loss_unrounded_in_bfloat16(tmp_path):
    """Fabric turns every float tensor that it sees into the training's precision; a bfloat16 of 300.25 is 300."""
    seen = []

    class Watching(RAZNet):
        def loss(self, sample, step):
            seen.extend(points for frames in sample.points for points in frames)
            return super().loss(sample, step)

    data = disc_video(tmp_path / "data")
    recipe = TINY.with_options(steps=1, precision="bf16-mixed")
    model = Watching(width=1 / 32, norm="batch")
    train(model, data, recipe, seed=0, out=tmp_path / "run", progress=False, accelerator="cpu", devices=1)
    assert seen and all(points.dtype == torch.float64 for points in seen)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    data = disc_video(tmp_path / "data")
    train(new_model("raznet", TINY, 0, data), data, TINY, seed=0, out=tmp_path / "run", progress=False)
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    other = TINY.with_options(learning_rate=1.0)
    with pytest.raises(CrowdlocError, match="another recipe or network"):
        train(new_model("raznet", other, 0, data), data, other, seed=0, out=tmp_path / "run", progress=False)
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == before


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(CrowdlocError, match=r"checkpoint\.pt is not a readable checkpoint.*delete it"):
        train(
            new_model("raznet", TINY, 0, disc_video(tmp_path)),
            disc_video(tmp_path),
            TINY,
            seed=0,
            out=tmp_path / "run",
            progress=False,
        )


def test_divergence_is_reported_with_its_remedy(tmp_path):
    preset = TINY.with_options(learning_rate=1e30, optimizer="sgd", norm="none", schedule="constant")
    with pytest.raises(CrowdlocError, match="lower the learning rate"):
        train(
            new_model("raznet", preset, 0, disc_video(tmp_path)),
            disc_video(tmp_path),
            preset,
            seed=0,
            out=tmp_path / "r",
            progress=False,
        )


def test_unknown_presets_and_fields():
    with pytest.raises(CrowdlocError, match="unknown preset 'tiny'.*mini, paper"):
        get_preset("tiny")
    with pytest.raises(CrowdlocError, match="a recipe has no field 'lr'"):
        TINY.with_options(lr=1)


def test_weights_survive_a_round_trip_as_float16(tmp_path):
    model = build_model("gnanet", width=1 / 32, norm="batch")
    save_weights(tmp_path / "w.safetensors", model)
    other = load_weights(tmp_path / "w.safetensors", build_model("gnanet", width=1 / 32, norm="batch"))
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a.half().float(), b)
    with pytest.raises(CrowdlocError, match=r"w\.safetensors does not hold weights of RAZNet"):
        load_weights(tmp_path / "w.safetensors", build_model("raznet", width=1 / 32, norm="batch"))
    with pytest.raises(CrowdlocError, match="not found"):
        load_weights(tmp_path / "none.safetensors", model)

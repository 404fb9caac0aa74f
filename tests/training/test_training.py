import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import disc_video
from safetensors.torch import load_file

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.paths import ROOT
from crowdloc.inference.windows import predict
from crowdloc.metrics import localization_scores
from crowdloc.models import build_model
from crowdloc.models.recipes import get_preset
from crowdloc.training.batches import TrainingBatches
from crowdloc.training.loop import CHECKPOINT, LOG, learning_rate, new_model, read_log, train
from crowdloc.training.weights import load_weights, save_weights

TINY = get_preset("mini").with_options(width=1 / 32, crop=(48, 64), batch_size=2, steps=6)


def test_batches_are_a_function_of_seed_and_step(tmp_path):
    data = disc_video(tmp_path)
    options = {"crop": (32, 40), "batch_size": 3}
    first, second = (TrainingBatches(data, seed=1, **options) for _ in range(2))
    second.batch(0)
    for a, b in zip(first.batch(5), second.batch(5), strict=True):
        assert torch.equal(a, b)
    other = TrainingBatches(data, seed=2, **options).batch(5)
    assert not torch.equal(first.batch(5)[0], other[0])
    clips, target = first.batch(5)
    assert clips.shape == (3, 3, 32, 40, 3) and clips.dtype == torch.uint8
    assert target.shape == (3, 32, 40)


def test_processes_share_a_step_without_overlap(tmp_path):
    data = disc_video(tmp_path)
    whole = TrainingBatches(data, crop=(32, 40), batch_size=4, seed=0).batch(3)[0]
    parts = [
        TrainingBatches(data, crop=(32, 40), batch_size=4, seed=0, rank=r, world_size=2).batch(3)[0] for r in (0, 1)
    ]
    assert torch.equal(whole[0::2], parts[0])
    assert torch.equal(whole[1::2], parts[1])


def test_every_clip_is_seen_equally_often(tmp_path):
    data = disc_video(tmp_path)
    batches = TrainingBatches(data, crop=(32, 40), batch_size=2, seed=0)
    seen = [batches.index(step, slot) for step in range(6) for slot in range(2)]
    assert np.bincount(seen).tolist() == [3, 3, 3, 3]


def test_targets_follow_their_heads_through_crop_and_flip(tmp_path):
    """The target's crosses must lie on the bright discs of the keyframe."""
    data = disc_video(tmp_path)
    batches = TrainingBatches(data, crop=(40, 48), batch_size=2, seed=0)
    found = 0
    for step in range(6):
        clips, targets = batches.batch(step)
        for clip, target in zip(clips, targets, strict=True):
            assert (clip[1].float().mean(-1)[target.bool()] > 150).all()
            found += int(target.sum())
    assert found > 0


def test_crops_larger_than_the_frame_are_padded(tmp_path):
    clips, target = TrainingBatches(disc_video(tmp_path), crop=(56, 80), batch_size=1, seed=0).batch(0)
    assert clips.shape == (1, 3, 56, 80, 3) and target.shape == (1, 56, 80)


def test_one_cycle_rises_then_falls_to_nothing():
    rates = [learning_rate(get_preset("mini").with_options(steps=100), s) for s in range(100)]
    assert np.argmax(rates) in (9, 10)
    assert rates[0] < rates[5] < rates[9]
    assert rates[99] < 0.01 * max(rates)
    assert learning_rate(get_preset("paper"), 0) == learning_rate(get_preset("paper"), 90_000) == 2e-6


@pytest.mark.parametrize("name", ["raznet", "gnanet"])
def test_overfits_one_clip(tmp_path, name):
    """Learning happens: one clip is fitted to AP ≥ .9 at σ 5."""
    data = disc_video(tmp_path, frames=3).subset([1])
    preset = TINY.with_options(width=1 / 16, steps=90, batch_size=2, learning_rate=5e-3)
    model = train(new_model(name, preset, 0, data), data, preset, seed=0, out=tmp_path / "run", progress=False)
    scores = localization_scores(predict(model, data, progress=False), [data.frames[0].points])
    assert scores.loc[5, "AP.50"] >= 0.9


def test_training_repeats_bit_for_bit(tmp_path):
    data = disc_video(tmp_path)
    runs = [
        train(new_model("gnanet", TINY, 3, data), data, TINY, seed=3, out=tmp_path / str(i), progress=False)
        for i in range(2)
    ]
    for a, b in zip(runs[0].state_dict().values(), runs[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)


_KILLED = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from helpers import disc_video
    from crowdloc.training import loop as training
    from crowdloc.models.recipes import get_preset
    training._CHECKPOINT_SECONDS = 0.0
    data = disc_video(Path({folder!r}))
    preset = get_preset("mini").with_options(width=1 / 32, crop=(48, 64), batch_size=2, steps=40)
    model = training.new_model("gnanet", preset, 0, data)
    training.train(model, data, preset, seed=0, out=Path({out!r}), progress=False)
"""


def test_killed_training_resumes_to_the_same_weights(tmp_path):
    preset = TINY.with_options(steps=40)
    data = disc_video(tmp_path / "data")
    whole = train(new_model("gnanet", preset, 0, data), data, preset, seed=0, out=tmp_path / "whole", progress=False)
    out = tmp_path / "killed"
    here = str(Path(__file__).parents[1])
    code = textwrap.dedent(_KILLED).format(tests=here, folder=str(tmp_path / "data"), out=str(out))
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


_PARALLEL = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from helpers import disc_video
    from crowdloc.models.recipes import get_preset
    from crowdloc.training.loop import is_main_process, new_model, train
    from crowdloc.training.weights import save_weights
    data = disc_video(Path({folder!r}) / str(__import__("os").environ.get("LOCAL_RANK", 0)))
    preset = get_preset("mini").with_options(width=1 / 32, crop=(48, 64), batch_size=2, steps=4, norm="none")
    model = train(new_model("raznet", preset, 0, data), data, preset, seed=0, out=Path({out!r}), progress=False,
                  accelerator="cpu", devices=2)
    if is_main_process():
        save_weights(Path({out!r}) / "weights.safetensors", model)
"""


def test_two_processes_train_what_one_trains(tmp_path):
    """Without batch statistics two processes with one clip each must give the gradient of a batch of two."""
    code = textwrap.dedent(_PARALLEL).format(
        tests=str(Path(__file__).parents[1]), folder=str(tmp_path), out=str(tmp_path / "o")
    )
    script = tmp_path / "parallel.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(script)], check=True, env=environment, capture_output=True, timeout=240)
    preset = TINY.with_options(steps=4, norm="none")
    data = disc_video(tmp_path / "0")
    single = train(new_model("raznet", preset, 0, data), data, preset, seed=0, out=tmp_path / "single", progress=False)
    save_weights(tmp_path / "single.safetensors", single)
    both = [load_file(p) for p in (tmp_path / "single.safetensors", tmp_path / "o" / "weights.safetensors")]
    for name, value in both[0].items():
        # AdamW divides by the root of tiny squares, which magnifies the order of summation.
        torch.testing.assert_close(value.float(), both[1][name].float(), rtol=0.02, atol=2e-3)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    data = disc_video(tmp_path / "data")
    train(new_model("raznet", TINY, 0, data), data, TINY, seed=0, out=tmp_path / "run", progress=False)
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    other = TINY.with_options(learning_rate=1.0)
    with pytest.raises(CrowdlocError, match="another recipe"):
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
    with pytest.raises(CrowdlocError, match="no field 'lr'"):
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

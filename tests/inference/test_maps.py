"""Kept maps: what the frozen backbone gives, made once, mended when damaged, never of other weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import disc_video
from torch._subclasses import FakeTensor

from crowdloc.core.errors import CrowdlocError
from crowdloc.inference import maps as module
from crowdloc.inference.maps import keep_maps
from crowdloc.inference.windows import encode, predict
from crowdloc.models import build_model, initialise
from crowdloc.models.recipes import get_preset
from crowdloc.training.batches import TrainingBatches, frames_seen
from crowdloc.training.weights import load_weights, save_weights

SMALL = {"width": 1 / 32, "norm": "batch"}


@pytest.fixture
def setting(tmp_path):
    """A network with weights on disk, a data set, and a call that keeps its maps."""
    model = build_model("raznet", **SMALL)
    initialise(model, 0)
    weights = tmp_path / "weights.safetensors"
    save_weights(weights, model)
    load_weights(weights, model)
    data = disc_video(tmp_path / "data")

    every = {(key, mirrored) for key in range(len(data)) for mirrored in (False, True)}

    def keep(method=model, dataset=data, frames=every):
        return keep_maps(method, dataset, frames=frames, progress=False, where=tmp_path / "maps")

    return model, data, keep


def counted(model, monkeypatch):
    calls = []
    encode = type(model).encode

    def count(self, images):
        calls.append(isinstance(images, FakeTensor))
        return encode(self, images)

    monkeypatch.setattr(type(model), "encode", count)
    return lambda: calls.count(False)


def test_maps_are_the_backbones_in_float16(setting):
    model, data, keep = setting
    kept = keep()
    for index in range(len(data)):
        for mirrored in (False, True):
            image = data.image(index)[:, ::-1] if mirrored else data.image(index)
            expected = encode(model, np.ascontiguousarray(image)).maps[0]
            assert torch.equal(kept.read(index, mirrored)[0], expected.half())
        assert kept.size(index) == (48, 64)


def test_every_map_is_made_once_and_shared_by_methods(setting, monkeypatch):
    """Evaluating two methods on one backbone runs it once for each frame, not twice."""
    model, data, keep = setting
    other = build_model("gnanet", **SMALL)
    other.backbone.load_state_dict(model.backbone.state_dict())
    calls = counted(model, monkeypatch)
    for method in (model, other.eval()):
        predict(method, data, maps=keep(method, frames=None), progress=False)
    assert calls() == len(data)
    keep()  # the mirror images, and nothing else
    assert calls() == 2 * len(data)
    predict(model, data.subset([3, 1]), maps=keep(dataset=data.subset([3, 1])), progress=False)
    assert calls() == 2 * len(data)


def test_predictions_from_maps_are_those_from_images(setting):
    model, data, keep = setting
    direct, kept = predict(model, data, progress=False), predict(model, data, maps=keep(), progress=False)
    for a, b in zip(direct, kept, strict=True):
        # float16 maps move scores a little; here the order of an untrained network's peaks must not be asked for
        assert abs(len(a.scores) - len(b.scores)) <= max(3, len(a.scores) // 10)


@pytest.mark.parametrize("crop", [None, (32, 40)])
def test_training_batches_of_maps_lie_under_their_points(setting, crop):
    """A crop of the kept map is the map of the whole, possibly mirrored, frame at the crop's place."""
    _, data, keep = setting
    kept = keep()
    batches = TrainingBatches(data, offsets=(-1, 0, 1), crop=crop, batch_size=2, seed=3, maps=kept)
    for step in range(6):
        sample = batches.batch(step)
        assert sample.images is None and sample.size == (crop or (48, 64))
        for slot in range(2):
            window = batches._window(step, slot)
            assert window.top % 8 == window.left % 8 == 0
            for t, index in enumerate(window.frames):
                whole = kept.read(data.key(index), window.mirrored)[0].float()
                top, left = window.top // 8, window.left // 8
                part = whole[:, top : top + sample.size[0] // 8, left : left + sample.size[1] // 8]
                assert torch.equal(sample.maps[0][slot, t], part)


def test_only_the_frames_that_are_needed_are_made(setting, monkeypatch):
    """Of a subset its frames, and the neighbours of a method that looks at them; of a training what its steps see."""
    model, data, keep = setting
    calls = counted(model, monkeypatch)
    assert predict(model, data.subset([1]), maps=keep(dataset=data.subset([1]), frames=None), progress=False)
    assert calls() == 1
    wider = build_model("gnanet", **SMALL).eval()
    wider.backbone.load_state_dict(model.backbone.state_dict())
    more = counted(wider, monkeypatch)
    assert predict(wider, data.subset([1]), maps=keep(wider, data.subset([1]), frames=None), progress=False)
    assert more() == 2  # the neighbours; the frame itself was there
    with pytest.raises(CrowdlocError, match=r"lacks map 1: delete .* and run the command again"):
        keep(frames=None).read(0, True)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_training_reads_exactly_the_maps_that_were_foreseen(setting, processes):
    _, data, keep = setting
    recipe = get_preset("mini").with_options(batch_size=2, steps=3)
    foreseen = frames_seen(data, (-1, 0), recipe, 5)
    kept, read = keep(frames=foreseen), set()

    class Watched:
        size = kept.size

        def read(self, key, mirrored):
            read.add((key, mirrored))
            return kept.read(key, mirrored)

    for rank in range(processes):
        batches = TrainingBatches(
            data, offsets=(-1, 0), crop=None, batch_size=2, seed=5, rank=rank, world_size=processes, maps=Watched()
        )
        for step in range(3):
            batches.batch(step)
    assert read == foreseen and 0 < len(foreseen) <= 12


def test_an_interrupted_run_goes_on(setting, monkeypatch):
    model, data, keep = setting
    write = module.Kept.write

    def killed(self, place, maps):
        if place == 3:
            raise KeyboardInterrupt
        write(self, place, maps)

    monkeypatch.setattr(module.Kept, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        keep()
    monkeypatch.setattr(module.Kept, "write", write)
    calls = counted(model, monkeypatch)
    kept = keep()
    assert calls() == 2 * len(data) - 3
    assert torch.equal(kept.read(0, False)[0], encode(model, data.image(0)).maps[0].half())


@pytest.mark.parametrize("damage", ["byte", "cut", "deleted", "checksums"])
def test_damaged_maps_are_made_again(setting, damage):
    model, data, keep = setting
    folder = keep().folder
    path = folder / module._MAPS
    if damage == "byte":
        with open(path, "r+b") as file:
            file.seek(100)
            byte = file.read(1)
            file.seek(100)
            file.write(bytes([byte[0] ^ 1]))
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "deleted":
        path.unlink()
    else:
        (folder / module._SUMS).unlink()
    kept = keep()
    assert torch.equal(kept.read(0, False)[0], encode(model, data.image(0)).maps[0].half())


def test_a_map_that_breaks_while_it_is_used_is_an_error(setting):
    _, _, keep = setting
    kept = keep()
    with open(kept.folder / module._MAPS, "r+b") as file:
        file.write(b"\x12\x34\x56")
    with pytest.raises(CrowdlocError, match="is damaged: delete"):
        kept.read(0, False)


def test_other_weights_have_other_maps(setting):
    model, _, keep = setting
    first = keep()
    initialise(model, 1)
    second = keep()
    assert first.folder != second.folder
    assert not torch.equal(first.read(0, False)[0], second.read(0, False)[0])


def test_a_full_disk_names_the_folder(setting, monkeypatch):
    _, _, keep = setting

    def full(self, place, maps):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.Kept, "write", full)
    with pytest.raises(CrowdlocError, match=r"maps in .* cannot be written \(No space left on device\)"):
        keep()

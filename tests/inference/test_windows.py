"""Windows of any offsets over data sets and streams: every frame encoded once, whatever is asked for."""

from __future__ import annotations

import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from helpers import disc_video

from crowdloc.core.errors import CrowdlocError
from crowdloc.inference.windows import Stages, predict, predict_frames, predict_stream
from crowdloc.models import Method, Prediction, build_model, initialise


class Recorder(Method):
    """Encodes a frame as its mean grey, counts how often, and predicts the tuple of what it saw."""

    def __init__(self, offsets):
        super().__init__()
        self.offsets = offsets
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.encoded = Counter()

    def encode(self, images):
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        self.encoded[float(mean)] += 1
        return (mean,)

    def decode(self, window, size):
        seen = np.array([[float(maps[0]), size[0]] for maps in window])
        return Prediction(seen, np.zeros(len(seen)))


def frames(number, size=(8, 10)):
    return [np.full((*size, 3), 10 * k, dtype=np.uint8) for k in range(number)]


OFFSETS = [(0,), (-1, 0), (-1, 0, 1), (-2, -1, 0, 1), (-5, 0), (0, 2), (-3, 0, 3)]


@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("length", [1, 2, 3, 7, 12])
def test_a_stream_gives_one_prediction_a_frame_with_its_neighbours(offsets, length):
    method = Recorder(offsets)
    grey = [float(method.encode(torch.from_numpy(f).permute(2, 0, 1)[None].float())[0]) for f in frames(length)]
    shift = {k: v for k, v in enumerate(grey)}  # 10 * k, monotone in k
    method.encoded.clear()
    found = list(predict_stream(method, iter(frames(length))))
    assert len(found) == length
    values = sorted({round(float(p.points[i, 0]), 4) for p in found for i in range(len(offsets))})
    rank = {value: place for place, value in enumerate(values)}
    wanted = [[min(max(k + o, 0), length - 1) for o in offsets] for k in range(length)]
    order = {k: place for place, k in enumerate(sorted({k for row in wanted for k in row}))}
    for prediction, row in zip(found, wanted, strict=True):
        assert [rank[round(float(v), 4)] for v in prediction.points[:, 0]] == [order[k] for k in row]
    assert set(method.encoded.values()) == {1} and len(shift) == length


def test_a_stream_is_read_no_further_than_needed():
    taken = []

    def source():
        for number, frame in enumerate(frames(9)):
            taken.append(number)
            yield frame

    stream = predict_stream(Recorder((-1, 0, 1)), source())
    next(stream)
    assert taken[-1] <= 2  # frame 0 needs frame 1; one more may be looked at to see whether the size changes


@pytest.mark.parametrize("offsets", OFFSETS)
def test_few_frames_are_in_memory_however_long_the_film(offsets):
    class Frame:  # an array cannot be referred to weakly
        def __init__(self, image):
            self.image = image

    alive, most = weakref.WeakSet(), 0

    def source():
        nonlocal most
        for image in frames(25) * 8:
            frame = Frame(image)
            alive.add(frame)
            yield frame
            most = max(most, len(alive))

    method = Recorder(offsets)
    number = 0
    for frame, _ in predict_frames(method, source(), image=lambda f: f.image):
        del frame
        number += 1
    assert number == 200
    assert most <= max(offsets) - min(offsets) + 3


@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("skip", [0, 1, 4, 6, 7, 9])
def test_frames_that_are_skipped_are_not_encoded_and_change_nothing(offsets, skip):
    method = Recorder(offsets)
    whole = list(predict_frames(method, frames(7), image=lambda image: image))
    method.encoded.clear()
    some = list(predict_frames(method, frames(7), image=lambda image: image, skip=skip))
    assert [prediction is None for _, prediction in some] == [k < skip for k in range(7)]
    for (image, prediction), (again, other) in zip(whole, some, strict=True):
        assert np.array_equal(image, again)
        assert other is None or np.array_equal(prediction.points, other.points)
    wanted = {min(max(k + o, 0), 6) for k in range(skip, 7) for o in offsets}
    assert len(method.encoded) == len(wanted)


def test_photos_are_their_own_neighbours():
    found = list(predict_frames(Recorder((-1, 0, 1)), frames(3), image=lambda image: image, alone=True))
    assert [len(set(prediction.points[:, 0])) for _, prediction in found] == [1, 1, 1]
    assert len({prediction.points[0, 0] for _, prediction in found}) == 3


def test_where_the_size_changes_a_new_sequence_begins():
    images = frames(2, (8, 10)) + frames(3, (6, 10))
    found = list(predict_stream(Recorder((-1, 0, 1)), images))
    assert [set(p.points[:, 1]) for p in found] == [{8.0}, {8.0}, {6.0}, {6.0}, {6.0}]


@pytest.mark.parametrize("offsets", OFFSETS)
def test_a_data_set_is_predicted_in_its_own_order_and_encoded_once(tmp_path, offsets):
    data = disc_video(tmp_path, frames=8)
    method = Recorder(offsets)
    whole = predict(method, data, progress=False)
    assert set(method.encoded.values()) == {1} and len(method.encoded) == 8
    chosen = [6, 0, 3, 1, 7]
    method.encoded.clear()
    some = predict(method, data.subset(chosen), progress=False)
    assert set(method.encoded.values()) == {1}
    for index, prediction in zip(chosen, some, strict=True):
        assert np.array_equal(prediction.points, whole[index].points)


def test_stream_and_data_set_agree_with_a_whole_clip(tmp_path):
    """The streaming path against the forward pass of the clip that training uses."""
    data = disc_video(tmp_path, frames=5)
    model = build_model("gnanet", width=1 / 32, norm="batch").eval()
    initialise(model, 0)
    images = [data.image(i) for i in range(5)]
    from crowdloc.inference.windows import encode

    encoded = [encode(model, image) for image in images]
    stream = list(predict_stream(model, iter(images)))
    stored = predict(model, data, progress=False)
    with torch.inference_mode():
        for k in range(5):
            window = [encoded[min(max(k + o, 0), 4)].maps for o in model.offsets]
            expected = model.decode(window, (48, 64))
            for found in (stream[k], stored[k]):
                np.testing.assert_array_equal(found.points, expected.points)
                np.testing.assert_array_equal(found.scores, expected.scores)


def test_weights_that_are_not_finite_are_named(tmp_path):
    model = build_model("raznet", width=1 / 32, norm="none").eval()
    torch.nn.init.constant_(model.backbone.features[0].weight, float("nan"))
    with pytest.raises(CrowdlocError, match="RAZNet yields values that are not finite"):
        predict(model, disc_video(tmp_path), progress=False)


def test_an_image_that_would_take_many_gigabytes_is_refused_with_its_size():
    """400 million pixels for those that locate, 40 million for those that count, which cannot be run in tiles."""
    huge = np.broadcast_to(np.uint8(0), (20_000, 30_000, 3))
    with pytest.raises(CrowdlocError, match=r"30000×20000 pixels is too large \(at most 400 million"):
        next(predict_stream(build_model("raznet", width=1 / 32), iter([huge])))
    large = np.broadcast_to(np.uint8(0), (9000, 12_000, 3))
    with pytest.raises(CrowdlocError, match=r"12000×9000 pixels is too large to be run in one piece \(at most 40 mil"):
        next(predict_stream(build_model("mcnn"), iter([large])))


def test_a_stream_costs_what_its_stages_cost():
    """At least nine tenths of the time goes into reading, encoding and decoding, by the stages' own account."""
    import time

    class Slow(Recorder):
        def encode(self, images):
            time.sleep(0.004)
            return super().encode(images)

        def decode(self, window, size):
            time.sleep(0.004)
            return super().decode(window, size)

    stages = Stages()
    begun = time.perf_counter()
    film = stages.timed("read", frames(25))
    number = sum(1 for _ in predict_frames(Slow((-1, 0, 1)), film, image=lambda image: image, stages=stages))
    stages.whole = time.perf_counter() - begun
    assert number == 25 and stages.frames == {"read": 25, "encode": 25, "decode": 25}
    assert 0.9 < sum(stages.seconds.values()) / stages.whole <= 1
    last = str(stages).splitlines()[-1]
    assert f"{25 / stages.whole:.2f} frames/s" in last and "% of the time is in these stages" in last

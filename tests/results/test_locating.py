import cv2
import numpy as np
import pytest
import torch
from helpers import disc_video

import crowdloc
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.paths import RESULTS
from crowdloc.inference.windows import probability_maps, sequence_maps
from crowdloc.models import build_model
from crowdloc.results.experiments import get_experiment

STORED = RESULTS / get_experiment("synthcrowd-mini/gnanet/seed0").id / "weights.safetensors"


@pytest.mark.parametrize("name", ["raznet", "gnanet"])
def test_a_sequence_is_treated_like_the_clips_of_a_data_set(tmp_path, name):
    data = disc_video(tmp_path, frames=5)
    model = build_model(name, width=1 / 32, norm="batch").eval()
    clips = list(probability_maps(model, data))
    sequence = list(sequence_maps(model, (data.image(i) for i in range(5))))
    assert len(sequence) == 5
    for a, b in zip(clips, sequence, strict=True):
        np.testing.assert_array_equal(a, b)


def test_whole_frames_give_what_the_network_itself_gives(tmp_path):
    """Features kept from frame to frame must equal a plain forward pass of the clip; odd sizes are padded and cut."""
    data = disc_video(tmp_path, frames=3, size=(45, 61))
    model = build_model("gnanet", width=1 / 32, norm="batch").eval()
    from crowdloc.models import normalise

    with torch.inference_mode():
        direct = model(normalise(torch.from_numpy(data[1].frames))[None]).sigmoid()[0, 0].numpy()
    kept = list(probability_maps(model, data))[1]
    assert kept.shape == (45, 61)
    np.testing.assert_allclose(kept, direct, atol=1e-5)


def test_a_sequence_may_change_its_size_or_be_one_frame():
    model = build_model("gnanet", width=1 / 32, norm="batch").eval()
    frames = [np.zeros((16, 24, 3), np.uint8)] * 2 + [np.zeros((9, 7, 3), np.uint8)]
    assert [m.shape for m in sequence_maps(model, iter(frames))] == [(16, 24), (16, 24), (9, 7)]
    assert list(sequence_maps(model, iter([]))) == []


def test_locate_in_an_image_a_folder_and_a_video(tmp_path):
    data = disc_video(tmp_path / "frames", frames=3, size=(96, 128))
    image = crowdloc.locate(data.frames[0].path, threshold=0.05)
    assert list(image.columns) == ["frame", "x", "y", "score"]
    folder = crowdloc.locate(tmp_path / "frames", threshold=0.0, weights=STORED)
    assert set(folder["frame"]) <= {"000.png", "001.png", "002.png"}
    assert ((folder["x"] >= -0.5) & (folder["x"] <= 127.5) & (folder["y"] >= -0.5) & (folder["y"] <= 95.5)).all()
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (128, 96))
    for index in range(3):
        writer.write(np.ascontiguousarray(data.image(index)[..., ::-1]))
    writer.release()
    video = crowdloc.locate(tmp_path / "v.avi", threshold=0.0)
    assert set(video["frame"]) <= {0, 1, 2}


def test_what_cannot_be_located_is_named(tmp_path):
    with pytest.raises(CrowdlocError, match="nowhere not found"):
        crowdloc.locate(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CrowdlocError, match="empty holds no image"):
        crowdloc.locate(tmp_path / "empty")
    (tmp_path / "v.mp4").write_bytes(b"not a video")
    with pytest.raises(CrowdlocError, match=r"v\.mp4 cannot be decoded"):
        crowdloc.locate(tmp_path / "v.mp4")
    (tmp_path / "i.jpg").write_bytes(b"\xff\xd8 cut")
    with pytest.raises(CrowdlocError, match=r"i\.jpg"):
        crowdloc.locate(tmp_path / "i.jpg")

import os

import cv2
import numpy as np
import pytest
from helpers import disc_video

import crowdloc
from crowdloc.core.errors import CrowdlocError, CrowdlocWarning
from crowdloc.core.paths import RESULTS
from crowdloc.models import build_model
from crowdloc.results.experiments import Experiment
from crowdloc.results.locating import stream
from crowdloc.results.networks import METHOD, PREFERRED, open_network
from crowdloc.training.weights import read_about, save_weights

DEFAULT = f"{PREFERRED[0]}/{METHOD}/seed0"
STORED = RESULTS / DEFAULT / "weights.safetensors"


def write_video(path, data, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (128, 96))
    for index in range(frames):
        writer.write(np.ascontiguousarray(data.image(index)[..., ::-1]))
    writer.release()


def test_locate_in_an_image_a_folder_and_a_video(tmp_path):
    data = disc_video(tmp_path / "frames", frames=3, size=(96, 128))
    image = crowdloc.locate(data.frames[0].path, threshold=0.05)
    assert list(image.columns) == ["frame", "x", "y", "score"]
    folder = crowdloc.locate(tmp_path / "frames", threshold=0.0, weights=STORED, experiment=DEFAULT)
    assert set(folder["frame"]) <= {"000.png", "001.png", "002.png"}
    assert ((folder["x"] >= -0.5) & (folder["x"] <= 127.5) & (folder["y"] >= -0.5) & (folder["y"] <= 95.5)).all()
    write_video(tmp_path / "v.avi", data, 3)
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


def test_frames_come_in_the_order_of_their_numbers_and_hidden_files_are_left_alone(tmp_path):
    data = disc_video(tmp_path / "made", frames=3, size=(48, 64))
    folder = tmp_path / "frames"
    folder.mkdir()
    for name, frame in zip(("f_10.png", "f_2.png", "f_1.png"), data.frames, strict=True):
        (folder / name).write_bytes(frame.path.read_bytes())
    (folder / "._f_1.png").write_bytes(b"what macOS leaves in archives")
    assert [found.frame for found in stream(folder, threshold=2.0)] == ["f_1.png", "f_2.png", "f_10.png"]


def test_a_truncated_video_is_told(tmp_path):
    data = disc_video(tmp_path / "frames", frames=6, size=(96, 128))
    path = tmp_path / "v.avi"
    write_video(path, data, 6)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.warns(CrowdlocWarning, match=r"v\.avi ends after [1-5] of 6 frames: it is truncated or damaged"):
        found = list(stream(path, threshold=2.0))
    assert 1 <= len(found) < 6


def test_weights_say_what_they_are(tmp_path):
    """A file is counted with its own threshold and network, and one that says nothing is not guessed at."""
    data = disc_video(tmp_path / "frames", frames=1, size=(48, 64))
    image = data.frames[0].path
    model = build_model("raznet", width=0.125, norm="batch")
    silent, own, noted = (tmp_path / f"{name}.safetensors" for name in ("silent", "own", "noted"))
    save_weights(silent, model)
    with pytest.raises(CrowdlocError, match=r"silent\.safetensors does not say which network it holds"):
        crowdloc.locate(image, weights=silent)
    experiment = Experiment.parse("mall-mini/raznet/seed7").describe()
    experiment["recipe"] |= {"width": 0.125, "network": {}, "frozen": False}  # not what the recipes of today say
    save_weights(own, model, about={"experiment": experiment, "threshold": 2.0})
    assert crowdloc.locate(image, weights=own).empty
    save_weights(noted, model, about={"experiment": experiment, "threshold": 0.0})
    assert open_network(noted).threshold == 0.0
    assert "RAZNet, trained on Mall, a single camera" in open_network(noted).describe()
    for options, message in (
        ({"experiment": DEFAULT}, "holds weights of mall-mini/raznet/seed7, not of synth"),
        ({"method": "gnanet"}, "holds weights of mall-mini/raznet/seed7, not of gnanet"),
    ):
        with pytest.raises(CrowdlocError, match=message):
            crowdloc.locate(image, weights=own, **options)
    save_weights(own, model, about={"experiment": experiment})
    with pytest.raises(CrowdlocError, match="holds no threshold: give one, or find it with `crowdloc calibrate`"):
        crowdloc.locate(image, weights=own)
    experiment["recipe"]["depth"] = 3
    save_weights(own, model, about={"experiment": experiment})
    with pytest.raises(CrowdlocError, match="was written by another version"):
        crowdloc.locate(image, weights=own)


def test_stored_weights_of_any_method_are_found_with_their_own_threshold():
    """RAZNet's too; what stands on a frozen backbone finds it."""
    for method in ("raznet", "gnanet"):
        network = open_network(method=method)
        file = RESULTS / network.id / "weights.safetensors"
        assert network.about["experiment"]["method"] == method
        assert open_network(file).threshold == network.threshold == read_about(file)["threshold"]
    with pytest.raises(CrowdlocError, match="no weights of mcnn: choose one of"):
        open_network(method="mcnn")
    with pytest.raises(CrowdlocError, match="unknown method 'nonsense'"):
        open_network(method="nonsense")


@pytest.mark.parametrize("method", ["raznet", "gnanet"])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5)])
def test_the_smallest_images_are_located(tmp_path, method, size):
    cv2.imwrite(str(tmp_path / "i.png"), np.full((*size, 3), 99, np.uint8))
    found = crowdloc.locate(tmp_path / "i.png", method=method, threshold=0.0)
    assert list(found.attrs["counts"]) == ["i.png"]
    assert found["x"].between(-0.5, size[1] - 0.5).all() and found["y"].between(-0.5, size[0] - 0.5).all()


def test_names_that_are_not_utf8_are_written_or_refused_in_one_line(tmp_path):
    data = disc_video(tmp_path / "made", frames=1, size=(48, 64))
    folder = os.fsencode(tmp_path / "frames")
    os.mkdir(folder)
    with open(folder + b"/caf\xe9.png", "wb") as file:
        file.write(data.frames[0].path.read_bytes())
    found = crowdloc.locate(os.fsdecode(folder + b"/caf\xe9.png"), threshold=0.0)
    assert set(found["frame"]) == {"caf\\udce9.png"}
    found.to_csv(tmp_path / "out.csv")
    with pytest.raises(CrowdlocError, match="is not UTF-8: rename it"):
        crowdloc.locate(os.fsdecode(folder))

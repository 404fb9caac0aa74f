"""What a person's own files may be: every kind is read by a stated rule, or refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from crowdloc.core.errors import CrowdlocError, CrowdlocWarning
from crowdloc.inference import sources
from crowdloc.inference.sources import open_source

RED = np.zeros((6, 10, 3), np.uint8)
RED[:3, :5] = (200, 30, 40)  # red in the upper left quarter


def shots(source, **options):
    return list(open_source(source, **options).shots())


def near(image, expected):
    np.testing.assert_allclose(image.astype(int), expected.astype(int), atol=12)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_stands_as_its_camera_noted(tmp_path, orientation, suffix):
    """Pillow's `exif_transpose` is the oracle."""
    from PIL import ImageOps

    picture = Image.fromarray(RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"i{suffix}"
    picture.save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    (shot,) = shots(path)
    with Image.open(path) as image:
        near(shot.image, np.asarray(ImageOps.exif_transpose(image).convert("RGB")))


def write_video(path, numbers, *, codec="MJPG", rate=5, size=(32, 24)):
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, size)
    for k in numbers:
        writer.write(np.full((size[1], size[0], 3), 20 * k, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(
    ("name", "codec"), [("v.avi", "MJPG"), ("v.mp4", "mp4v"), ("v.mkv", "mp4v"), ("wídeo ✓.avi", "MJPG")]
)
def test_a_video_has_numbers_and_times(tmp_path, name, codec):
    path = write_video(tmp_path / name, range(7), codec=codec)
    source = open_source(path)
    assert (source.kind, source.total, source.rate) == ("video", 7, 5)
    found = list(source.shots())
    assert [shot.frame for shot in found] == list(range(7))
    np.testing.assert_allclose([shot.time for shot in found], np.arange(7) / 5, atol=1e-3)
    near(np.array([shot.image.mean() for shot in found]), 20 * np.arange(7))
    assert [(shot.frame, round(shot.time, 3)) for shot in shots(path, every=3)] == [(0, 0.0), (3, 0.6), (6, 1.2)]
    assert open_source(path, every=3).total == 3


def test_a_video_of_one_frame_and_a_gif(tmp_path):
    assert len(shots(write_video(tmp_path / "one.avi", [3]))) == 1
    pictures = [Image.fromarray(np.full((24, 32, 3), 60 * k, np.uint8)) for k in range(4)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
    assert len(shots(tmp_path / "a.gif")) == 4


@pytest.mark.parametrize("content", [b"", b"not a video", b"RIFF\x10\0\0\0AVI LIST"])
@pytest.mark.parametrize("name", ["v.avi", "v.mp4", "v.xyz", "v"])
def test_what_is_no_video_is_refused_in_one_line(tmp_path, capfd, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CrowdlocError, match="cannot be decoded as a video: convert it"):
        open_source(tmp_path / name)
    assert "WARN" not in capfd.readouterr().err


def test_a_codec_that_opencv_lacks_and_a_video_without_frames_are_refused_in_one_line(tmp_path, capfd):
    """The containers are sound; nothing in them can be decoded."""
    path = write_video(tmp_path / "v.avi", range(5))
    strange = path.read_bytes().replace(b"MJPG", b"ZZ9Q")
    assert strange != path.read_bytes()
    path.write_bytes(strange)
    for name in ("v.avi", write_video(tmp_path / "empty.mp4", [], codec="mp4v").name):
        with pytest.raises(CrowdlocError, match=rf"{name} cannot be decoded as a video: convert it, for example"):
            open_source(tmp_path / name)
    assert "Could not find" not in capfd.readouterr().err


def test_a_video_whose_frames_are_too_large_is_refused_before_one_is_decoded(monkeypatch, tmp_path):
    import cv2

    class Huge:
        def get(self, what):
            return {cv2.CAP_PROP_FRAME_WIDTH: 30_000, cv2.CAP_PROP_FRAME_HEIGHT: 20_000}.get(what, 5)

        def release(self):
            pass

    monkeypatch.setattr(sources, "_capture", lambda _: Huge())
    (tmp_path / "v.mp4").touch()
    with pytest.raises(CrowdlocError, match=r"v\.mp4: an image of 30000×20000 pixels is too large"):
        open_source(tmp_path / "v.mp4")


def test_images_of_every_kind(tmp_path):
    """16 bits become 8, CMYK and grey become RGB, transparency is ignored, of several images the first is taken."""
    folder = tmp_path / "kinds"
    folder.mkdir()
    red = Image.fromarray(RED)
    deep = np.full((6, 10), 40_000, np.uint16)
    Image.fromarray(deep).save(folder / "1 deep.png")
    red.convert("CMYK").save(folder / "2 cmyk.jpg", quality=95, subsampling=0)
    red.convert("RGBA").save(folder / "3 alpha.png")
    red.convert("L").save(folder / "4 grey.png")
    red.save(folder / "5 moving.png", save_all=True, append_images=[Image.new("RGB", (10, 6))])
    red.save(folder / "6 pages.tif", save_all=True, append_images=[Image.new("RGB", (10, 6))])
    red.save(folder / "7 moving.webp", save_all=True, append_images=[Image.new("RGB", (10, 6))], lossless=True)
    Image.new("RGB", (1, 1), (9, 8, 7)).save(folder / "8 one.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "a folder.png").mkdir()
    found = {str(shot.frame)[0]: shot.image for shot in shots(folder)}
    assert list(found) == list("12345678")
    near(found["1"], np.full((6, 10, 3), 40_000 // 256))
    assert found["2"][1, 1, 0] > 150 > 90 > found["2"][1, 1, 1]
    for kind in "3567":
        near(found[kind], RED)
    near(found["4"], np.repeat(np.asarray(red.convert("L"))[..., None], 3, axis=2))
    assert found["8"].tolist() == [[[9, 8, 7]]]


def test_an_image_that_is_too_large_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (30_000, 20_000)).save(tmp_path / "large.png")
    with pytest.raises(CrowdlocError, match=r"large\.png: an image of 30000×20000 pixels is too large"):
        open_source(tmp_path / "large.png")


def test_unreadable_images_of_a_folder(tmp_path):
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.warns(CrowdlocWarning), pytest.raises(CrowdlocError, match=r"2\.png is truncated"):
        shots(tmp_path)
    Image.fromarray(RED).save(tmp_path / "3.png")
    with pytest.warns(CrowdlocWarning, match=r"1\.png .* it is left out"):
        assert [shot.frame for shot in shots(tmp_path)] == ["3.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every=0: give a whole number"),
        ({"fps": 0.0}, "fps=0.0: give a positive number"),
        ({"fps": 5.0}, "fps is for a folder of images"),
        ({"photos": True}, "photos is for a folder of images"),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, message):
    with pytest.raises(CrowdlocError, match=message):
        open_source(write_video(tmp_path / "v.avi", range(2)), **options)


def test_a_folder_has_the_times_that_it_is_given(tmp_path):
    for k in range(5):
        Image.fromarray(RED).save(tmp_path / f"{k}.png")
    assert [(shot.frame, shot.time) for shot in shots(tmp_path, fps=4, every=2)] == [
        ("0.png", 0.0),
        ("2.png", 0.5),
        ("4.png", 1.0),
    ]
    assert {shot.time for shot in shots(tmp_path)} == {None}


def test_a_video_without_times_has_those_of_its_rate(monkeypatch, tmp_path):
    import cv2

    class Timeless(Camera):
        def get(self, what):
            return {cv2.CAP_PROP_FRAME_COUNT: 3, cv2.CAP_PROP_FPS: 4}.get(what, 0)

    monkeypatch.setattr(sources, "_capture", lambda _: Timeless(3))
    (tmp_path / "v.mkv").touch()
    assert [shot.time for shot in shots(tmp_path / "v.mkv")] == [0, 0.25, 0.5]


class Camera:
    """Stands for OpenCV's reader of a camera."""

    def __init__(self, frames):
        self.left, self.released = frames, False

    def grab(self):
        self.left -= 1
        return self.left >= 0

    def retrieve(self):
        return True, RED[..., ::-1]

    def release(self):
        self.released = True


def test_a_camera_is_read_until_it_stops(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    camera = Camera(5)
    asked = []
    monkeypatch.setattr(sources, "_capture", lambda number: asked.append(number) or camera)
    source = open_source("2")
    assert (source.kind, source.total, source.identity) == ("camera", None, None)
    with pytest.warns(CrowdlocWarning, match="camera 2 stopped after 5 frames"):
        found = list(source.shots())
    assert asked == [2] and camera.released
    assert [shot.frame for shot in found] == [0, 1, 2, 3, 4]
    assert [shot.time for shot in found] == sorted(shot.time for shot in found)
    near(found[0].image, RED)
    monkeypatch.setattr(sources, "_capture", lambda _: Camera(0))
    with pytest.raises(CrowdlocError, match="camera 0 gives no picture"):
        list(open_source(0).shots())
    Image.fromarray(RED).save(tmp_path / "7.png")
    (tmp_path / "7").mkdir()  # a path that exists is no camera
    with pytest.raises(CrowdlocError, match="7 holds no image"):
        open_source("7")

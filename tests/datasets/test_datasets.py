"""Clips, image decoding and `load`, on tiny files and, where CROWDLOC_DATA is set, on Mall and ShanghaiTech."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
from files_of_sets import DATA, needs, write_image
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets import NAMES, SPLITS, inside_roi, load
from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.datasets.images import _header, _is_whole, image_size, read_image
from crowdloc.datasets.overheard import jpeg_damage, overhear
from crowdloc.datasets.reading import hold_out, outside_image, settle


def video(folder: Path, scenes: dict[str, int], **options: int) -> ClipDataset:
    """One tiny PNG per frame whose grey value counts the frames of all scenes."""
    frames = []
    for scene, length in scenes.items():
        for t in range(length):
            path = write_image(folder / scene / f"{t}.png", value=len(frames))
            frames.append(Frame(f"{scene}{t}", scene, path, np.array([[t, 0.0]])))
    return ClipDataset(frames, name="tiny", **options)


def values(dataset: ClipDataset, index: int) -> list[int]:
    return dataset[index].frames[:, 0, 0, 0].tolist()


# clips


def test_neighbours_stay_in_the_scene_and_repeat_at_its_ends(tmp_path: Path) -> None:
    clips = video(tmp_path, {"a": 3, "b": 2})
    assert [clips.neighbours(i) for i in range(5)] == [(0, 0, 1), (0, 1, 2), (1, 2, 2), (3, 3, 4), (3, 4, 4)]
    assert values(clips, 2) == [1, 2, 2] and values(clips, -2) == [3, 3, 4]
    clip = clips[3]
    assert (clip.image_id, clip.scene, clip.frame_ids) == ("b0", "b", ("b0", "b0", "b1"))
    assert clip.frames.shape == (3, 6, 8, 3) and clip.frames.dtype == np.uint8
    np.testing.assert_array_equal(clip.points, [[0, 0]])
    assert clip.boxes is None and clip.track_ids is None


def test_frame_step_and_clip_longer_than_the_video(tmp_path: Path) -> None:
    assert values(video(tmp_path, {"a": 7}, num_frames=3, frame_step=2), 3) == [1, 3, 5]
    assert values(video(tmp_path, {"a": 2}, num_frames=7), 1) == [0, 0, 0, 1, 1, 1, 1]
    assert values(video(tmp_path, {"a": 4}, num_frames=4), 2) == [0, 1, 2, 3]  # keyframe T // 2
    assert values(video(tmp_path, {"a": 1}, num_frames=1), 0) == [0]


def test_interleaved_scenes_keep_their_own_order(tmp_path: Path) -> None:
    frames = [Frame(str(i), "ab"[i % 2], tmp_path / "x.png", np.zeros((0, 2))) for i in range(6)]
    assert ClipDataset(frames, name="x").neighbours(2) == (0, 2, 4)


def test_subset_keeps_the_neighbours_of_the_whole_video(tmp_path: Path) -> None:
    clips = video(tmp_path, {"a": 6})
    part = clips.subset([5, 1])
    assert len(part) == 2 and [frame.id for frame in part.frames] == ["a5", "a1"]
    assert values(part, 0) == [4, 5, 5] and values(part, 1) == [0, 1, 2]
    assert part[1].frame_ids == ("a0", "a1", "a2")
    assert part.image(part.neighbours(0)[0])[0, 0, 0] == 4
    assert values(part.subset([1]), 0) == [0, 1, 2]
    assert values(clips.subset([2, 2]), 1) == [1, 2, 3]
    assert [values(clips[1:4], i)[1] for i in range(3)] == [1, 2, 3]
    assert len(clips[6:]) == 0


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4), num=st.integers(1, 5), step=st.integers(1, 3))
def test_neighbour_properties(lengths: list[int], num: int, step: int) -> None:
    frames = [Frame(f"{s}-{t}", str(s), Path("x"), np.zeros((0, 2))) for s, n in enumerate(lengths) for t in range(n)]
    clips = ClipDataset(frames, name="x", num_frames=num, frame_step=step)
    part = clips.subset(range(len(frames) - 1, -1, -2))
    for i in range(len(clips)):
        around = clips.neighbours(i)
        assert len(around) == num and around[num // 2] == i and list(around) == sorted(around)
        assert {frames[j].scene for j in around} == {frames[i].scene}
    for i, whole in enumerate(range(len(frames) - 1, -1, -2)):
        assert [part.key(j) for j in part.neighbours(i)] == list(clips.neighbours(whole))


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    step=st.integers(1, 3),
    offsets=st.lists(st.integers(-4, 4), max_size=4),
    random=st.randoms(use_true_random=False),
)
def test_any_offsets_in_any_subset(lengths: list[int], step: int, offsets: list[int], random: Random) -> None:
    frames = [Frame(f"{s}-{t}", str(s), Path("x"), np.zeros((0, 2))) for s, n in enumerate(lengths) for t in range(n)]
    clips = ClipDataset(frames, name="x", num_frames=1, frame_step=step)
    first = random.sample(range(len(frames)), random.randint(1, len(frames)))
    second = random.choices(range(len(first)), k=3)
    part = clips.subset(first).subset(second)  # out of order, and with repetitions
    for i, whole in enumerate(first[j] for j in second):
        scene, time = clips.position(whole)
        last = lengths[int(scene)] - 1
        wanted = [f"{scene}-{min(max(time + step * o, 0), last)}" for o in offsets]
        assert [frames[j].id for j in clips.neighbours(whole, offsets)] == wanted
        around = part.neighbours(i, offsets)
        assert [frames[part.key(j)].id for j in around] == wanted
        assert part.position(i) == (scene, time) and part.key(i) == clips.key(whole) == whole
        assert [part.neighbours(j, [0]) == (j,) for j in around] == [True] * len(offsets)


def test_neighbours_of_a_subset_outside_its_clips_can_be_shown(tmp_path: Path) -> None:
    part = video(tmp_path, {"a": 2, "b": 4}).subset([3])
    assert part.offsets == (-1, 0, 1) and part.neighbours(0, ()) == ()
    around = part.neighbours(0, (-1, 0, 2, 9))
    assert [int(part.image(i)[0, 0, 0]) for i in around] == [2, 3, 5, 5] and around[1] == 0
    assert [part.position(i) for i in around] == [("b", 0), ("b", 1), ("b", 3), ("b", 3)]
    assert part.neighbours(around[0], (1, -1)) == (0, around[0])  # a neighbour has neighbours
    for index in (-2, 1 + part.key(0), 7):
        with pytest.raises(IndexError):
            part.image(index)


def test_indices_are_checked(tmp_path: Path) -> None:
    clips = video(tmp_path, {"a": 2})
    for call in (
        clips.__getitem__,
        clips.neighbours,
        clips.image,
        clips.key,
        clips.position,
        lambda i: clips.subset([i]),
    ):
        for index in (-3, 2):
            with pytest.raises(IndexError):
                call(index)
    assert len(list(clips)) == 2  # a Sequence: iteration ends


def test_pickle_is_light_and_equal(tmp_path: Path) -> None:
    clips = video(tmp_path, {"a": 3})
    data = pickle.dumps(clips)
    assert len(data) < 3000
    assert values(pickle.loads(data), 1) == [0, 1, 2]


def test_empty_dataset_and_repr() -> None:
    clips = ClipDataset([], name="none", missing=["x"])
    assert len(clips) == 0 and list(clips) == [] and "1 missing" in repr(clips)


@pytest.mark.parametrize("options", [{"num_frames": 0}, {"num_frames": 2.0}, {"frame_step": -1}, {"frame_step": True}])
def test_bad_clip_options(options: dict) -> None:
    with pytest.raises(CrowdlocError, match=next(iter(options))):
        ClipDataset([], name="x", **options)


def test_frames_of_one_scene_that_differ_in_size(tmp_path: Path) -> None:
    clips = video(tmp_path, {"a": 3, "b": 1})
    write_image(tmp_path / "a" / "2.png", size=(9, 6))
    assert values(clips, 0) == [0, 0, 1] and values(clips, 3) == [3, 3, 3]
    with pytest.raises(CrowdlocError, match=r"2\.png differs in size .*num_frames=1"):
        clips[1]


# frames


def test_frame_converts_and_keeps_float64(tmp_path: Path) -> None:
    frame = Frame("i", "s", tmp_path / "i.png", [[1, 2]], [[0, 0, 3, 4]], [7.0])
    assert frame.points.dtype == np.float64 and frame.boxes.dtype == np.float64 and frame.track_ids.dtype == np.int64
    for nothing in ([], np.zeros((0, 0)), np.zeros((0, 2)), np.zeros((1, 0))):
        assert Frame("i", "s", tmp_path, nothing).points.shape == (0, 2)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"points": [[np.nan, 1]]}, "points row 0 is not finite"),
        ({"points": [[1, 1], [1, -np.inf]]}, "points row 1 is not finite"),
        ({"points": [1, 2]}, r"points have shape \(2,\)"),
        ({"points": [[1, 2, 3]]}, r"expected \(n, 2\)"),
        ({"points": [["a", "b"]]}, "points are not numbers"),
        ({"boxes": [[0, 0, 1, np.nan]]}, "boxes row 0"),
        ({"boxes": np.zeros((0, 4))}, "0 boxes for 1 points"),
        ({"track_ids": [1, 2]}, "2 track ids for 1 points"),
        ({"track_ids": [np.nan]}, "track ids are no whole numbers"),
    ],
)
def test_bad_annotation_names_the_image(given_: dict, message: str) -> None:
    with pytest.raises(CrowdlocError, match=f"image folder/a.jpg.*{message}"):
        Frame("a", "s", Path("folder/a.jpg"), **{"points": [[1, 2]], **given_})


# images


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 5)])
@pytest.mark.parametrize("grey", [False, True])
def test_sizes_and_grey(tmp_path: Path, suffix: str, size: tuple[int, int], grey: bool) -> None:
    path = write_image(tmp_path / f"a{suffix}", size, 200, grey)
    image = read_image(path)
    assert image.shape == (size[1], size[0], 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - 200).max() <= 1
    assert image_size(path) == size == image_size(str(path))


def test_channels_are_rgb_and_16_bits_become_8(tmp_path: Path) -> None:
    (tmp_path / "rgb.png").write_bytes(cv2.imencode(".png", np.array([[[1, 2, 250]]], np.uint8))[1].tobytes())  # BGR
    assert read_image(tmp_path / "rgb.png")[0, 0].tolist() == [250, 2, 1]
    (tmp_path / "deep.png").write_bytes(cv2.imencode(".png", np.full((2, 2), 0x80FF, np.uint16))[1].tobytes())
    assert read_image(tmp_path / "deep.png").tolist() == [[[128] * 3] * 2] * 2
    (tmp_path / "alpha.png").write_bytes(cv2.imencode(".png", np.full((2, 2, 4), 9, np.uint8))[1].tobytes())
    assert read_image(tmp_path / "alpha.png").shape == (2, 2, 3)


def test_exif_orientation_is_ignored(tmp_path: Path) -> None:
    plain = cv2.imencode(".jpg", np.zeros((4, 9, 3), np.uint8))[1].tobytes()
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6: a quarter turn
    exif = b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff
    (tmp_path / "a.jpg").write_bytes(plain[:2] + exif + plain[2:])
    assert cv2.imread(str(tmp_path / "a.jpg")).shape == (9, 4, 3)  # the note is understood by those who heed it
    assert read_image(tmp_path / "a.jpg").shape == (4, 9, 3) and image_size(tmp_path / "a.jpg") == (9, 4)


@pytest.mark.parametrize("options", [(".jpg", []), (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]), (".png", [])])
def test_every_truncation_is_noticed(tmp_path: Path, options: tuple[str, list[int]]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    whole = cv2.imencode(options[0], noise, options[1])[1].tobytes()
    path = tmp_path / f"a{options[0]}"
    path.write_bytes(whole + b"\0padding")
    assert read_image(path).shape == (9, 11, 3)
    for length in (*range(0, len(whole), 3), *range(len(whole) - 20, len(whole))):
        path.write_bytes(whole[:length])
        with pytest.raises(CrowdlocError, match="is truncated"):
            read_image(path)


def test_a_thumbnail_does_not_pass_for_the_end(tmp_path: Path) -> None:
    thumbnail = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()  # ends in FFD9
    plain = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    whole = plain[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + plain[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(whole)
    assert read_image(path).shape == (64, 64, 3)
    path.write_bytes(whole[:-2])
    with pytest.raises(CrowdlocError, match="truncated"):
        read_image(path)
    for data in (whole, whole[:-2]):  # whatever the decoder of the day accepts
        size, scan = _header(io.BytesIO(data))
        assert size == (64, 64) and _is_whole(data, scan) == (data == whole)


@pytest.fixture
def photograph() -> bytes:
    """A JPEG of 96 x 160 with something in every block."""
    rough = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", cv2.resize(rough, (160, 96)), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def damages(data: bytes) -> dict[str, bytes]:
    """A file that lost a block, or got another one in its middle."""
    middle, length = len(data) // 2, len(data) // 4
    head, tail = data[:middle], data[middle + length :]
    return {"zeros": head + bytes(length) + tail, "gap": head + tail, "noise": head + b"\x5a\xff\x13" * 9 + tail}


@pytest.mark.parametrize("damage", ["zeros", "gap", "noise"])
def test_a_jpeg_with_a_damaged_middle_is_read_with_a_warning(
    tmp_path: Path, photograph: bytes, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(photograph)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).shape == (96, 160, 3)
    path.write_bytes(damages(photograph)[damage])
    with pytest.warns(UserWarning, match=f"image {path} is damaged .*Corrupt JPEG data: .*: restore the file"):
        assert read_image(path).shape == (96, 160, 3)
    assert jpeg_damage(photograph) is None and jpeg_damage(path.read_bytes()) is not None
    assert jpeg_damage(b"") == "no readable image"


def test_a_whole_jpeg_with_a_flat_corner_is_read_without_a_warning(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jpg", (64, 48), 200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).shape == (48, 64, 3)


def test_what_others_say_while_a_decoder_is_listened_to_is_passed_on(
    photograph: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with overhear() as (heard, screen):
        os.write(2, b"another thread\n")
        assert capfd.readouterr().err == ""
        cv2.imdecode(np.frombuffer(damages(photograph)["gap"], np.uint8), cv2.IMREAD_COLOR)
        print("progress", file=screen, flush=True)
        assert capfd.readouterr().err == "progress\n" and len(heard) > 20
    assert capfd.readouterr().err == "another thread\n"


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_image_too_large_for_the_memory_is_refused_with_its_size(tmp_path: Path, suffix: str) -> None:
    path = write_image(tmp_path / f"a{suffix}", (9, 7))
    data = path.read_bytes()
    if suffix == ".jpg":
        path.write_bytes(data.replace(struct.pack(">HH", 7, 9), struct.pack(">HH", 9000, 20000), 1))
    else:
        header = b"IHDR" + struct.pack(">II", 20000, 9000) + data[24:29]
        path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    assert image_size(path) == (20000, 9000)
    with pytest.raises(CrowdlocError, match=f"^image {path} is 20000 x 9000, 180 megapixels: scale it to at most 179 "):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8", b"\xff\xd8\xff\xff\xff", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(CrowdlocError, match=f"{path} is truncated or no readable image: restore"):
            read(path)


def test_absent_image_and_folder_in_its_place(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jpg", tmp_path):
        for read in (read_image, image_size):
            with pytest.raises(CrowdlocError, match=f"image {path} cannot be read"):
                read(path)


@settings(deadline=None)
@given(
    data=st.binary(max_size=200), start=st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xc0", b"\x89PNG\r\n\x1a\n"])
)
def test_arbitrary_bytes_never_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.jpg"
    path.write_bytes(start + data)
    try:
        assert read_image(path).ndim == 3
    except CrowdlocError as error:
        assert str(path) in str(error)


# points outside the image, regions, splits


def test_rule_for_points_outside() -> None:
    points = np.array([[-0.5, 0], [-0.51, 0], [9.49, 4.49], [9.5, 0], [3, 4.5], [400, -300]])
    assert outside_image(points, (10, 5)).tolist() == [False, True, False, True, True, True]
    frame = Frame("a", "s", Path("a"), points, np.arange(24).reshape(6, 4), np.arange(6))
    clipped = settle(frame, (10, 5), "clip")
    assert clipped.points.tolist() == [[-0.5, 0], [0, 0], [9.49, 4.49], [9, 0], [3, 4], [9, 0]]
    dropped = settle(frame, (10, 5), "drop")
    assert dropped.track_ids.tolist() == [0, 2] and dropped.boxes[1].tolist() == [8, 9, 10, 11]
    assert settle(frame, (10, 5), "keep") is frame
    assert settle(frame, (10**6, 10**6), "drop").points.tolist() == [[-0.5, 0], [9.49, 4.49], [9.5, 0], [3, 4.5]]


def test_inside_roi() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    points = np.array([[2, 1], [1.5, 0.5], [1.49, 1], [2.5, 1], [2, 1.49], [-5, 1], [99, 1]])
    assert inside_roi(mask, points).tolist() == [True, True, False, False, True, False, False]
    triangle = np.array([[0, 0], [10, 0], [0, 10]])
    assert inside_roi(triangle, np.array([[1, 1], [5, 5], [6, 5], [-1, 0]])).tolist() == [True, True, False, False]
    for roi in (mask, triangle):
        assert inside_roi(roi, np.zeros((0, 2))).shape == (0,)


@settings(deadline=None)
@given(st.integers(0, 60))
def test_hold_out_shares_out_the_training_set(count: int) -> None:
    items = list(range(count))
    train, val = hold_out(items, "train"), hold_out(items, "val")
    assert sorted(train + val) == items == hold_out(items, "trainval") == hold_out(items, "all")
    assert val == items[9::10]


# load


def test_unknown_names_splits_options_and_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mall" / "frames").mkdir(parents=True)
    (tmp_path / "mall" / "mall_gt.mat").touch()
    for call, message in [
        (lambda: load("mal", tmp_path), "name='mal': choose synthcrowd, .*mall"),
        (lambda: load("mall", tmp_path, "tset"), "split='tset': choose train, val, trainval, test, all"),
        (lambda: load("mall", tmp_path, num_frame=3), "'num_frame' is unknown for mall: choose num_frames"),
        (lambda: load("shanghaitech_a", tmp_path, part="B"), "'part' is unknown for shanghaitech_a"),
        (lambda: load("mall", tmp_path / "none"), "none is not a folder: check --data-root or CROWDLOC_DATA"),
        (lambda: load("mall", tmp_path), r"mall_gt\.mat is damaged or no \.mat file .*restore"),
    ]:
        with pytest.raises(CrowdlocError, match=message):
            call()
    monkeypatch.delenv("CROWDLOC_DATA", raising=False)
    with pytest.raises(CrowdlocError, match="CROWDLOC_DATA"):
        load("mall")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "synthcrowd"])
@pytest.mark.parametrize("split", SPLITS)
def test_wrong_layout_says_what_was_looked_for(tmp_path: Path, name: str, split: str) -> None:
    with pytest.raises(CrowdlocError, match=rf"{name}: no folder with .* in {tmp_path}.*: unpack the official archive"):
        load(name, tmp_path, split)


def test_import_is_light() -> None:
    code = (
        "import sys, crowdloc.datasets; "
        "print([m for m in ('cv2', 'scipy', 'torch', 'tqdm', 'h5py') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# real files


@needs["mall"]
def test_mall() -> None:
    assert [len(load("mall", DATA, split)) for split in ("train", "val", "trainval")] == [680, 100, 800]
    clips = load("mall", DATA)  # frames 801 and on, as far as they are there
    assert len(clips) + len(clips.missing) == 1200
    assert clips.frames[0].id == "seq_000801" and clips.frames[0].scene == "mall"
    clip = clips[0]
    assert clip.frames.shape == (3, 480, 640, 3) and clip.frame_ids == ("seq_000801", "seq_000801", "seq_000802")
    assert clip.frames[:, :14].mean() < 2 and clip.frames.mean() > 30  # the top rows are black
    np.testing.assert_allclose(clip.points[0], [139.18253968, 40.76984127])  # (140.18…, 41.77…) in MATLAB
    assert clips.rois["mall"].shape == (480, 640) and round(clips.rois["mall"].mean(), 3) == 0.902
    assert load("mall", Path(DATA or "") / "mall", "val").frames[0].id == "seq_000701"


@needs["shanghaitech"]
@pytest.mark.parametrize(
    ("part", "train", "test"), [("a", (300, 162_707), (182, 78_970)), ("b", (400, 49_280), (316, 39_208))]
)
def test_shanghaitech(part: str, train: tuple[int, int], test: tuple[int, int]) -> None:
    for split, expected in (("trainval", train), ("test", test)):
        clips = load(f"shanghaitech_{part}", DATA, split)
        assert (len(clips), sum(len(frame.points) for frame in clips.frames)) == expected
        assert not clips.missing and clips.num_frames == 1
        for frame in clips.frames:
            assert not outside_image(frame.points, image_size(frame.path)).any()
    val, rest = (load(f"shanghaitech_{part}", DATA, split) for split in ("val", "train"))
    assert [frame.id for frame in val.frames[:2]] == ["train_IMG_10", "train_IMG_20"]
    assert len(val) + len(rest) == train[0]
    assert not {frame.id for frame in val.frames} & {frame.id for frame in rest.frames}
    assert clips[0].frames.shape[0] == 1 and clips[0].frames.shape[3] == 3


@needs["shanghaitech"]
def test_shanghaitech_keeps_or_drops_what_lies_outside() -> None:
    kept, dropped = (load("shanghaitech_a", DATA, "val", outside=rule) for rule in ("keep", "drop"))
    assert sum(len(f.points) for f in kept.frames) - sum(len(f.points) for f in dropped.frames) == 11
    assert min(f.points.min() for f in kept.frames) < -0.5
    with pytest.raises(CrowdlocError, match="outside='clamp': choose clip, drop, keep"):
        load("shanghaitech_a", DATA, outside="clamp")


@needs["mall"]
def test_truncated_real_jpeg(tmp_path: Path) -> None:
    whole = (Path(DATA or "") / "mall" / "frames" / "seq_000001.jpg").read_bytes()
    path = tmp_path / "seq_000001.jpg"
    for length in (0, 2, 300, 1000, len(whole) // 2, len(whole) - 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CrowdlocError, match="truncated"):
            read_image(path)

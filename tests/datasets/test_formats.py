"""Readers on tiny files in the official formats, written here, and on damaged ones."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files_of_sets import (
    VIA,
    cell,
    head_struct,
    save,
    write_image,
    write_mall,
    write_shanghaitech,
    write_text,
    write_ucsd,
    write_via,
    write_worldexpo,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets import inside_roi, load, verify
from crowdloc.datasets.fdst import read_boxes
from crowdloc.datasets.files import find_folder, natural
from crowdloc.datasets.matlab import load_mat
from crowdloc.datasets.sensecrowd import read_video


def points(clips: Any) -> list[list[list[float]]]:
    return [frame.points.tolist() for frame in clips.frames]


# Mall


def test_mall_splits_shift_and_missing_frames(tmp_path: Path) -> None:
    write_mall(
        tmp_path, {680: [[1, 1]], 801: [[64, 48], [1.5, 2]], 803: [[70, 1]]}, [680, 681, 700, 701, 800, 801, 803]
    )
    assert [frame.id for frame in load("mall", tmp_path, "train").frames] == ["seq_000680"]
    assert points(load("mall", tmp_path, "train")) == [[[0, 0]]]
    assert [frame.id for frame in load("mall", tmp_path, "val").frames] == ["seq_000701", "seq_000800"]
    assert len(load("mall", tmp_path, "trainval")) == 5 and len(load("mall", tmp_path, "all")) == 7
    test = load("mall", tmp_path, "test")
    assert points(test) == [[[63, 47], [0.5, 1]], [[63, 0]]]  # the last clipped to the border
    assert len(test.missing) == 1198 and test.missing[0] == "seq_000802"
    assert test[1].frame_ids == ("seq_000801", "seq_000803", "seq_000803") and not test.rois
    assert len(load("mall", tmp_path / "mall", "test", num_frames=1)[0].frames) == 1


def test_mall_region(tmp_path: Path) -> None:
    write_mall(tmp_path, {}, [900])
    save(
        tmp_path / "mall" / "perspective_roi.mat", roi={"mask": np.eye(480, 640, dtype=np.uint8)}, pMapN=np.ones((3, 3))
    )
    clips = load("mall", tmp_path)
    assert clips.rois["mall"].dtype == bool and clips.rois["mall"].sum() == 480
    assert points(clips) == [[]] and clips[0].points.shape == (0, 2)  # a frame without heads
    save(tmp_path / "mall" / "perspective_roi.mat", roi={"area": 1})
    with pytest.raises(CrowdlocError, match=r"perspective_roi\.mat: roi has no 'mask'"):
        load("mall", tmp_path)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((3, 3)), r"the mask of roi is \(3, 3\), the images are \(480, 640\)"),
        (np.ones((640, 480)), r"the mask of roi is \(640, 480\)"),
        (np.ones((480, 640, 3)), r"the mask of roi is \(480, 640, 3\)"),
        (1.0, r"the mask of roi is \(1, 1\)"),
        ("inside", "the mask of roi holds no numbers"),
        (cell(1, 2), "the mask of roi holds no numbers"),
        ({"a": 1}, "the mask of roi holds no numbers"),
        (np.full((480, 640), np.nan), "the mask of roi holds no numbers"),
        (np.zeros((0, 0)), r"the mask of roi is \(0, 0\)"),
    ],
)
def test_a_mask_that_is_none(tmp_path: Path, mask: Any, message: str) -> None:
    write_mall(tmp_path, {}, [900])
    path = save(tmp_path / "mall" / "perspective_roi.mat", roi={"mask": mask})
    with pytest.raises(CrowdlocError, match=f"^annotation {path}: {message}.*: restore the official file$"):
        load("mall", tmp_path)


def test_mall_damage(tmp_path: Path) -> None:
    path = write_mall(tmp_path, {801: [[1, 1]], 802: [[2, np.nan]]}, [801, 802])
    with pytest.raises(CrowdlocError, match=f"{path}, frame 802: point 1 is not finite: restore"):
        load("mall", tmp_path)
    write_mall(tmp_path, {801: [[1, 1]]}, [801], count={801: 3})
    with pytest.raises(CrowdlocError, match=f"{path}, frame 801: 1 points, but its count is 3"):
        load("mall", tmp_path)
    with pytest.raises(
        CrowdlocError, match=r"mall: split 'val' is empty \(none of its images exists, e.g. .*seq_000701"
    ):
        load("mall", tmp_path, "val")
    for variables, message in [
        ({"frames": 1, "count": 2}, r"has no variable 'frame' \(found: frames, count\): restore"),
        ({"frame": cell(1, 2), "count": np.ones((2, 1))}, "frame 1: no 'loc' or no count"),
        ({"frame": cell({"loc": 1}), "count": np.ones((2, 1))}, "1 frames, 2 counts"),
        ({"frame": cell({"loc": 1}), "count": np.full((1, 1), np.inf)}, "frame 1: no 'loc' or no count"),
        ({"frame": cell({"loc": 1}), "count": np.full((1, 1), np.nan)}, "frame 1: no 'loc' or no count"),
        ({"frame": cell({"loc": 1}), "count": np.ones((1, 1))}, "frame 1: points are no rows of x and y"),
        ({"frame": cell({"loc": "words"}), "count": np.ones((1, 1))}, "frame 1: points are no rows of x and y"),
    ]:
        save(path, **variables)
        with pytest.raises(CrowdlocError, match=f"{path}.*{message}"):
            load("mall", tmp_path, "all")


# ShanghaiTech


@pytest.mark.parametrize(
    ("folder", "truth"),
    [
        ("shanghaitech/part_A_final", "ground_truth"),
        ("ShanghaiTech/part_A", "ground-truth"),
        ("ShanghaiTech_Crowd_Counting_Dataset/part_A_final", "ground_truth"),
        ("part_A", "ground_truth"),
    ],
)
def test_shanghaitech_layouts(tmp_path: Path, folder: str, truth: str) -> None:
    write_shanghaitech(tmp_path / folder, "train", 11, truth)
    write_shanghaitech(tmp_path / folder, "test", 2, truth)
    train = load("shanghaitech_a", tmp_path, "train")
    assert [frame.id for frame in train.frames] == [f"train_IMG_{i}" for i in (*range(1, 10), 11)]  # natural order
    assert [frame.id for frame in load("shanghaitech_a", tmp_path, "val").frames] == ["train_IMG_10"]
    assert (
        len(load("shanghaitech_a", tmp_path, "trainval")) == 11 and len(load("shanghaitech_a", tmp_path, "all")) == 13
    )
    (tmp_path / folder / "test_data" / "images" / "._IMG_1.jpg").write_bytes(b"macOS")  # ignored
    test = load("shanghaitech_a", tmp_path / folder, "test", num_frames=3)
    assert points(test) == [[[0, 0], [0, 1]], [[1, 0], [0, 1]]]
    assert [test[i].frames.shape for i in (0, 1)] == [(3, 10, 21, 3), (3, 10, 22, 3)]  # mixed sizes, one grey
    assert test[0].frame_ids == ("test_IMG_1",) * 3  # an image has no neighbours
    with pytest.raises(CrowdlocError, match="is the other part" if folder.endswith(("A", "final")) else "no folder"):
        load("shanghaitech_b", tmp_path / folder, "test")


def test_shanghaitech_missing_halves(tmp_path: Path) -> None:
    folder = tmp_path / "part_B"
    write_shanghaitech(folder, "test", 3)
    assert len(load("shanghaitech_b", tmp_path)) == 3
    with pytest.raises(CrowdlocError, match="no folder with train_data/images"):
        load("shanghaitech_b", tmp_path, "train")
    (folder / "test_data" / "images" / "IMG_2.jpg").unlink()
    assert load("shanghaitech_b", tmp_path).missing == ("test_IMG_2",)
    truth = folder / "test_data" / "ground_truth" / "GT_IMG_3.mat"
    truth.unlink()
    with pytest.raises(CrowdlocError, match=r"annotation .*GT_IMG_3\.mat cannot be read \(No such file"):
        load("shanghaitech_b", tmp_path)
    for variables, message in [
        ({"image_info": head_struct([[1, 1]], 7)}, "1 points, but its number is 7"),
        ({"image_info": cell({"location": np.ones((1, 2))})}, "image_info holds no location and number"),
        ({"image_info": 3}, "image_info holds no location and number"),
        ({"image_info": head_struct([[1, 1]], np.inf)}, "image_info holds no location and number"),
        ({"annPoints": 3}, r"has no variable 'image_info' \(found: annPoints\)"),
        ({"image_info": head_struct([[np.inf, 1]])}, "point 1 is not finite"),
    ]:
        save(truth, **variables)
        with pytest.raises(CrowdlocError, match=f"GT_IMG_3.mat.*{message}"):
            load("shanghaitech_b", tmp_path)
    save(truth, image_info=head_struct([]))
    assert points(load("shanghaitech_b", tmp_path))[1] == []
    find = folder / "test_data" / "ground_truth"
    find.rename(folder / "test_data" / "labels")
    with pytest.raises(CrowdlocError, match=r"no folder with ground_truth or ground-truth in .*test_data"):
        load("shanghaitech_b", tmp_path)


# SenseCrowd

OFFICIAL = "0001 68 20.44 305.76 51.62 332.67 34.97 317.8 52 1 2 3 4 2 3\n0002\n\n0004 68 1 1 3 3 2 2 \r\n"
REPACKED = (
    "0001.jpg 640 480 20.44 305.76 51.62 332.67 34.97 317.8 68 1 2 3 4 2 3 52\n"
    "0002.jpg 0 0\n0004.jpg 0 0 1 1 3 3 2 2 68"
)


@pytest.mark.parametrize("repacked", [False, True])
def test_sensecrowd(tmp_path: Path, repacked: bool) -> None:
    folder = tmp_path / "VSCrowd"
    videos, annotations = ("video_ori", "label_list_all") if repacked else ("videos", "annotations")
    for scene in ("train_001", "train_002", "test_001"):
        write_text(folder / annotations / f"{scene}.txt", REPACKED if repacked else OFFICIAL)
        for number in (1, 2, 3):
            write_image(folder / videos / scene / f"{number:04d}.jpg", (640, 480))
    clips = load("sensecrowd", tmp_path)
    first, second = clips.frames
    assert (first.id, first.scene, second.id) == ("test_001_0001", "test_001", "test_001_0002")
    assert first.points.tolist() == [[34.97, 317.8], [2, 3]] and first.track_ids.tolist() == [68, 52]
    assert first.boxes.tolist() == [[20.44, 305.76, 51.62, 332.67], [1, 2, 3, 4]]
    assert second.points.shape == (0, 2) and second.boxes.shape == (0, 4) and second.track_ids.shape == (0,)
    assert clips.missing == ("test_001_0004",)
    assert clips[1].frame_ids == ("test_001_0001", "test_001_0002", "test_001_0002")
    train = load("sensecrowd", tmp_path, "train")
    assert [frame.scene for frame in train.frames] == ["train_001"] * 2 + ["train_002"] * 2
    with pytest.raises(CrowdlocError, match="split 'val' is empty"):  # fewer than ten videos
        load("sensecrowd", tmp_path, "val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0001 1 2 3\n", "line 1: 4 tokens are not 1 and seven a head"),
        ("0001\n0002 1 1 1 1 1 1 x\n", "line 2: a token after '0002' is no number"),
        ("0001\n0001\n", "line 2: frame '0001' is repeated"),
        ("0001\n" + "9" * 300 + "\n", "line 2: frame '9+' is no name"),
        ("\n\n0001 1 1 1 1 1 1 nan\n", "line 3: a coordinate is not finite"),
        ("0001 1.5 1 1 1 1 1 1\n", "line 1: .* an id no whole number"),
        ("0001 1e300 1 1 1 1 1 1\n", "line 1: .* an id no whole number"),
        ("..\n", "line 1: frame '..' is no name|line 1"),
    ],
)
def test_sensecrowd_damage(tmp_path: Path, text: str, message: str) -> None:
    path = write_text(tmp_path / "annotations" / "test_001.txt", text)
    if text == "..\n":  # a name that leaves the folder is kept inside it
        assert all(frame.path.parent == tmp_path for frame in read_video(path, tmp_path))
        return
    with pytest.raises(CrowdlocError, match=f"annotation {path}, {message}.*: restore the file"):
        read_video(path, tmp_path)


tokens = st.one_of(
    st.text("09", min_size=50, max_size=400),
    st.floats().map(repr),
    st.integers().map(str),
    st.text(max_size=5),
    st.sampled_from(["0001", "1e9", "\0", "a/b", "é"]),
)
lines = st.lists(st.lists(tokens, max_size=9).map(" ".join), max_size=4).map("\n".join)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(st.binary(max_size=80), lines.map(lambda text: text.encode("utf-8", "surrogatepass"))),
    kind=st.booleans(),
)
def test_sensecrowd_fuzz(tmp_path: Path, data: bytes, kind: bool) -> None:
    path = tmp_path / "test_001.txt"
    path.write_bytes(data)
    try:
        for frame in read_video(path, tmp_path, repacked=kind):
            assert np.isfinite(frame.points).all() and len(frame.boxes) == len(frame.points) == len(frame.track_ids)
            frame.path.is_file()  # a name that the system refuses must not get this far
    except CrowdlocError as error:
        assert f"{path}, line " in str(error) and str(error).count("\n") == 0


# FDST


def test_fdst(tmp_path: Path) -> None:
    for video in range(1, 12):
        for number in (1, 2):
            write_image(tmp_path / "FDST" / "train_data" / str(video) / f"{number:03d}.jpg", (64, 36))
            write_via(tmp_path / "FDST" / "train_data" / str(video) / f"{number:03d}.json", (10, 20, 4, 6))
    write_image(tmp_path / "FDST" / "test_data" / "1" / "001.jpg", (64, 36))
    write_via(tmp_path / "FDST" / "test_data" / "1" / "001.json")
    write_via(tmp_path / "FDST" / "test_data" / "1" / "002.json", (0, 0, 1, 1))
    train = load("fdst", tmp_path, "train")
    assert len(train) == 20 and {frame.scene for frame in load("fdst", tmp_path, "val").frames} == {"train_10"}
    assert train.frames[0].points.tolist() == [[12, 23]] and train.frames[0].boxes.tolist() == [[10, 20, 14, 26]]
    assert train[0].frame_ids == ("train_1_001", "train_1_001", "train_1_002")
    test = load("fdst", tmp_path)
    assert points(test) == [[]] and test.missing == ("test_1_002",)
    write_image(tmp_path / "FDST" / "test_data" / "1" / "003.jpg", (64, 36))
    with pytest.raises(CrowdlocError, match=r"003\.json cannot be read"):
        load("fdst", tmp_path)


def test_via_of_both_generations(tmp_path: Path) -> None:
    region = {"shape_attributes": {"x": 1, "y": 2.5, "width": 3, "height": 4}}
    old = write_text(tmp_path / "old.json", VIA % json.dumps({"0": region}))
    new = write_text(tmp_path / "new.json", VIA % json.dumps([region]))
    assert read_boxes(old).tolist() == read_boxes(new).tolist() == [[1, 2.5, 4, 6.5]]
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf" + new.read_bytes())
    assert read_boxes(tmp_path / "bom.json").shape == (1, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a":\n\n{]', "line 3: no JSON"),
        ("", "line 1: no JSON"),
        ("[]", "line 1: no image with 'regions'"),
        ("{}", "line 1: no image with 'regions'"),
        ("3", "line 1: no image with 'regions'"),
        (VIA % "5", "line 1: no image with 'regions'"),
        (VIA % "[5]", "line 1, region 1: no rectangle"),
        (VIA % '[{"shape_attributes": {"name": "point", "cx": 1, "cy": 2}}]', "line 1, region 1: no rectangle"),
        (VIA % '[{"shape_attributes": {"x": NaN, "y": 1, "width": 1, "height": 1}}]', "line 1, region 1: not finite"),
        (
            VIA % '[{"shape_attributes": {"x": null, "y": 1, "width": 1, "height": 1}}]',
            "line 1, region 1: no rectangle",
        ),
        (VIA % f'[{{"shape_attributes": {{"x": 1{"0" * 400}, "y": 1, "width": 1, "height": 1}}}}]', "line 1, region 1"),
        (VIA % ("9" * 5000), "line 1: no VIA annotation"),
        ("[" * 100_000, "line 1: no"),
    ],
)
def test_fdst_damage(tmp_path: Path, text: str, message: str) -> None:
    path = write_text(tmp_path / "001.json", text)
    with pytest.raises(CrowdlocError, match=f"annotation {path}, {message}"):
        read_boxes(path)


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4))
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["regions", "shape_attributes", "x", "y", "width", "height"]), inner, max_size=4
        ),
    ),
    max_leaves=12,
)
regions = st.lists(
    st.fixed_dictionaries(
        {"shape_attributes": st.fixed_dictionaries({k: scalars for k in ("x", "y", "width", "height")})}
    ),
    max_size=3,
).map(lambda found: {"1.jpg": {"regions": found}})


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=60), st.one_of(trees, regions).map(lambda tree: json.dumps(tree).encode())))
def test_fdst_fuzz(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "001.json"
    path.write_bytes(data)
    try:
        boxes = read_boxes(path)
        assert boxes.shape[1] == 4 and np.isfinite(boxes).all()
    except CrowdlocError as error:
        assert f"{path}, line " in str(error) and str(error).count("\n") == 0


# UCSD


@pytest.mark.parametrize("layout", ["beside", "cvpr", "release"])
def test_ucsd(tmp_path: Path, layout: str) -> None:
    truth = tmp_path / "ucsd" / {"beside": "vidf", "cvpr": "vidf-cvpr", "release": "gt/vidf"}[layout]
    videos = tmp_path / "ucsd" / ("video/vidf" if layout == "release" else "vidf")
    for clip in (3, 6):
        name = f"vidf1_33_{clip:03d}"
        locations = [np.array([[1.0, 1, t], [3, 2, t]])[: t % 3] for t in range(1, 201)]
        cells = cell(*({"loc": loc, "id": np.arange(5, 5 + len(loc))[None]} for loc in locations))
        save(
            truth / f"{name}_frame_full.mat", **({"fgt": {"frame": cells}} if layout == "release" else {"frame": cells})
        )
        for t in (1, 2, 120, 121, 200):
            write_image(videos / f"{name}.y" / f"{name}_f{t:03d}.png", (238, 158), grey=True)
    for clip in (4, 5):
        save(truth / f"vidf1_33_{clip:03d}_frame_full.mat", frame=cell())
    with pytest.warns(UserWarning, match=r"ucsd: \S+_roi_mainwalkway.mat not found: .* counts are of the whole image"):
        assert load("ucsd", tmp_path, "train").rois == {}
    (truth / "vidf1_33_004_frame_full.mat").unlink()
    mask = np.zeros((158, 238), np.uint8)
    mask[0, 0] = 1
    save(truth / "vidf1_33_roi_mainwalkway.mat", roi={"xi": [1.0], "yi": [1.0], "mask": mask})
    with pytest.raises(CrowdlocError, match=r"vidf1_33_004_frame_full\.mat cannot be read"):
        load("ucsd", tmp_path, "train")
    save(truth / "vidf1_33_004_frame_full.mat", frame=cell())
    train, val, both = (load("ucsd", tmp_path, split) for split in ("train", "val", "trainval"))
    assert [frame.id[-8:] for frame in train.frames] == [f"{c}_f{t}" for c, t in
        (("003", "001"), ("003", "002"), ("003", "120"), ("003", "121"), ("003", "200"),
         ("006", "001"), ("006", "002"), ("006", "120"))]  # fmt: skip
    assert [frame.id for frame in val.frames] == ["vidf1_33_006_f121", "vidf1_33_006_f200"]
    assert len(both) == 10 and len(train.missing) + len(val.missing) == len(both.missing) == 390
    assert train.frames[1].points.tolist() == [[0, 0], [2, 1]] and train.frames[1].track_ids.tolist() == [5, 6]
    assert train.frames[2].points.shape == (0, 2) and train[0].frames.shape == (3, 158, 238, 3)
    assert train.rois["vidf1_33_003"].sum() == 1 and train.rois["vidf1_33_003"].shape == (158, 238)


def test_ucsd_counts_a_frame_by_the_official_rule(tmp_path: Path) -> None:
    """A point outside the image is in no region; at the border, where the published total has it, it would be."""
    mask = np.zeros((158, 238), np.uint8)
    mask[:, :20] = 1
    write_ucsd(tmp_path, {(0, 1): [[1, 1, 1], [-3, 9, 1], [0.4, 9, 1], [0.5, 9, 1], [20, 158, 1], [21, 9, 1]]}, mask)
    counts = {}
    for rule in ({}, {"outside": "keep"}, {"outside": "drop"}, {"outside": "clip"}):
        clips = load("ucsd", tmp_path, **rule)
        frame = clips.frames[0]
        counts[rule.get("outside")] = int(inside_roi(clips.rois[frame.scene], frame.points).sum())
    assert counts == {None: 3, "keep": 3, "drop": 3, "clip": 5}
    assert len(load("ucsd", tmp_path).frames[0].points) == 4


def test_ucsd_damage(tmp_path: Path) -> None:
    (tmp_path / "vidf").mkdir()
    path = tmp_path / "vidf" / "vidf1_33_000_frame_full.mat"
    for variables, message in [
        ({"people": 1}, "has no variable 'frame'"),
        ({"frame": cell({"loc": np.ones((1, 3))}, 5)}, "frame 2: no field 'loc'"),
        (
            {"frame": cell({"loc": np.ones((1, 3)), "id": np.ones((1, 2))})},
            "frame 1: no field 'loc', or another number",
        ),
        ({"fgt": {"frames": 1}}, ": no field 'loc'"),
        ({"frame": cell({"loc": np.ones((1, 3)), "id": [[1e300]]})}, "frame 1: no field 'loc', or another number"),
        ({"frame": cell({"loc": np.ones((1, 3)), "id": [[1.5]]})}, "frame 1: no field 'loc', or another number"),
        ({"frame": cell({"loc": np.ones((1, 3)), "id": "7"})}, "frame 1: no field 'loc', or another number"),
        ({"frame": cell({"loc": np.full((1, 3), np.nan)})}, "frame 1: point 1 is not finite"),
    ]:
        save(path, **variables)
        with pytest.raises(CrowdlocError, match=f"{path}.*{message}"):
            load("ucsd", tmp_path)


# WorldExpo'10


def test_worldexpo(tmp_path: Path) -> None:
    folder = tmp_path / "WorldExpo10"
    for number in range(1, 12):
        write_worldexpo(folder, "train", f"1000{number:02d}", [f"1000{number:02d}_clip_{t}" for t in (2, 10)])
    write_worldexpo(folder, "test", "104207", ["104207_1"])
    train = load("worldexpo", tmp_path, "train")
    assert [frame.id for frame in train.frames[:2]] == ["100001_clip_2", "100001_clip_10"] and len(train) == 20
    assert {frame.scene for frame in load("worldexpo", tmp_path, "val").frames} == {"100010"}
    test = load("worldexpo", tmp_path)
    assert points(test) == [[[10, 20], [0, 0]]] and test.rois["104207"].tolist() == [[5, 5], [30, 5], [30, 40], [5, 40]]
    save(
        folder / "test_label" / "104207" / "roi.mat",
        maskVerticesXCoordinates=[[1.0]],
        maskVerticesYCoordinates=[[1.0, 2]],
    )
    with pytest.raises(CrowdlocError, match=r"roi\.mat: points are no rows"):
        load("worldexpo", tmp_path)
    for corners in ([[6.0], [31]], np.zeros((0, 0)), [[6.0], [np.nan], [31]], "polygon"):
        axes = {f"maskVertices{axis}Coordinates": corners for axis in "XY"}
        path = save(folder / "test_label" / "104207" / "roi.mat", **axes)
        with pytest.raises(CrowdlocError, match=f"^annotation {path}.*(corners|no rows|not finite).*: restore"):
            load("worldexpo", tmp_path)
    save(folder / "test_label" / "104207" / "104207_1.mat", point_positions=1)
    with pytest.raises(CrowdlocError, match=r"104207_1\.mat has no variable 'point_position'"):
        load("worldexpo", tmp_path)
    save(folder / "test_label" / "104207" / "104207_1.mat", point_position=np.zeros((0, 0)))
    (folder / "test_label" / "104207" / "roi.mat").unlink()
    assert points(load("worldexpo", tmp_path)) == [[]] and load("worldexpo", tmp_path).rois == {}


def test_matlab_7_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(100))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(CrowdlocError, match=f"annotation {path} is a MATLAB v7.3 file: pip install h5py"):
        load_mat(path)

    class File(dict):
        def __init__(self, name: Path) -> None:
            super().__init__({"point_position": np.array([[1.0, 2, 3], [4, 5, 6]]), "#refs#": {}})

        def __enter__(self) -> File:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setitem(sys.modules, "h5py", types.SimpleNamespace(File=File))
    assert {name: array.tolist() for name, array in load_mat(path).items()} == {
        "point_position": [[1, 4], [2, 5], [3, 6]]  # HDF5 holds the axes reversed
    }

    def broken(name: Path) -> None:
        raise OSError("truncated file")

    monkeypatch.setitem(sys.modules, "h5py", types.SimpleNamespace(File=broken))
    with pytest.raises(CrowdlocError, match=f"annotation {path} is damaged or no .mat file"):
        load_mat(path)


# DroneCrowd


def test_dronecrowd(tmp_path: Path) -> None:
    folder = tmp_path / "DroneCrowd"
    for half, video in (("train", 1), ("val", 3), ("test", 11)):
        for frame in (1, 2):
            stem = f"img{video:03d}{frame:03d}"
            write_image(folder / f"{half}_data" / "images" / f"{stem}.jpg", (64, 36))
            save(
                folder / f"{half}_data" / "ground_truth" / f"GT_{stem}.mat",
                image_info=head_struct([[frame, 5], [90, 5]]),
            )
    test = load("dronecrowd", tmp_path)
    assert points(test) == [[[1, 5], [63, 5]], [[2, 5], [63, 5]]] and test.frames[0].scene == "011"
    assert test[0].frame_ids == ("img011001", "img011001", "img011002") and test.frames[0].boxes is None
    assert [len(load("dronecrowd", tmp_path, split)) for split in ("train", "val", "trainval", "all")] == [2, 2, 4, 6]
    with pytest.raises(CrowdlocError, match="no folder with test_data/images, annotations"):
        load("dronecrowd", tmp_path, annotation="tracks")
    anno = [[0, 7, 10, 10, 20, 30], [1, 7, 12, 10, 22, 30], [1, 8, 0, 0, 2, 2], [2, 7, 0, 0, 1, 1]]
    save(folder / "annotations" / "00011.mat", anno=np.array(anno, np.int32))
    tracks = load("dronecrowd", tmp_path, annotation="tracks")
    assert points(tracks) == [[[15, 20]], [[17, 20], [1, 1]]] and tracks.frames[1].track_ids.tolist() == [7, 8]
    assert tracks.frames[1].boxes.tolist() == [[12, 10, 22, 30], [0, 0, 2, 2]]
    for bad in (np.ones((2, 5)), np.full((1, 6), np.nan), np.full((1, 6), 1e300), "text"):
        save(folder / "annotations" / "00011.mat", anno=bad)
        with pytest.raises(CrowdlocError, match=r"00011\.mat: anno is no table"):
            load("dronecrowd", tmp_path, annotation="tracks")
    with pytest.raises(CrowdlocError, match="annotation='boxes': choose points, tracks"):
        load("dronecrowd", tmp_path, annotation="boxes")
    write_image(folder / "test_data" / "images" / "img1.jpg")
    with pytest.raises(CrowdlocError, match=r"img1\.jpg is not named"):
        load("dronecrowd", tmp_path)


# damaged .mat files


def _walk(root: Path) -> dict[str, Callable[[], object]]:
    write_mall(root, {801: [[1, 1]]}, [801])
    write_shanghaitech(root / "part_A", "test", 1)
    write_worldexpo(root / "worldexpo", "test", "104207", ["a"])
    save(root / "ucsd" / "vidf" / "vidf1_33_000_frame_full.mat", frame=cell({"loc": np.ones((2, 3)), "id": [[1, 2]]}))
    return {
        "mall/mall_gt.mat": lambda: load("mall", root),
        "part_A/test_data/ground_truth/GT_IMG_1.mat": lambda: load("shanghaitech_a", root),
        "worldexpo/test_label/104207/a.mat": lambda: load("worldexpo", root),
        "worldexpo/test_label/104207/roi.mat": lambda: load("worldexpo", root),
        "ucsd/vidf/vidf1_33_000_frame_full.mat": lambda: load("ucsd", root),
    }


def test_mat_damage_is_always_a_clear_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, call in _walk(tmp_path).items():
        path = tmp_path / name
        whole = path.read_bytes()
        for length in rng.integers(0, len(whole), 6):
            path.write_bytes(whole[:length])
            with pytest.raises(CrowdlocError, match=f"annotation {path} .*: restore the official file"):
                call()
        for _ in range(40):
            damaged = bytearray(whole)
            for position in rng.integers(0, len(whole), 4):
                damaged[position] = rng.integers(0, 256)
            path.write_bytes(damaged)
            try:
                call()
            except CrowdlocError as error:
                assert "\n" not in str(error)
        path.write_bytes(whole)


def test_natural_order_and_folders(tmp_path: Path) -> None:
    names = ["IMG_10.jpg", "IMG_9.jpg", "a.jpg", "IMG_9b.jpg", "10.jpg", "9.jpg", "²3.jpg"]
    assert [p.name for p in sorted(map(Path, names), key=natural)] == [
        "9.jpg", "10.jpg", "IMG_9.jpg", "IMG_9b.jpg", "IMG_10.jpg", "a.jpg", "²3.jpg"]  # fmt: skip
    (tmp_path / "x" / "labels").mkdir(parents=True)
    assert find_folder(tmp_path, ("y", "x"), ["images|labels"], "set") == tmp_path / "x"
    assert find_folder(tmp_path / "x", ("y",), ["labels"], "set") == tmp_path / "x"


def test_names_that_are_not_utf8_are_refused_and_can_be_printed(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xff"))
    root.mkdir()
    write_shanghaitech(root / "part_A", "train", 11)
    write_shanghaitech(root / "part_A", "test", 1)
    assert "d\\udcff" in str(verify("shanghaitech_a", root, progress=False)).encode().decode()  # its copies
    (root / "part_A" / "test_data" / "ground_truth" / "GT_IMG_1.mat").write_bytes(b"")
    with pytest.raises(CrowdlocError, match=r"annotation \S+/d\\udcff/\S+GT_IMG_1.mat is damaged") as caught:
        load("shanghaitech_a", root)
    str(caught.value).encode()
    (root / "part_A" / "test_data" / "images" / os.fsdecode(b"\xe9.jpg")).write_bytes(b"")
    with pytest.raises(CrowdlocError, match=r"images: the name '\\udce9.jpg' in it is not UTF-8: rename it$") as caught:
        load("shanghaitech_a", root)
    str(caught.value).encode()

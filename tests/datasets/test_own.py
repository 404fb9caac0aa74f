"""A folder of one's own: what the annotation may say, and that everything else is refused with its place."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.paths import ROOT
from crowdloc.datasets.own import describe, load_own


def picture(path, size=(40, 30), orientation=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, (90, 120, 150)).save(path, exif=exif)


@pytest.fixture
def folder(tmp_path):
    """Two videos, of ten and three frames; the names of the first do not sort as text."""
    for k in range(1, 11):
        picture(tmp_path / "mine" / "a" / f"f_{k}.png")
    for k in range(3):
        picture(tmp_path / "mine" / "b" / f"{k}.jpg", size=(64, 48))
    return tmp_path / "mine"


def write(folder, lines, header="frame,x,y"):
    (folder / "points.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def test_points_of_csv_and_json_are_the_same(folder):
    write(folder, ["a/f_2.png,1.5,2", "a/f_10.png,39,0", "a/f_2.png, 3 ,4.25", "a/f_1.png,,", "b/0.jpg,63.4,47.4"])
    first = load_own(folder)
    assert [frame.id for frame in first.frames] == ["a/f_1.png", "a/f_2.png", "a/f_10.png", "b/0.jpg"]
    assert [frame.points.tolist() for frame in first.frames] == [[], [[1.5, 2], [3, 4.25]], [[39, 0]], [[63.4, 47.4]]]
    assert [frame.scene for frame in first.frames] == ["a", "a", "a", "b"]
    assert first.name == "mine" and first.image(3).shape == (48, 64, 3)
    (folder / "points.csv").unlink()
    content = {
        "b/0.jpg": {"points": [[63.4, 47.4]]},
        "a/f_2.png": [[1.5, 2], [3, 4.25]],
        "a/f_10.png": [[39, 0]],
        "a/f_1.png": [],
    }
    (folder / "points.json").write_text(json.dumps(content))
    second = load_own(folder)
    assert describe(second) == describe(first) == describe(first) | {"images": 4, "heads": 4}
    content["a/f_1.png"] = [[1, 1]]
    (folder / "points.json").write_text(json.dumps(content))
    assert describe(load_own(folder))["digest"] != describe(first)["digest"]


def test_every_video_is_split_by_fifths_in_time(folder):
    write(folder, [f"a/f_{k}.png,5,5" for k in range(1, 11)] + [f"b/{k}.jpg,5,5" for k in range(3)])
    ids = {split: [frame.id for frame in load_own(folder, split).frames] for split in ("train", "val", "test")}
    assert ids["train"] == [f"a/f_{k}.png" for k in range(1, 7)] + [f"b/{k}.jpg" for k in range(3)]
    assert ids["val"] == ["a/f_7.png", "a/f_8.png"] and ids["test"] == ["a/f_9.png", "a/f_10.png"]
    assert len(load_own(folder, "trainval")) == 11 and len(load_own(folder)) == 13
    photos = [[frame.id for frame in load_own(folder, split, photos=True).frames] for split in ("val", "test")]
    assert photos == [["a/f_10.png", "b/0.jpg"], ["b/1.jpg", "b/2.jpg"]]
    assert len({frame.scene for frame in load_own(folder, photos=True).frames}) == 13
    val = load_own(folder, "val")
    assert [val.frame(i).id for i in val.neighbours(1, (-1, 0, 1))] == ["a/f_7.png", "a/f_8.png", "a/f_9.png"]


def test_a_split_column_decides(folder):
    write(folder, ["a/f_1.png,5,5,test", "a/f_1.png,6,5,test", "a/f_2.png,5,5,train"], "Frame, X,Y , split,note")
    assert [frame.id for frame in load_own(folder, "test").frames] == ["a/f_1.png"]
    with pytest.raises(CrowdlocError, match=r"its split 'val' holds no frame \(2 are annotated\)"):
        load_own(folder, "val")


def test_points_are_in_the_upright_picture(folder):
    """A photo stored on its side (EXIF 6): 30 wide and 40 high as viewers show it."""
    picture(folder / "p.jpg", size=(40, 30), orientation=6)
    write(folder, ["p.jpg,29,39"])
    data = load_own(folder)
    assert data.image(0).shape == (40, 30, 3)
    write(folder, ["p.jpg,39,29"])
    with pytest.raises(CrowdlocError, match=r"outside its 30×40 pixels: are x and y exchanged\?"):
        load_own(folder)


def test_a_hand_that_slipped_over_the_edge_is_forgiven(folder):
    write(folder, ["a/f_1.png,-1.5,3", "a/f_1.png,40,31", "a/f_1.png,-0.4,29.4"])
    assert load_own(folder).frames[0].points.tolist() == [[0, 3], [39, 29], [-0.4, 29.4]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a/f_1.png,5,5", "a/f_1.png,5,x"], r"points\.csv, line 3: \('5', 'x'\) is no point x, y"),
        (["a/f_1.png,5"], r"line 2: \('5', ''\) is no point"),
        (["a/f_1.png,nan,2"], r"line 2: \('nan', '2'\) is no point"),
        (
            ["a/f_1.png,5,5", "a/f_1.png,52,5"],
            r"f_1\.png, line 3: point \(52, 5\) lies outside its 40×30 pixels: is it of",
        ),
        (["a/f_1.png,5,35"], r"line 2: point \(5, 35\) lies outside its 40×30 pixels: are x and y exchanged\?"),
        (["c/f_1.png,5,5"], r"line 2: image 'c/f_1\.png' is not in .*mine \(1 of 1 are absent\)"),
        (["../x.png,5,5"], r"line 2: frame '\.\./x\.png' is no path below the folder"),
        (["/etc/x.png,5,5"], r"line 2: frame '/etc/x\.png' is no path below"),
        ([",5,5"], "line 2: frame '' is no path"),
        ([], "names no frame: add your points"),
    ],
)
def test_what_a_csv_may_not_say(folder, lines, message):
    write(folder, lines)
    with pytest.raises(CrowdlocError, match=message):
        load_own(folder)


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ("frame;x;y", "a/f_1.png;1;2", r"its first line is 'frame;x;y', not frame,x,y"),
        ("image,x,y", "a/f_1.png,1,2", "its first line is 'image,x,y'"),
        ("frame,x,y,split", "a/f_1.png,1,2,testing", r"line 2: split 'testing': choose train, val or test"),
        ("frame,x,y,split", "a/f_1.png,1,2,val\na/f_1.png,1,2,test", r"line 3: a/f_1\.png is in split 'val' above"),
        ("frame,x,y,split", "a/f_1.png,1,2,val\na/f_2.png,1,2,", r"f_2\.png: its split is empty, others have one"),
    ],
)
def test_headers_and_splits_that_are_wrong(folder, header, line, message):
    write(folder, [line], header)
    with pytest.raises(CrowdlocError, match=message):
        load_own(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"points\.json is not valid JSON \(line 1\)"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "holds no JSON object"),
        ('{"a/f_1.png": 3}', r"frame 'a/f_1\.png': its points are no list"),
        ('{"a/f_1.png": "xy"}', "its points are no list"),
        ('{"a/f_1.png": [[1, 2], [1]]}', r"frame 'a/f_1\.png', point 2: \[1\] is no point"),
        ('{"a/f_1.png": [[1, 99]]}', r"frame 'a/f_1\.png', point 1: point \(1, 99\) lies outside"),
        ('{"a/f_1.png": {"points": [], "split": ["val"]}}', r"split \['val'\]: choose"),
    ],
)
def test_what_a_json_may_not_say(folder, content, message):
    (folder / "points.json").write_text(content)
    with pytest.raises(CrowdlocError, match=message):
        load_own(folder)


def test_folders_that_are_wrong(folder, tmp_path):
    with pytest.raises(CrowdlocError, match="nowhere is no folder"):
        load_own(tmp_path / "nowhere")
    with pytest.raises(CrowdlocError, match=r"holds neither points\.csv nor points\.json"):
        load_own(folder)
    write(folder, ["a/f_1.png,1,2"])
    (folder / "points.json").write_text("{}")
    with pytest.raises(CrowdlocError, match=r"holds both points\.csv and points\.json: keep one"):
        load_own(folder)


def test_sizes_within_a_video_and_shares_instead_of_pixels(folder):
    picture(folder / "a" / "f_11.png", size=(80, 60))
    write(folder, ["a/f_1.png,1,2", "a/f_11.png,1,2"])
    with pytest.raises(CrowdlocError, match=r"f_11\.png has 80×60 pixels, .*f_1\.png 40×30: give every video a folder"):
        load_own(folder)
    assert len(load_own(folder, photos=True)) == 2
    write(folder, [f"b/0.jpg,0.{k},0.{k}" for k in range(1, 5)])
    with pytest.raises(CrowdlocError, match=r"0\.jpg: all its points lie within one pixel: give pixels, not shares"):
        load_own(folder)


def test_a_frame_of_one_video_keeps_its_order_and_every_head(folder):
    random = np.random.default_rng(0)
    points = {f"a/f_{k}.png": np.round(random.random((k, 2)) * (39, 29), 2) for k in range(1, 11)}
    lines = [f"{name},{x},{y}" for name, values in points.items() for x, y in values]
    write(folder, [lines[k] for k in random.permutation(len(lines))])
    for frame in load_own(folder).frames:
        assert sorted(frame.points.tolist()) == sorted(points[frame.id].tolist())


def test_the_readmes_table_is_read(folder):
    """Its CSV and its JSON, as printed there."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^mine/points\.csv +(frame,x,y\n(?: +entrance/.*\n)+)", readme, re.M)
    content = re.search(r"JSON: `(\{.*?\})`", readme)
    assert table is not None and content is not None
    for name in ("0001.jpg", "0002.jpg"):
        picture(folder / "entrance" / name, size=(640, 480))
    lines = [line.partition(" <-")[0].strip() for line in table[1].splitlines()]
    (folder / "points.csv").write_text("\n".join(lines))
    first = load_own(folder)
    assert [frame.points.tolist() for frame in first.frames] == [[[203.5, 88], [411, 90.5]], []]
    (folder / "points.csv").unlink()
    (folder / "points.json").write_text(content[1])
    assert describe(load_own(folder)) == describe(first)

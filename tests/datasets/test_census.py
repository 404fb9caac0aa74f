"""The census: tiny sets by hand, the stored files, and what may get into results/."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from files_of_sets import (
    DATA,
    cell,
    head_struct,
    needs,
    save,
    write_image,
    write_mall,
    write_shanghaitech,
    write_via,
)

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets import census
from crowdloc.datasets.catalog import FACTS
from crowdloc.datasets.statistics import EDGES
from crowdloc.datasets.synthcrowd import DOMAINS, build_scene, scene_annotations

STORED = sorted(path.stem for path in (paths.RESULTS / "datasets").glob("*.json"))


def values(found: dict, *keys: str) -> list:
    return [found[key] for key in keys]


def test_a_tiny_video_by_hand(tmp_path: Path) -> None:
    heads = {1: [[1, 1], [4, 5], [4, 17]], 2: [[5, 5]], 3: [[11, 21], [11, 31]]}
    write_mall(tmp_path, heads, [2, 4])  # images of 64 x 48; frames 1 and 3 are annotated, their images are absent
    found = census.measure("mall", tmp_path, progress=False)
    assert values(found, "frames", "images", "absent", "annotations", "broken", "copies") == [2000, 2, 1998, 6, 0, 1]
    assert values(found, "empty", "fewest", "most", "outside", "repeated") == [1997, 0, 3, 0, 0]
    assert values(found, "sizes", "width", "height") == [1, [64, 64], [48, 48]]
    counts, gaps = (found["distributions"][key] for key in ("heads per frame", "nearest head"))
    assert counts["n"] == 2000 and counts["mean"] == 0.003 and sum(counts["histogram"]) == 3  # empty frames are below
    assert gaps["n"] == 5 and gaps["mean"] == (5 + 5 + 12 + 10 + 10) * 6 / 5  # 288 / 48 = 6, the size is the video's
    assert gaps["quantiles"][2] == 60 and found["distributions"].keys() == {"heads per frame", "nearest head"}


def test_images_of_different_sizes_and_an_absent_one(tmp_path: Path) -> None:
    for half, count in (("train", 2), ("test", 1)):
        write_shanghaitech(tmp_path / "part_A", half, count)  # 21 and 22 x 10 pixels, two heads each
    save(tmp_path / "part_A" / "test_data" / "ground_truth" / "GT_IMG_9.mat", image_info=head_struct([[1, 1], [1, 9]]))
    found = census.measure("shanghaitech_a", tmp_path, progress=False)
    assert values(found, "frames", "images", "absent", "annotations") == [4, 3, 1, 8]
    assert values(found, "sizes", "width", "height") == [2, [21, 22], [10, 10]]
    gaps = found["distributions"]["nearest head"]
    # (1, 1)-(1, 2) and (2, 1)-(1, 2) and once more; the image without pixels has no scale
    assert gaps["n"] == 6 and gaps["mean"] == pytest.approx(28.8 * (2 + 2 + 2 * 2**0.5) / 6, abs=1e-4)


def test_broken_files_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    write_shanghaitech(tmp_path / "part_B", "train", 2)
    write_shanghaitech(tmp_path / "part_B", "test", 1)
    (tmp_path / "part_B" / "train_data" / "ground_truth" / "GT_IMG_2.mat").write_bytes(b"")
    found = census.measure("shanghaitech_b", tmp_path, progress=False)
    assert values(found, "frames", "broken", "annotations") == [2, 1, 4]


def test_boxes_are_measured_where_a_set_has_them(tmp_path: Path) -> None:

    for half in ("train_data", "test_data"):
        write_image(tmp_path / half / "1" / "001.jpg", (32, 24))
        write_via(tmp_path / half / "1" / "001.json", (0, 0, 4, 9), (10, 10, 2, 2))
    sides = census.measure("fdst", tmp_path, progress=False)["distributions"]["box side"]
    assert sides["n"] == 4 and sides["mean"] == (6 + 2) * 12 / 2


def test_heads_inside_the_region_are_counted_apart(tmp_path: Path) -> None:
    for clip in range(10):
        frames = cell(*[{"loc": [[1.0, 1, 1], [200, 100, 1]]}] * 2)
        save(tmp_path / "vidf" / f"vidf1_33_{clip:03d}_frame_full.mat", frame=frames)
    mask = np.zeros((158, 238), np.uint8)
    mask[:9, :9] = 1
    save(tmp_path / "vidf" / "vidf1_33_roi_mainwalkway.mat", roi={"mask": mask})
    found = census.measure("ucsd", tmp_path, progress=False)
    assert values(found, "annotations", "in region") == [40, 20]


@pytest.fixture
def tiny_domain(monkeypatch: pytest.MonkeyPatch):
    """`sense` with one scene in each split, annotations of any hash."""
    small = replace(DOMAINS["sense"], videos=dict.fromkeys(("dev", "train", "val", "test"), 1))
    monkeypatch.setitem(DOMAINS, "sense", small)
    monkeypatch.setattr("crowdloc.datasets.synthcrowd.manifest.expected_hash", lambda *_: None)
    monkeypatch.setattr("crowdloc.datasets.synthcrowd.manifest.annotation_hash", lambda _: None)


def test_a_generated_domain_by_its_scenes(tiny_domain: None) -> None:
    found = census.measure("synthcrowd-sense")
    scenes = [build_scene("sense", split, 0) for split in census.SPLITS]
    frames = [[scene_annotations(s, t) for t in range(DOMAINS["sense"].frames[s.split])] for s in scenes]
    heads = [[len(frame.points) for frame in clip] for clip in frames]
    for split, counts in zip(census.SPLITS, heads, strict=True):
        assert found["splits"][split] == {"scenes": 1, "frames": len(counts), "heads": sum(counts),
                                          "fewest": min(counts), "most": max(counts)}  # fmt: skip
    assert values(found, "frames", "annotations") == [26, sum(map(sum, heads))]
    assert values(found, "sizes", "width", "height") == [1, [512, 512], [288, 288]]
    boxes = np.concatenate([frame.boxes for clip in frames for frame in clip]) / 64
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    assert found["distributions"]["box side"]["mean"] == pytest.approx(sides.mean(), abs=1e-4)


def test_head_widths_are_those_of_the_camera(tiny_domain: None) -> None:
    from crowdloc.datasets.synthcrowd.scene import positions

    widths = []
    for split in census.SPLITS:
        scene = build_scene("sense", split, 0)
        for t in range(DOMAINS["sense"].frames[split]):
            shown = scene_annotations(scene, t).track_ids
            x, y, z, _, _ = positions(scene.figures, t, scene.reach, scene.near, scene.far)
            depth = scene.camera.project(x, y, z)[2][shown]
            widths.append(2 * scene.figures.radius[shown] * scene.camera.focal * 288 / depth)
    found = census.measure("synthcrowd-sense")["distributions"]["head width"]
    assert found["n"] == len(np.concatenate(widths))
    np.testing.assert_allclose(found["quantiles"], np.percentile(np.concatenate(widths), census.LEVELS), atol=0.03)


def test_annotations_that_differ_from_the_manifest_are_an_error(tiny_domain: None, monkeypatch) -> None:
    monkeypatch.setattr("crowdloc.datasets.synthcrowd.manifest.expected_hash", lambda *_: "another")
    with pytest.raises(CrowdlocError, match=r"sense/train, scene 0: .* SYNTHCROWD_VERSION"):
        census.measure("synthcrowd-sense")


def test_unknown_names_and_absent_folders(tmp_path: Path) -> None:
    with pytest.raises(CrowdlocError, match="name='mal': choose synthcrowd-sense"):
        census.measure("mal")
    with pytest.raises(CrowdlocError, match="mall: no folder"):
        census.measure("mall", tmp_path)
    assert not census.is_present("mall", tmp_path)
    write_mall(tmp_path, {}, [1])
    assert census.is_present("mall", tmp_path) and not census.is_present("fdst", tmp_path)


# stored


def test_these_sets_are_stored() -> None:
    assert set(STORED) == {"mall", "shanghaitech_a", "shanghaitech_b", *census.GENERATED}


@pytest.mark.parametrize("name", STORED)
def test_stored_censuses_are_whole(name: str) -> None:
    found = census.read(name)
    assert found is not None and {"commit", "packages", "processor"} <= found["run"].keys()
    assert found["edges"] == EDGES.round(6).tolist() and found["rows"] == 288
    for quantity, spread in found["distributions"].items():
        assert len(spread["histogram"]) == len(EDGES) - 1 and 0 < sum(spread["histogram"]) <= spread["n"], quantity
        assert spread["quantiles"] == sorted(spread["quantiles"])
        middle = np.searchsorted(np.cumsum(spread["histogram"]), spread["n"] / 2)
        assert EDGES[middle] * 0.99 <= spread["quantiles"][2] <= EDGES[middle + 1] * 1.01
    counts = found["distributions"]["heads per frame"]
    assert counts["n"] == found["frames"] and counts["mean"] == pytest.approx(
        found["annotations"] / found["frames"], abs=1e-3
    )
    if name in FACTS:
        facts = FACTS[name]
        assert values(found, "frames", "annotations", "broken") == [
            facts.frames,
            facts.measured or facts.annotations,
            0,
        ]
    else:
        splits = found["splits"].values()
        assert sum(s["frames"] for s in splits) == found["frames"]
        assert sum(s["heads"] for s in splits) == found["annotations"]
    text = json.dumps({key: value for key, value in found.items() if key != "run"})
    assert len(text) < 5000  # room for totals, not for coordinates


def test_stored_splits_are_those_of_the_generator() -> None:
    heads = [
        len(scene_annotations(build_scene("fdst", "val", index), t).points)
        for index in range(DOMAINS["fdst"].videos["val"])
        for t in range(DOMAINS["fdst"].frames["val"])
    ]
    stored = census.read("synthcrowd-fdst")
    assert stored is not None and stored["splits"]["val"] == {
        "scenes": 13, "frames": len(heads), "heads": sum(heads), "fewest": min(heads), "most": max(heads),
    }  # fmt: skip


def test_every_difference_is_found() -> None:
    stored = census.read("mall")
    assert stored is not None and census.differences(stored, copy.deepcopy(stored)) == []
    assert census.verdict(stored, None) == "nothing is stored to compare with"
    for key in stored.keys() - {"run"}:
        changed = copy.deepcopy(stored)
        del changed[key]
        assert census.differences(stored, changed) == census.differences(changed, stored) == [key]
    changed = stored | {"run": {}, "annotations": 62_316, "farthest": stored["farthest"] + 0.0005}
    assert census.differences(stored, changed) == ["annotations"]
    assert census.verdict(stored, changed) == "differs from what is stored: annotations"
    changed = copy.deepcopy(stored)
    changed["distributions"]["nearest head"]["histogram"][20] += 1
    assert census.differences(stored, changed) == ["distributions"]
    changed = copy.deepcopy(stored)
    changed["distributions"]["heads per frame"]["mean"] += 0.01
    assert census.differences(stored, changed) == ["distributions"]


@needs["mall"]
def test_the_real_files_equal_the_stored_census(tmp_path: Path) -> None:
    source = Path(DATA or "") / "mall"
    (tmp_path / "mall" / "frames").mkdir(parents=True)
    for name in ("mall_gt.mat", "perspective_roi.mat", "frames/seq_000001.jpg", "frames/seq_000900.jpg"):
        shutil.copy(source / name, tmp_path / "mall" / name)
    stored = census.read("mall")
    assert stored is not None
    assert census.differences(census.measure("mall", tmp_path, progress=False), stored) == ["absent", "images"]


@needs["shanghaitech"]
def test_real_part_b_equals_the_stored_census() -> None:
    stored = census.read("shanghaitech_b")
    found = census.measure("shanghaitech_b", DATA, progress=False)
    assert census.verdict(found, stored) == "equal to what is stored"


# writing


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    write_mall(tmp_path, {1: [[1, 1], [4, 5]]}, [1])
    return tmp_path


def test_results_are_compared_with_and_not_written(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    census.main(["mall", "--data-root", str(folders)])
    assert capsys.readouterr().out.endswith("2,000 frames, 2 annotations; nothing is stored to compare with\n")
    assert (folders / "build" / "datasets" / "mall.json").is_file() and not (folders / "results").exists()
    assert census.read("mall") is None
    made, stored = (folders / room / "datasets" / "mall.json" for room in ("build", "results"))
    stored.parent.mkdir(parents=True)
    stored.write_bytes(made.read_bytes())
    assert census.read("mall") == json.loads((folders / "build" / "datasets" / "mall.json").read_text())
    capsys.readouterr()
    census.main(["mall", "--data-root", str(folders)])
    assert capsys.readouterr().out.endswith("; equal to what is stored\n")
    assert str(folders) not in (folders / "results" / "datasets" / "mall.json").read_text()  # no path of a machine


def test_damage_and_absence_are_named(folders: Path) -> None:
    with pytest.raises(SystemExit, match="error: fdst: no folder"):
        census.main(["fdst", "--data-root", str(folders)])
    path = folders / "results" / "datasets" / "mall.json"
    path.parent.mkdir(parents=True)
    for text in ("[" * 100_000, "{", "[]", "{}", '{"name": "fdst", "edges": [], "distributions": {}}'):
        path.write_text(text)
        with pytest.raises(CrowdlocError, match=r"mall\.json is no census of mall: restore"):
            census.read("mall")

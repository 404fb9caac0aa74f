"""`verify` and `info`: totals, damage, duplicates, and the published numbers on the real data."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
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
    write_ucsd,
    write_worldexpo,
)

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets import NAMES, info, verify
from crowdloc.datasets.catalog import FACTS
from crowdloc.datasets.verification import Report


def test_counts_of_a_small_copy(tmp_path: Path) -> None:
    folder = tmp_path / "part_A"
    write_shanghaitech(folder, "train", 2)
    write_shanghaitech(folder, "test", 2)
    save(folder / "test_data" / "ground_truth" / "GT_IMG_2.mat", image_info=head_struct([[-4, 1], [1, 1], [1, 1]]))
    save(folder / "test_data" / "ground_truth" / "GT_IMG_3.mat", image_info=head_struct([]))
    report = verify("shanghaitech_a", tmp_path, progress=False)
    assert (report.frames, report.images, report.missing, report.annotations, report.empty) == (5, 4, 1, 9, 1)
    assert (report.fewest, report.most, report.outside, report.outside_images, report.farthest) == (0, 3, 1, 1, 5.0)
    assert report.repeated_points == 1 and dict(report.sizes) == {(21, 10): 2, (22, 10): 2} and report.broken == []
    assert len(report.copies) == 2  # the tiny train and test images are the same
    assert not report.ok and report.exit_code == 1
    text = str(report)
    for pattern in (
        r"annotated frames +5 +482  DIFFERS",
        r"annotations +9 +241,677  DIFFERS",
        r"images present and whole +4 +1 absent",
        r"image sizes +21-22 x 10-10 +2 sizes",
        r"points outside the image +1 +in 1 images, up to 5 px",
        r"copy: .*IMG_1\.jpg = .*IMG_1\.jpg",
        r"NOT as published$",
    ):
        assert re.search(pattern, text), pattern


def test_every_broken_file_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "part_B"
    write_shanghaitech(folder, "train", 15)
    write_shanghaitech(folder, "test", 15)
    images, truth = folder / "test_data" / "images", folder / "test_data" / "ground_truth"
    (images / "IMG_3.jpg").write_bytes((images / "IMG_3.jpg").read_bytes()[:-9])
    (truth / "GT_IMG_4.mat").write_bytes(b"MATLAB")
    (truth / "GT_IMG_5.mat").unlink()
    report = verify("shanghaitech_b", tmp_path, progress=False)
    assert report.frames == 28 and report.images == 27 and len(report.broken) == 3
    assert [re.search(r"IMG_\d", message).group() for message in sorted(report.broken)] == ["IMG_4", "IMG_5", "IMG_3"]
    assert re.search(r"broken files +3\n", str(report))
    for path in truth.glob("*.mat"):
        path.write_bytes(b"")
    assert re.search(r"broken: and \d+ more", str(verify("shanghaitech_b", tmp_path, progress=False)))


def test_a_damaged_middle_of_a_jpeg_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_mall(tmp_path, {}, [])
    rough = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", rough)[1].tobytes()
    for number in range(1, 25):
        path = tmp_path / "mall" / "frames" / f"seq_{number:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data if number != 13 else data[: len(data) // 2] + bytes(300) + data[len(data) // 2 + 300 :])
    report = verify("mall", tmp_path, progress=False)
    assert report.images == 23 and len(report.broken) == 1
    assert re.search(r"image .*seq_000013\.jpg is damaged \(Corrupt JPEG data: .*\): restore", report.broken[0])
    assert capfd.readouterr().err == ""  # libjpeg's own words are not repeated


def test_frames_of_a_scene_that_differ_in_size(tmp_path: Path) -> None:
    write_mall(tmp_path, {}, [1, 2, 3])
    write_image(tmp_path / "mall" / "frames" / "seq_000002.jpg", (63, 48))
    report = verify("mall", tmp_path, progress=False)
    assert [Path(re.search(r"image (\S+) differs in size", m).group(1)).name for m in report.broken] == [
        "seq_000002.jpg"
    ]


def test_ucsd_counts_inside_its_region(tmp_path: Path) -> None:
    for clip in range(10):
        frames = cell(*[{"loc": [[1.0, 1, 1], [200, 100, 1]]}] * 3)
        save(tmp_path / "vidf" / f"vidf1_33_{clip:03d}_frame_full.mat", frame=frames)
    report = verify("ucsd", tmp_path, progress=False)
    assert (report.frames, report.annotations, report.in_roi, report.missing) == (30, 60, 60, 30)
    mask = np.zeros((158, 238), np.uint8)
    mask[:9, :9] = 1
    save(tmp_path / "vidf" / "vidf1_33_roi_mainwalkway.mat", roi={"mask": mask})
    report = verify("ucsd", tmp_path, progress=False)
    assert report.in_roi == 30 and re.search(r"annotations in the region +30 +49,885  DIFFERS", str(report))


def test_ucsd_as_published(tmp_path: Path) -> None:
    """What the official files hold is right, and the printed total is explained."""
    report = Report("ucsd", frames=2000, annotations=55_000, in_roi=49_496)
    assert report.ok
    assert re.search(r"annotations in the region +49,496 +49,885  as in the official files\n", str(report))
    assert re.search(
        r"\nnote: 49,885 counts points outside the image as if they lay on its border; .* 49,496", str(report)
    )
    assert not Report("ucsd", frames=2000, annotations=55_000, in_roi=49_885).ok
    assert "note       49,885 counts" in info("ucsd")


def test_ucsd_without_its_region(tmp_path: Path) -> None:
    write_ucsd(tmp_path, {(0, 1): [[1, 1, 1], [-3, 9, 1]]})
    report = verify("ucsd", tmp_path, progress=False)
    assert report.in_roi == 2
    assert re.search(r"\nnote: ucsd: \S+vidf1_33_roi_mainwalkway.mat not found: published counts are", str(report))
    write_ucsd(tmp_path, {(0, 1): [[1, 1, 1], [-3, 9, 1]]}, np.ones((158, 238)))
    report = verify("ucsd", tmp_path, progress=False)
    assert (report.in_roi, report.outside) == (1, 1) and "not found" not in str(report)


def test_a_broken_region_is_reported(tmp_path: Path) -> None:
    write_worldexpo(tmp_path, "train", "100001", ["100001_1"])
    write_worldexpo(tmp_path, "test", "104207", ["104207_1"])
    (tmp_path / "test_label" / "104207" / "roi.mat").write_bytes(b"")
    report = verify("worldexpo", tmp_path, progress=False)
    assert report.frames == 2 and len(report.broken) == 1 and "roi.mat" in report.broken[0]


def test_an_empty_report_prints() -> None:
    assert "image sizes" in str(Report("mall"))


def test_verdicts() -> None:
    report = Report("mall", frames=2000, annotations=62_315)
    assert report.ok and report.exit_code == 0 and re.search(r"62,315 +62,316  as in the official files", str(report))
    assert not Report("mall", frames=2000, annotations=62_316).ok
    assert Report("fdst", frames=15_000, annotations=394_081).ok
    assert not Report("fdst", frames=15_000, annotations=394_081, broken=["x"]).ok
    assert str(Report("mall", frames=2000, annotations=62_315, missing=600)).endswith(
        "verified, but 600 of the annotated images are absent"
    )


def test_progress_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mall(tmp_path, {1: [[1, 1]]}, [1])
    verify("mall", tmp_path, progress=True)
    output = capsys.readouterr()
    assert output.out == "" and "mall" in output.err and "frame/s" in output.err


def test_unknown_and_absent(tmp_path: Path) -> None:
    for name in ("mal", "synthcrowd"):
        with pytest.raises(CrowdlocError, match=f"name='{name}': choose sensecrowd"):
            verify(name, tmp_path)
    with pytest.raises(CrowdlocError, match="fdst: no folder with train_data, test_data"):
        verify("fdst", tmp_path)


def test_info() -> None:
    assert set(FACTS) == set(NAMES) - {"synthcrowd"}
    text = info()
    for name, facts in FACTS.items():
        assert f"\n{name}: {facts.title}\n" in text and f"{facts.annotations:,}" in text
        assert info(name).startswith(f"{name}: ") and re.search("get it +https?://", info(name))
    with pytest.raises(CrowdlocError, match="name='x': choose sensecrowd"):
        info("x")


def test_catalogue_agrees_with_table_1() -> None:
    paper = pytest.importorskip("crowdloc.paper", reason="crowdloc.paper is not there yet")
    text = paper.table("I").to_csv()
    for facts in FACTS.values():
        if facts.published_in == "Table I":
            assert str(facts.frames) in text and str(facts.annotations) in text


@needs["mall"]
def test_mall_totals(tmp_path: Path) -> None:
    for name in ("mall_gt.mat", "perspective_roi.mat"):
        (tmp_path / "mall" / "frames").mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(DATA or "") / "mall" / name, tmp_path / "mall" / name)
    for number in (1, 2, 2000):
        source = Path(DATA or "") / "mall" / "frames" / f"seq_{min(number, 1400):06d}.jpg"
        shutil.copy(source, tmp_path / "mall" / "frames" / f"seq_{number:06d}.jpg")
    report = verify("mall", tmp_path, progress=False)
    assert report.ok and (report.frames, report.annotations) == (2000, 62_315)
    assert (report.fewest, report.most, report.outside, report.images, report.missing) == (13, 53, 0, 3, 1997)


@needs["shanghaitech"]
def test_shanghaitech_totals() -> None:
    report = verify("shanghaitech_a", DATA, progress=False)  # part B: test_datasets counts it without decoding
    assert report.ok and report.missing == 0 and not report.broken
    assert (report.frames, report.annotations, report.outside) == (482, 241_677, 403)
    assert len(report.copies) == 1 and "IMG_98.jpg" in report.copies[0]  # a test image that is a training image too

"""Frames to look at, and that real ones stay out of what is stored."""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import pytest
from files_of_sets import write_image, write_mall, write_via

from crowdloc.core.paths import NOTEBOOKS
from crowdloc.datasets import samples
from crowdloc.datasets.samples import Sample
from crowdloc.datasets.synthcrowd import build_scene, render_frame, scene_annotations


def test_a_synthetic_frame_and_its_annotations() -> None:
    sample, scene = samples.synthetic("sense", 0, 3), build_scene("sense", "dev", 0)
    found = scene_annotations(scene, 3)
    assert (sample.image == render_frame(scene, 3)).all()
    assert (sample.points * 64 == found.points).all() and (sample.boxes * 64 == found.boxes).all()
    assert (sample.track_ids == found.track_ids).all()
    assert sample.title == f"sense: scene000, frame 3, {len(found.points)} heads"


def test_lookalikes_stay_and_only_video_has_them() -> None:
    clip = samples.strip("sense", 0, (0, 3, 7))
    first = clip[0].lookalikes
    assert first is not None and len(first) == 3
    assert all((sample.lookalikes == first).all() for sample in clip)
    distance = np.linalg.norm(first[:, None] - clip[0].points[None], axis=2)
    assert distance.min() > 1  # nobody is annotated there
    still = samples.synthetic("shb", 0, 0).lookalikes
    assert still is not None and len(still) == 0


def test_lookalikes_stand_where_the_large_frame_has_them() -> None:
    small, large = (samples.synthetic("sense", 0, 0, preset=preset) for preset in ("mini", "paper"))
    assert large.image.shape == (1080, 1920, 3) and small.lookalikes is not None and large.lookalikes is not None
    np.testing.assert_allclose((small.lookalikes + 0.5) * 3.75, large.lookalikes + 0.5, atol=0.05)


def still(points: list, ids: list | None, lookalikes: list | None = None) -> Sample:
    places = np.array(points, float).reshape(-1, 2)
    known = [None if values is None else np.array(values) for values in (ids, lookalikes)]
    return Sample("x", np.zeros((9, 9, 3), np.uint8), places, None, *known)


def test_moved_by_hand() -> None:
    clip = [
        still([[1, 1], [2, 2], [90, 2]], [4, 7, 8], [[5.0, 5]]),
        still([[4, 5], [91, 2]], [4, 8], [[5.0, 6]]),
        still([[4, 5], [2, 3]], [4, 7], [[5.0, 6]]),
    ]
    table = samples.moved(clip, (0, 0, 10, 10))
    assert table.columns.tolist() == ["t", "t + 1"]
    assert table.index.tolist() == ["head 4", "head 7", "look-alikes"]  # head 8 is outside the view
    assert table.loc["head 4"].tolist() == [5, 0] and table.loc["look-alikes"].tolist() == [1, 0]
    assert table.loc["head 7"].isna().all()  # hidden in the second frame
    assert samples.moved([still([[1, 1]], None)] * 2, (0, 0, 9, 9)).empty


def test_content() -> None:
    table = samples.content([still([[1, 1], [2, 2]], [1, 2], [[5.0, 5]])])
    assert table.loc["x"].tolist() == [2, 0, 1]


def test_real_frames_of_a_root(tmp_path: Path) -> None:

    assert samples.real(None) == [] and samples.real(tmp_path) == []
    write_mall(tmp_path, {n: [[2, 3]] * n for n in range(1, 6)}, [1, 2, 3, 4, 5])
    for half in ("train_data", "test_data"):
        write_image(tmp_path / "fdst" / half / "1" / "001.jpg", (32, 24))
        write_via(tmp_path / "fdst" / half / "1" / "001.json", (0, 0, 4, 9))
    fdst, mall = samples.real(tmp_path)
    assert mall.title == "mall: seq_000003, 3 heads" and mall.points.tolist() == [[1, 2]] * 3 and mall.boxes is None
    assert fdst.title.startswith("fdst: ") and fdst.boxes is not None and mall.lookalikes is None
    (tmp_path / "fdst" / "train_data" / "1" / "001.jpg").write_bytes(b"")
    assert [sample.title for sample in samples.real(tmp_path)] == [mall.title]  # a damaged set is left out


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_no_real_frame_is_stored(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    cells = [c for c in cells if "samples.real" in c.source or "real-frames" in c.metadata.get("tags", [])]
    assert (len(cells) == 1) == (path.stem == "13_figure1_annotated_samples")
    for cell in cells:
        assert [o.output_type for o in cell.outputs] == ["stream"] and "no real frame" in cell.outputs[0].text

"""Tiny files in the official formats of the data sets, and which real sets are there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.io import savemat

DATA = os.environ.get("CROWDLOC_DATA")
needs = {
    name: pytest.mark.skipif(
        not (DATA and (Path(DATA) / name).is_dir()), reason=f"CROWDLOC_DATA with a folder {name} is not set"
    )
    for name in ("mall", "shanghaitech")
}
VIA = '{"1.jpg123": {"filename": "1.jpg", "size": 123, "regions": %s, "file_attributes": {}}}'


def write_image(path: Path, size: tuple[int, int] = (8, 6), value: int = 0, grey: bool = False) -> Path:
    width, height = size
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((height, width) if grey else (height, width, 3), value, np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


def save(path: Path, **variables: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables)
    return path


def cell(*items: Any) -> np.ndarray:
    """A 1 x n MATLAB cell."""
    array = np.empty((1, len(items)), dtype=object)
    for position, item in enumerate(items):
        array[0, position] = item
    return array


def head_struct(location: Any, number: int | None = None) -> np.ndarray:
    location = np.array(location, float).reshape(-1, 2)
    return cell({"location": location, "number": float(len(location) if number is None else number)})


def write_mall(root: Path, frames: dict[int, list], present: list[int], count: dict[int, int] | None = None) -> Path:
    cells = [{"loc": np.array(frames.get(i, []), float).reshape(-1, 2)} for i in range(1, 2001)]
    counts = [(count or {}).get(i, len(frames.get(i, []))) for i in range(1, 2001)]
    for number in present:
        write_image(root / "mall" / "frames" / f"seq_{number:06d}.jpg", (64, 48))
    return save(root / "mall" / "mall_gt.mat", frame=cell(*cells), count=np.array(counts, np.uint8)[:, None])


def write_shanghaitech(folder: Path, half: str, count: int, truth: str = "ground_truth") -> None:
    for i in range(1, count + 1):
        write_image(folder / f"{half}_data" / "images" / f"IMG_{i}.jpg", (20 + i, 10), grey=i % 2 == 0)
        save(folder / f"{half}_data" / truth / f"GT_IMG_{i}.mat", image_info=head_struct([[i, 1], [1, 2]]))


def write_via(path: Path, *boxes: tuple[float, float, float, float]) -> None:
    shapes = [{"name": "rect", "x": x, "y": y, "width": w, "height": h} for x, y, w, h in boxes]
    regions = [{"shape_attributes": shape, "region_attributes": {}} for shape in shapes]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(VIA % json.dumps(regions))


def write_ucsd(root: Path, locations: dict[tuple[int, int], list], region: Any = None) -> None:
    """Ten clips of two frames; `locations` of (clip, frame), 1-based as in the files, and the region's mask."""
    for clip in range(10):
        name = f"vidf1_33_{clip:03d}"
        rows = [np.array(locations.get((clip, t), []), float).reshape(-1, 3) for t in (1, 2)]
        save(root / "vidf" / f"{name}_frame_full.mat", frame=cell(*({"loc": loc} for loc in rows)))
        for t in (1, 2):
            write_image(root / "vidf" / f"{name}.y" / f"{name}_f{t:03d}.png", (238, 158), grey=True)
    if region is not None:
        save(root / "vidf" / "vidf1_33_roi_mainwalkway.mat", roi={"mask": region})


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_worldexpo(folder: Path, half: str, camera: str, images: list[str]) -> None:
    for name in images:
        place = folder / f"{half}_frame" / (camera if half == "test" else "") / f"{name}.jpg"
        write_image(place, (72, 57))
        save(folder / f"{half}_label" / camera / f"{name}.mat", point_position=np.array([[11.0, 21], [1, 1]]))
    save(
        folder / f"{half}_label" / camera / "roi.mat",
        maskVerticesXCoordinates=np.array([[6.0], [31], [31], [6]]),
        maskVerticesYCoordinates=np.array([[6.0], [6], [41], [41]]),
    )

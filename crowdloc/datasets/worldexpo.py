"""WorldExpo'10 (Zhang et al. 2015): 108 surveillance cameras, 720 x 576, head points, regions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import Frame
from crowdloc.datasets.files import find_folder, listed, xy
from crowdloc.datasets.matlab import load_mat, variable
from crowdloc.datasets.reading import Listing, hold_out


def scan(root: Path, split: str) -> Listing:
    """`train_label/<camera>/<image>.mat` and `train_frame/<image>.jpg`; test: `test_frame/<camera>/`.

    Cameras are scenes (consecutive images of one are seconds apart); val is every tenth training camera.
    Coordinates are MATLAB's 1-based ones, shifted here. Points cover the whole frame; published errors count
    inside the polygon of the camera's roi.mat: `rois`, (k, 2). Some files are MATLAB v7.3 and need h5py.
    """
    halves = {"test": ("test",), "all": ("train", "test")}.get(split, ("train",))
    folder = find_folder(
        root,
        ("worldexpo", "WorldExpo", "WorldExpo10", "worldexpo10", "WE"),
        [f"{half}_{kind}" for half in halves for kind in ("label", "frame")],
        "worldexpo",
    )
    parts, rois = [], {}
    for half in halves:
        cameras = [path for path in listed(folder / f"{half}_label", "*", "worldexpo") if path.is_dir()]
        for camera in cameras if half == "test" else hold_out(cameras, split):
            images = folder / f"{half}_frame" / (camera.name if half == "test" else "")
            paths = [path for path in listed(camera, "*.mat", "worldexpo") if path.name != "roi.mat"]
            parts += [partial(_read, path, images / f"{path.stem}.jpg") for path in paths]
            if (camera / "roi.mat").is_file():
                rois[camera.name] = partial(_read_roi, camera / "roi.mat")
    return Listing(parts, rois)


def _read(path: Path, image: Path) -> list[Frame]:
    return [Frame(path.stem, path.parent.name, image, xy(variable(load_mat(path), path, "point_position"), path) - 1)]


def _read_roi(path: Path) -> np.ndarray:
    content = load_mat(path)
    x, y = (np.ravel(variable(content, path, f"maskVertices{axis}Coordinates")) for axis in "XY")
    polygon = xy(np.column_stack([x, y]) if len(x) == len(y) else x, path) - 1  # (k, 2)
    if len(polygon) < 3:
        raise CrowdlocError(f"annotation {path}: the region has {len(polygon)} corners: restore the official file")
    return polygon

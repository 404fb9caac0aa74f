"""UCSD pedestrians (Chan et al. 2008): one walkway camera, grey, 238 x 158, 10 frames/s, torso points."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import Frame
from crowdloc.datasets.files import find_folder, xy
from crowdloc.datasets.mall import read_mask
from crowdloc.datasets.matlab import load_mat, variable
from crowdloc.datasets.reading import Listing

_TEST, _TRAIN = (0, 1, 2, 7, 8, 9), (3, 4, 5, 6)
CLIPS = {"train": _TRAIN, "val": (6,), "trainval": _TRAIN, "test": _TEST, "all": tuple(range(10))}
_VAL_FROM = 121  # val is the end of the last training clip, frames 121-200; train stops before it
_ROI, _SIZE = "vidf1_33_roi_mainwalkway.mat", (158, 238)


def scan(root: Path, split: str) -> Listing:
    """`vidf/vidf1_33_00c.y/*_fNNN.png`; `vidf1_33_00c_frame_full.mat` beside, in `vidf-cvpr` or `gt/vidf`.

    Clips 000-009 are the 2,000 frames of the benchmark: train 003-006 but for the last 80 frames, which are
    val, trainval 003-006, test the others. Clips are scenes. Coordinates are MATLAB's 1-based ones, shifted
    here. Points cover the whole frame, and the published counts are those inside the walkway: `rois`, a mask
    (158, 238). A point outside the image is in no region, which makes the official count of every frame (49,496
    in all), so `load` drops those points. The published total, 49,885, counts them at the border.
    """
    folder = find_folder(
        root, ("ucsd", "UCSD", "ucsdpeds"), ["vidf|video/vidf", f"vidf|vidf-cvpr|gt/vidf|{_ROI}"], "ucsd"
    )
    videos = folder / ("vidf" if (folder / "vidf").is_dir() else "video/vidf")
    places = [folder / name for name in ("vidf-cvpr", "gt/vidf", ".", "vidf", "..", "../vidf-cvpr")]

    def locate(name: str) -> Path:
        return next((place / name for place in places if (place / name).is_file()), places[0] / name)

    scenes = [f"vidf1_33_{clip:03d}" for clip in CLIPS[split]]
    parts = [partial(_read, locate(f"{scene}_frame_full.mat"), scene, videos / f"{scene}.y", split) for scene in scenes]
    roi = locate(_ROI)
    if roi.is_file():
        return Listing(parts, {scene: partial(read_mask, roi, _SIZE) for scene in scenes})
    note = f"ucsd: {roi} not found: published counts are inside its region, without it counts are of the whole image"
    return Listing(parts, notes=[note])


def _read(path: Path, scene: str, images: Path, split: str) -> list[Frame]:
    cells = variable(load_mat(path), path, "frame", "fgt")
    frames = []
    number = 0
    try:
        if isinstance(cells, dict):  # a later release wraps the cell
            cells = cells["frame"]
        for number, cell in enumerate(np.ravel(cells), start=1):
            points = xy(cell["loc"], path, f", frame {number}") - 1
            ids = np.ravel(cell["id"]) if "id" in cell else None
            if ids is not None and not (
                len(ids) == len(points) and (np.abs(ids) <= 2**53).all() and (ids == ids.round()).all()
            ):
                raise ValueError
            name = f"{scene}_f{number:03d}"
            frames.append(Frame(name, scene, images / f"{name}.png", points, track_ids=ids))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise CrowdlocError(
            f"annotation {path}{f', frame {number}' if number else ''}: no field 'loc', or another number of ids: "
            "restore the official file"
        ) from None
    if scene == f"vidf1_33_{_TRAIN[-1]:03d}" and split in ("train", "val"):
        return frames[: _VAL_FROM - 1] if split == "train" else frames[_VAL_FROM - 1 :]
    return frames

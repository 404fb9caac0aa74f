"""DroneCrowd (Wen et al. 2021): 112 drone videos of 300 frames, head points; boxes and ids on demand."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import Frame
from crowdloc.datasets.files import choose, entries, find_folder, natural
from crowdloc.datasets.matlab import load_mat, variable
from crowdloc.datasets.reading import Listing
from crowdloc.datasets.shanghaitech import read_image_info

_HALVES = {"trainval": ("train", "val"), "all": ("train", "val", "test")}


def scan(root: Path, split: str, *, annotation: str = "points") -> Listing:
    """`{train,val,test}_data/images/img<SSSFFF>.jpg` and `…/ground_truth/GT_img<SSSFFF>.mat`, video SSS.

    `annotation="tracks"` reads `annotations/<00SSS>.mat` instead (frame from 0, id, x1, y1, x2, y2): boxes,
    track ids and box centres as points. The official val_data is val; a copy without it has no val. Videos
    are scenes. Coordinates stand in the files as 0-based pixels: nothing in the release says otherwise, so
    they are not shifted.
    """
    choose("annotation", annotation, ("points", "tracks"))
    halves = _HALVES.get(split, (split,))
    needed = [f"{halves[0]}_data/images"] + (["annotations"] if annotation == "tracks" else [])
    folder = find_folder(root, ("dronecrowd", "DroneCrowd", "Dronecrowd"), needed, "dronecrowd")
    parts = []
    for half in halves:
        images, truth = folder / f"{half}_data" / "images", folder / f"{half}_data" / "ground_truth"
        stems = {path.stem for path in entries(images, "img*.jpg")}
        stems |= {path.stem.removeprefix("GT_") for path in entries(truth, "GT_*.mat")}
        videos: dict[str, list[Path]] = {}
        for path in sorted((images / f"{stem}.jpg" for stem in stems), key=natural):
            if not re.fullmatch(r"img\d{6}", path.stem):
                raise CrowdlocError(f"dronecrowd: {path} is not named img<SSSFFF>.jpg: restore the official name")
            videos.setdefault(path.stem[3:6], []).append(path)
        for video, paths in videos.items():
            if annotation == "tracks":
                parts.append(partial(_read_tracks, folder / "annotations" / f"00{video}.mat", video, paths))
            else:
                parts += [partial(_read_points, truth / f"GT_{path.stem}.mat", video, path) for path in paths]
    return Listing(parts)


def _read_points(path: Path, video: str, image: Path) -> list[Frame]:
    return [Frame(image.stem, video, image, read_image_info(path))]


def _read_tracks(path: Path, video: str, images: list[Path]) -> list[Frame]:
    rows = np.array(variable(load_mat(path), path, "anno"))
    if rows.ndim != 2 or rows.shape[1] < 6 or rows.dtype.kind not in "fiu" or not (np.abs(rows) <= 2**53).all():
        raise CrowdlocError(
            f"annotation {path}: anno is no table of frame, id, x1, y1, x2, y2: restore the official file"
        )
    rows = rows.astype(np.float64)
    first = min(1, *(int(image.stem[6:]) for image in images)) if images else 1  # image files count from 001
    frames = []
    for image in images:
        here = rows[rows[:, 0] == int(image.stem[6:]) - first]
        boxes = here[:, 2:6]
        frames.append(
            Frame(
                image.stem,
                video,
                image,
                (boxes[:, :2] + boxes[:, 2:]) / 2,
                boxes,
                here[:, 1].astype(np.int64),
            )
        )
    return frames

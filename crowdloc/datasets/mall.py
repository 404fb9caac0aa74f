"""Mall (Chen et al. 2012): one shopping-centre camera, 2,000 frames of 640 x 480, head points."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.datasets.files import choose, find_folder, read_mat, settle_points
from crowdloc.errors import CrowdlocError

SIZE = (640, 480)
SPLITS = {"train": range(1, 681), "val": range(701, 801), "test": range(801, 2001), "all": range(1, 2001)}


def read_points(path: Path) -> list[np.ndarray]:
    """Head points (n, 2) of every frame of `mall_gt.mat`, shifted from MATLAB's 1-based pixels to 0-based."""
    cells = np.ravel(read_mat(path, "frame"))
    points = []
    for number, cell in enumerate(cells, start=1):
        try:
            points.append(np.array(cell["loc"][0, 0], dtype=np.float64) - 1.0)
        except (IndexError, KeyError, TypeError, ValueError):
            raise CrowdlocError(f"annotation {path}, frame {number}: no field 'loc': restore the official file") from None
    return points


def load_mall(root: Path, split: str = "test", *, num_frames: int = 3, frame_step: int = 1, outside: str = "clip") -> ClipDataset:
    """Mall as one scene of clips; split train (1-680), val (701-800), test (801-2000, as published) or all.

    Frames that are not on the disk are left out and listed in `missing`; none at all is an error. `rois["mall"]` is the
    official mask (480, 640) where perspective_roi.mat is present. All official points lie inside the image.
    """
    choose("split", split, SPLITS)
    folder = find_folder(root, ("mall", "mall_dataset", "Mall"), ("mall_gt.mat", "frames"), "mall")
    points = read_points(folder / "mall_gt.mat")
    frames, missing = [], []
    for number in SPLITS[split]:
        name = f"seq_{number:06d}"
        path = folder / "frames" / f"{name}.jpg"
        if not path.is_file() or number > len(points):
            missing.append(name)
            continue
        where = settle_points(points[number - 1].reshape(-1, 2), SIZE, outside)[0]
        frames.append(Frame(name, "mall", path, where))
    if not frames:
        raise CrowdlocError(f"mall: no frame of split '{split}' in {folder / 'frames'}: unpack seq_{SPLITS[split][0]:06d}.jpg "
                            "and following there")
    roi = folder / "perspective_roi.mat"
    rois = {"mall": read_mat(roi, "roi")["mask"][0, 0].astype(bool)} if roi.is_file() else {}
    return ClipDataset(frames, name="mall", num_frames=num_frames, frame_step=frame_step, missing=missing, rois=rois)

"""Mall (Chen et al. 2012): one shopping-centre camera, 2,000 frames of 640 x 480, head points."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import Frame
from crowdloc.datasets.files import find_folder, xy
from crowdloc.datasets.matlab import load_mat, variable
from crowdloc.datasets.reading import Listing

RANGES = {"train": (1, 680), "val": (701, 800), "trainval": (1, 800), "test": (801, 2000), "all": (1, 2000)}


def scan(root: Path, split: str) -> Listing:
    """`mall_gt.mat` and `frames/seq_%06d.jpg`; one scene, `rois["mall"]` the official mask (480, 640).

    Train is 1-680, val 701-800 (the gap keeps near-identical frames apart), test 801-2000 as published.
    Coordinates are MATLAB's 1-based ones, shifted here; all lie inside the image.
    """
    folder = find_folder(root, ("mall", "mall_dataset", "Mall"), ("mall_gt.mat", "frames"), "mall")
    first, last = RANGES[split]

    def read() -> list[Frame]:
        path = folder / "mall_gt.mat"
        content = load_mat(path)
        cells, counts = (np.ravel(variable(content, path, name)) for name in ("frame", "count"))
        if len(cells) != len(counts):
            raise CrowdlocError(
                f"annotation {path}: {len(cells)} frames, {len(counts)} counts: restore the official file"
            )
        frames = []
        for number in range(first, min(last, len(cells)) + 1):
            where = f", frame {number}"
            try:
                values, count = cells[number - 1]["loc"], int(counts[number - 1])
            except (IndexError, KeyError, OverflowError, TypeError, ValueError):
                raise CrowdlocError(
                    f"annotation {path}{where}: no 'loc' or no count: restore the official file"
                ) from None
            points = xy(values, path, where) - 1
            if len(points) != count:
                raise CrowdlocError(
                    f"annotation {path}{where}: {len(points)} points, but its count is "
                    f"{count}: restore the official file"
                )
            name = f"seq_{number:06d}"
            frames.append(Frame(name, "mall", folder / "frames" / f"{name}.jpg", points))
        return frames

    roi = folder / "perspective_roi.mat"
    return Listing([read], {"mall": partial(read_mask, roi, (480, 640))} if roi.is_file() else {})


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The bool mask of this size (h, w) of a file with a `roi` structure (Mall, UCSD)."""
    try:
        mask = variable(load_mat(path), path, "roi")["mask"]
    except (IndexError, KeyError, TypeError, ValueError):
        raise CrowdlocError(f"annotation {path}: roi has no 'mask': restore the official file") from None
    if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "biuf" or not np.isfinite(mask).all():
        raise CrowdlocError(f"annotation {path}: the mask of roi holds no numbers: restore the official file")
    if mask.shape != size:
        raise CrowdlocError(
            f"annotation {path}: the mask of roi is {mask.shape}, the images are {size}: restore the official file"
        )
    return mask != 0

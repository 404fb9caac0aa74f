"""From the listing of a data folder to a ClipDataset: splits, missing images, points outside, regions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.datasets.files import choose
from crowdloc.datasets.images import image_size

SPLITS = ("train", "val", "trainval", "test", "all")
OUTSIDE = ("clip", "drop", "keep")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Listing:
    """What a reader finds in a data folder, before anything is read.

    Each of `parts` reads one annotation file into its frames, in temporal order, whether or not their images
    exist; `rois` maps a scene to a call that reads its region of interest; `notes` say what a user should know.
    """

    parts: Sequence[Callable[[], list[Frame]]]
    rois: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict)
    notes: Sequence[str] = ()


def hold_out(items: Sequence[Item], split: str) -> list[Item]:
    """The train, val (every tenth: the 10th, 20th, …) or trainval share of an official training set."""
    return [
        item
        for position, item in enumerate(items, start=1)
        if split in ("trainval", "all") or (split == "val") == (position % 10 == 0)
    ]


def outside_image(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which points (n, 2) lie outside a (width, height) image: the pixel they round to does not exist."""
    return np.any((points < -0.5) | (points >= np.array(size) - 0.5), axis=1)


def settle(frame: Frame, size: tuple[int, int], outside: str) -> Frame:
    """Apply the rule for points outside the image.

    "clip" moves them to the nearest border pixel, so that published counts hold and a map can show them;
    "drop" removes them with their boxes and ids; "keep" changes nothing. Boxes may reach over the border in
    any case.
    """
    out = outside_image(frame.points, size)
    if outside == "keep" or not out.any():
        return frame
    if outside == "clip":
        nearest = np.clip(frame.points, 0, np.array(size) - 1)
        return replace(frame, points=np.where(out[:, None], nearest, frame.points))
    boxes, ids = (None if array is None else array[~out] for array in (frame.boxes, frame.track_ids))
    return replace(frame, points=frame.points[~out], boxes=boxes, track_ids=ids)


def inside_roi(roi: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which points (n, 2) lie in a region: a bool mask (h, w), by nearest pixel, or a polygon (k, 2)."""
    if roi.dtype == bool:
        inside = ~outside_image(points, (roi.shape[1], roi.shape[0]))
        column, row = np.floor(points[inside] + 0.5).astype(int).T
        inside[inside] = roi[row, column]
        return inside
    import cv2

    polygon = roi.astype(np.float32)
    return np.array([cv2.pointPolygonTest(polygon, (float(x), float(y)), False) >= 0 for x, y in points], dtype=bool)


def assemble(listing: Listing, name: str, split: str, *, num_frames: int, frame_step: int, outside: str) -> ClipDataset:
    """Read every part, leave out frames without image (`missing`), settle points outside the image."""
    choose("outside", outside, OUTSIDE)
    for note in listing.notes:
        warnings.warn(note, stacklevel=3)
    present, missing = [], []
    sizes: dict[str, tuple[int, int]] = {}  # frames of one scene have one size
    for part in listing.parts:
        for frame in part():
            if not frame.path.is_file():
                missing.append(frame)
                continue
            if frame.scene not in sizes:
                sizes[frame.scene] = image_size(frame.path)
            present.append(settle(frame, sizes[frame.scene], outside))
    if not present:
        where = f"none of its images exists, e.g. {missing[0].path}" if missing else "no frame is annotated"
        raise CrowdlocError(f"{name}: split '{split}' is empty ({where}): unpack the official archive there")
    return ClipDataset(
        present,
        name=name,
        num_frames=num_frames,
        frame_step=frame_step,
        missing=[frame.id for frame in missing],
        rois={scene: read() for scene, read in listing.rois.items()},
    )

"""Annotated video frames as a sequence of clips: what every reader returns and every consumer takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.images import read_image


def _rows(values: object, columns: int, what: str, owner: str) -> np.ndarray:
    """`values` as float64 (n, columns), finite; an empty list or MATLAB's 0x0 is n = 0."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise CrowdlocError(f"{owner}: {what} are not numbers: correct its annotation") from None
    if array.size == 0:
        return np.zeros((0, columns))
    if array.ndim != 2 or array.shape[1] != columns:
        raise CrowdlocError(
            f"{owner}: {what} have shape {array.shape}, expected (n, {columns}): correct its annotation"
        )
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise CrowdlocError(f"{owner}: {what} row {bad[0]} is not finite {array[bad[0]]}: correct its annotation")
    return array


@dataclass(frozen=True, eq=False)
class Frame:
    """One annotated frame: points (n, 2) float64 (x, y), pixel centres 0-based, pixels of the original image.

    Optional: `boxes` (n, 4) x1 y1 x2 y2 in the same pixels, `track_ids` (n,) int64. n may be 0.
    Raises CrowdlocError naming the image when an array has a wrong shape or a coordinate is not finite.
    """

    id: str
    scene: str
    path: Path
    points: np.ndarray
    boxes: np.ndarray | None = None
    track_ids: np.ndarray | None = None

    def __post_init__(self) -> None:
        owner = f"image {self.path}"
        points = _rows(self.points, 2, "points", owner)
        object.__setattr__(self, "points", points)
        if self.boxes is not None:
            object.__setattr__(self, "boxes", _rows(self.boxes, 4, "boxes", owner))
        if self.track_ids is not None:
            try:
                object.__setattr__(self, "track_ids", np.array(self.track_ids, dtype=np.int64).reshape(-1))
            except (OverflowError, TypeError, ValueError):
                raise CrowdlocError(f"{owner}: track ids are no whole numbers: correct its annotation") from None
        for what, array in (("boxes", self.boxes), ("track ids", self.track_ids)):
            if array is not None and len(array) != len(points):
                raise CrowdlocError(f"{owner}: {len(array)} {what} for {len(points)} points: correct its annotation")


@dataclass(frozen=True, eq=False)
class Clip:
    """T decoded frames (T, h, w, 3) uint8 RGB and the annotation of the keyframe, which is frame T // 2."""

    frames: np.ndarray
    points: np.ndarray
    boxes: np.ndarray | None
    track_ids: np.ndarray | None
    image_id: str
    scene: str
    frame_ids: tuple[str, ...]


class ClipDataset(Sequence[Clip]):
    """One clip per annotated frame, decoded when asked for; light to pickle (paths and annotations only).

    A clip is its keyframe and the frames `frame_step`, 2 * `frame_step`, … before and after it in the same
    scene; where the scene begins or ends, its first or last frame is repeated. `missing` lists ids that the
    annotations name but whose images are absent; `rois` maps a scene to its region of interest: a bool mask
    (h, w) or a polygon (k, 2).
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        *,
        name: str,
        num_frames: int = 3,
        frame_step: int = 1,
        missing: Iterable[str] = (),
        rois: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        for option, value in (("num_frames", num_frames), ("frame_step", frame_step)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise CrowdlocError(f"{option}={value!r}: give a whole number of at least 1")
        self.name, self.num_frames, self.frame_step = name, int(num_frames), int(frame_step)
        self.missing, self.rois = tuple(missing), dict(rois or {})
        self.frames: list[Frame] = list(frames)
        self._pool = self.frames  # a subset's pool also holds the neighbours that are no keyframes themselves
        scenes: dict[str, list[int]] = {}
        for index, frame in enumerate(self.frames):
            scenes.setdefault(frame.scene, []).append(index)
        offsets = [(t - self.num_frames // 2) * self.frame_step for t in range(self.num_frames)]
        self._neighbours: list[tuple[int, ...]] = [()] * len(self.frames)
        for members in scenes.values():
            for position, index in enumerate(members):
                self._neighbours[index] = tuple(members[min(max(position + o, 0), len(members) - 1)] for o in offsets)

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        missing = f", {len(self.missing)} missing" if self.missing else ""
        return f"ClipDataset({self.name!r}, {len(self)} clips of {self.num_frames} frames{missing})"

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> ClipDataset: ...
    def __getitem__(self, index: int | slice) -> Clip | ClipDataset:
        if isinstance(index, slice):
            return self.subset(range(*index.indices(len(self))))
        neighbours = self.neighbours(index)
        images = {i: self.image(i) for i in dict.fromkeys(neighbours)}  # a repeated frame is decoded once
        centre = neighbours[self.num_frames // 2]
        key = self._pool[centre]
        for i, image in images.items():
            if image.shape != images[centre].shape:
                raise CrowdlocError(
                    f"image {self._pool[i].path} differs in size from {key.path} of the same scene: "
                    "restore the file, or load with num_frames=1"
                )
        return Clip(
            np.stack([images[i] for i in neighbours]),
            key.points,
            key.boxes,
            key.track_ids,
            key.id,
            key.scene,
            tuple(self._pool[i].id for i in neighbours),
        )

    def neighbours(self, index: int) -> tuple[int, ...]:
        """The T indices of a clip, in time, for `image`; in a subset they may be `len(self)` or more."""
        return self._neighbours[range(len(self))[index]]  # range checks and resolves negative indices

    def image(self, index: int) -> np.ndarray:
        """Decode frame `index` (of `frames`, or of a clip's `neighbours`): (h, w, 3) uint8 RGB."""
        return read_image(self._pool[index if index >= 0 else range(len(self))[index]].path)

    def subset(self, indices: Iterable[int]) -> ClipDataset:
        """The clips at `indices`, in that order; their neighbours stay those of the whole video."""
        chosen = [range(len(self))[i] for i in indices]
        order = list(chosen)
        position: dict[int, int] = {}
        for place, old in enumerate(chosen):
            position.setdefault(old, place)
        for old in chosen:
            for neighbour in self._neighbours[old]:
                if neighbour not in position:
                    position[neighbour] = len(order)
                    order.append(neighbour)
        part = ClipDataset(
            [],
            name=self.name,
            num_frames=self.num_frames,
            frame_step=self.frame_step,
            missing=self.missing,
            rois=self.rois,
        )
        part._pool = [self._pool[old] for old in order]
        part.frames = part._pool[: len(chosen)]
        part._neighbours = [tuple(position[n] for n in self._neighbours[old]) for old in chosen]
        return part

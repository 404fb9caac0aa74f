"""Annotated video frames as a sequence of clips: what every reader returns and every consumer takes."""

from __future__ import annotations

import operator
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

    def image(self) -> np.ndarray:
        """Decode the image: (h, w, 3) uint8 RGB, in whose pixels the points are."""
        return read_image(self.path)


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

    A subset knows the whole videos, so that every frame keeps all its neighbours. Frames are meant by an index:
    0 … len - 1 are `frames`, and `neighbours` also gives larger ones, for frames of the videos that a subset does
    not hold itself. `image`, `key`, `position` and `neighbours` take both kinds.
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
        self._pool: Sequence[Frame] = list(frames)  # all frames of all videos, shared with every subset
        self._videos: dict[str, list[int]] = {}  # scene to places in the pool, in time
        self._times: list[int] = []  # place in the pool to place in the video
        for place, frame in enumerate(self._pool):
            video = self._videos.setdefault(frame.scene, [])
            self._times.append(len(video))
            video.append(place)
        self._choose(range(len(self._pool)))

    def _choose(self, places: Iterable[int]) -> None:
        """Make the frames at these places of the pool the data set's own."""
        self._keys = list(places)
        self.frames: list[Frame] = [self._pool[place] for place in self._keys]
        self._index: dict[int, int] = {}
        for index, place in enumerate(self._keys):
            self._index.setdefault(place, index)

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
        key = self.frames[index]
        neighbours = self.neighbours(index)
        images = {i: self.image(i) for i in dict.fromkeys(neighbours)}  # a repeated frame is decoded once
        centre = images[neighbours[self.num_frames // 2]]
        for i, image in images.items():
            if image.shape != centre.shape:
                raise CrowdlocError(
                    f"image {self.frame(i).path} differs in size from {key.path} of the same scene: "
                    "restore the file, or load with num_frames=1"
                )
        return Clip(
            np.stack([images[i] for i in neighbours]),
            key.points,
            key.boxes,
            key.track_ids,
            key.id,
            key.scene,
            tuple(self.frame(i).id for i in neighbours),
        )

    @property
    def offsets(self) -> tuple[int, ...]:
        """The frames of a clip, relative to its keyframe, in units of `frame_step`: (-1, 0, 1) for T = 3."""
        return tuple(t - self.num_frames // 2 for t in range(self.num_frames))

    def neighbours(self, index: int, offsets: Sequence[int] | None = None) -> tuple[int, ...]:
        """Indices of the frames `offsets` * `frame_step` away from frame `index` in its video, for `image`.

        Args:
            index: of `frames`, or one that this method gave.
            offsets: whole numbers in units of `frame_step`, in any order, e.g. (-1, 0); by default those of a clip.

        Returns:
            One index for each offset, the video's first or last frame where it begins or ends; in a subset indices may
            be `len(self)` or more.
        """
        key = self.key(index)
        video, now = self._videos[self._pool[key].scene], self._times[key]
        times = [now + offset * self.frame_step for offset in (self.offsets if offsets is None else offsets)]
        places = [video[min(max(time, 0), len(video) - 1)] for time in times]
        return tuple(self._index.get(place, len(self) + place) for place in places)

    def key(self, index: int) -> int:
        """What identifies frame `index`: its place among all frames loaded, the same in every subset of them."""
        index = operator.index(index)
        if index < len(self):
            return self._keys[index]
        place = index - len(self)
        if place >= len(self._pool) or place in self._index:
            raise IndexError(f"{index} is no frame of {self!r}")
        return place

    def position(self, index: int) -> tuple[str, int]:
        """Scene of frame `index` and its place in time there, from 0, whatever the order of a subset."""
        key = self.key(index)
        return self._pool[key].scene, self._times[key]

    def frame(self, index: int) -> Frame:
        """The annotated frame `index` (of `frames`, or of `neighbours`)."""
        return self._pool[self.key(index)]

    def image(self, index: int) -> np.ndarray:
        """Decode frame `index` (of `frames`, or of `neighbours`): (h, w, 3) uint8 RGB."""
        return self.frame(index).image()

    def subset(self, indices: Iterable[int]) -> ClipDataset:
        """The clips at `indices`, in that order; their neighbours stay those of the whole video."""
        return self.subset_of_keys([self._keys[range(len(self))[i]] for i in indices])

    def whole(self) -> ClipDataset:
        """Every frame of the videos that this data set is a part of, so that indices are keys."""
        return self.subset_of_keys(range(len(self._pool)))

    def subset_of_keys(self, keys: Iterable[int]) -> ClipDataset:
        """The clips of the frames with these keys, in that order."""
        part = ClipDataset(
            [],
            name=self.name,
            num_frames=self.num_frames,
            frame_step=self.frame_step,
            missing=self.missing,
            rois=self.rois,
        )
        part._pool, part._videos, part._times = self._pool, self._videos, self._times
        part._choose(keys)
        return part

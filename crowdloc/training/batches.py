"""Training batches as a pure function of (seed, step): the same clips, crops and flips whenever they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crowdloc.core.random_bits import philox_integers, philox_permutation
from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.models.method import Maps, Sample
from crowdloc.models.parts.frontend import STRIDE, normalise
from crowdloc.models.recipes import Recipe


class KeptMaps(Protocol):
    """What a frozen backbone makes of every frame, by the frame's `ClipDataset.key`."""

    def read(self, key: int, mirrored: bool) -> Maps:
        """Maps of a frame, or of its mirror image, each (C, H, W)."""

    def size(self, key: int) -> tuple[int, int]:
        """Height and width of the frame in pixels."""


class _Window(NamedTuple):
    """Where one sample of a batch is cut out of its frames."""

    frames: tuple[int, ...]
    top: int
    left: int
    height: int
    width: int
    mirrored: bool
    frame_width: int


class TrainingBatches:
    """Random crops of clips, mirrored half of the time (baselines: crop and mirror are the only augmentation).

    Args:
        dataset: frames and annotations; frames are decoded once and kept, up to `cache_bytes`.
        offsets: the frames that the method looks at.
        crop: height and width; None: whole frames, which must then be of one size. Smaller frames are padded on the
            right and at the bottom by their last pixels.
        batch_size: clips of a whole step. A process of rank r of n makes the clips r, r + n, … of it.
        maps: kept maps of a frozen backbone; crops then begin at multiples of its stride.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        offsets: Sequence[int],
        crop: tuple[int, int] | None,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        cache_bytes: int = 2 << 30,
        maps: KeptMaps | None = None,
    ) -> None:
        self.dataset, self.offsets, self.crop, self.seed = dataset, tuple(offsets), crop, seed
        self.slots = range(rank, batch_size, world_size)
        self.batch_size = batch_size
        self.maps = maps
        self._cache: dict[int, NDArray[np.uint8]] = {}
        self._cache_left = cache_bytes
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))  # epoch and its permutation

    def batch(self, step: int) -> Sample:
        """The clips of one step."""
        windows = [self._window(step, slot) for slot in self.slots]
        size = windows[0].height, windows[0].width
        boxed = all(self.dataset.frame(i).boxes is not None for w in windows for i in w.frames)
        return Sample(
            images=None if self.maps else normalise(torch.from_numpy(np.stack([self._clip(w) for w in windows]))),
            maps=self._kept(windows) if self.maps else None,
            points=[[self._points(self.dataset.frame(i), w) for i in w.frames] for w in windows],
            boxes=[[self._boxes(self.dataset.frame(i), w) for i in w.frames] for w in windows] if boxed else None,
            size=size,
        )

    def stream(self, first: int, last: int) -> Iterator[tuple[int, Sample]]:
        """(step, batch) for steps first … last - 1, the next batch being made while one is used."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            waiting = pool.submit(self.batch, first)
            for step in range(first, last):
                batch = waiting.result()
                if step + 1 < last:
                    waiting = pool.submit(self.batch, step + 1)
                yield step, batch

    def index(self, step: int, slot: int) -> int:
        """Which clip fills a slot: epochs are permutations, so every clip is seen equally often."""
        epoch, place = divmod(step * self.batch_size + slot, len(self.dataset))
        if self._order[0] != epoch:
            self._order = epoch, philox_permutation((self.seed, 0), epoch, len(self.dataset))
        return int(self._order[1][place])

    def is_mirrored(self, step: int, slot: int) -> bool:
        """Whether the clip in a slot is mirrored."""
        return bool(philox_integers((self.seed, 1 + slot), (step, 2), 2, 1)[0])

    def _window(self, step: int, slot: int) -> _Window:
        index = self.index(step, slot)
        frames = self.dataset.neighbours(index, self.offsets)
        height, width = self._size(index)
        crop_h, crop_w = self.crop or (height, width)
        grid = STRIDE if self.maps else 1
        last = [max(full - part, 0) // grid for full, part in ((height, crop_h), (width, crop_w))]
        places = [int(philox_integers((self.seed, 1 + slot), (step, axis), last[axis] + 1, 1)[0]) for axis in (0, 1)]
        mirrored = self.is_mirrored(step, slot)
        return _Window(frames, grid * places[0], grid * places[1], crop_h, crop_w, mirrored, width)

    def _size(self, index: int) -> tuple[int, int]:
        if self.maps is None:
            height, width = self._image(index).shape[:2]
            return height, width
        return self.maps.size(self.dataset.key(index))

    def _clip(self, window: _Window) -> NDArray[np.uint8]:
        """The crop of all frames (T, h, w, 3); a mirrored one is cut out of mirrored frames."""
        cut = []
        for i in window.frames:
            frame = self._image(i)[:, ::-1] if window.mirrored else self._image(i)
            cut.append(frame[window.top : window.top + window.height, window.left : window.left + window.width])
        clip = np.stack(cut)
        missing = ((0, 0), (0, window.height - clip.shape[1]), (0, window.width - clip.shape[2]), (0, 0))
        return np.pad(clip, missing, mode="edge")

    def _kept(self, windows: Sequence[_Window]) -> Maps:
        """The crops of all kept maps, each (B, T, C, H, W)."""
        assert self.maps is not None
        clips = []
        for window in windows:
            frames = [self.maps.read(self.dataset.key(i), window.mirrored) for i in window.frames]
            clips.append([torch.stack(stage) for stage in zip(*frames, strict=True)])  # per stage (T, C, H, W)
        result = []
        for stage in zip(*clips, strict=True):
            scale = self._scale(stage[0], windows[0])
            result.append(torch.stack([_cut(clip, w, scale) for clip, w in zip(stage, windows, strict=True)]))
        return tuple(result)

    def _scale(self, maps: Tensor, window: _Window) -> int:
        """Pixels per cell of a kept map: a power of two, the front-end's strides."""
        return 2 ** round(np.log2(window.frame_width / maps.shape[-1]))

    def _points(self, frame: Frame, window: _Window) -> Tensor:
        points = _mirrored(frame.points, window) - (window.left, window.top)
        return torch.from_numpy(points[_inside(points, window)])

    def _boxes(self, frame: Frame, window: _Window) -> Tensor:
        """Boxes of the heads inside the crop, clipped to it."""
        assert frame.boxes is not None
        points = _mirrored(frame.points, window) - (window.left, window.top)
        corners = _mirrored(frame.boxes.reshape(-1, 2), window).reshape(-1, 4)
        if window.mirrored:
            corners = corners[:, [2, 1, 0, 3]]
        corners = corners - np.tile((window.left, window.top), 2)
        limit = np.tile((window.width - 1, window.height - 1), 2)
        return torch.from_numpy(np.clip(corners, 0, limit)[_inside(points, window)])

    def _image(self, index: int) -> NDArray[np.uint8]:
        key = self.dataset.key(index)
        if key in self._cache:
            return self._cache[key]
        image = self.dataset.image(index)
        if image.nbytes <= self._cache_left:
            self._cache_left -= image.nbytes
            self._cache[key] = image
        return image


def frames_seen(dataset: ClipDataset, offsets: Sequence[int], recipe: Recipe, seed: int) -> set[tuple[int, bool]]:
    """What a training looks at: `ClipDataset.key` of every frame, and whether mirrored; of all processes together."""
    batches = TrainingBatches(dataset, offsets=offsets, crop=None, batch_size=recipe.batch_size, seed=seed)
    return {
        (dataset.key(i), batches.is_mirrored(step, slot))
        for step in range(recipe.steps)
        for slot in batches.slots
        for i in dataset.neighbours(batches.index(step, slot), offsets)
    }


def _mirrored(points: NDArray[np.float64], window: _Window) -> NDArray[np.float64]:
    return points * (-1, 1) + (window.frame_width - 1, 0) if window.mirrored else points


def _inside(points: NDArray[np.float64], window: _Window) -> NDArray[np.bool_]:
    inside = (points >= -0.5) & (points < (window.width - 0.5, window.height - 0.5))  # (n, 2)
    return np.logical_and(inside[:, 0], inside[:, 1])


def _cut(maps: Tensor, window: _Window, scale: int) -> Tensor:
    """(T, C, H, W) of whole frames -> the window's part, float32; cells outside repeat the last ones."""
    top, left = window.top // scale, window.left // scale
    height, width = -(-window.height // scale), -(-window.width // scale)
    part = maps[..., top : top + height, left : left + width].float()
    bottom, right = height - part.shape[-2], width - part.shape[-1]
    return torch.nn.functional.pad(part, (0, right, 0, bottom), mode="replicate") if bottom or right else part

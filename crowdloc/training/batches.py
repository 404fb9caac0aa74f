"""Training batches as a pure function of (seed, step): the same clips, crops and flips whenever they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crowdloc.datasets.base import ClipDataset
from crowdloc.models.targets import cross_target


class TrainingBatches:
    """Random crops of clips, flipped half of the time (baselines: crop and flip are the only augmentation).

    Args:
        dataset: clips; frames are decoded once and kept, up to `cache_bytes`.
        crop: height and width; smaller frames are padded on the right and at the bottom by their last pixels.
        batch_size: clips of a whole step. A process of rank r of n makes the clips r, r + n, … of it.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        crop: tuple[int, int],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        cache_bytes: int = 2 << 30,
    ) -> None:
        self.dataset = dataset
        self.crop = crop
        self.seed = seed
        self.slots = range(rank, batch_size, world_size)
        self.batch_size = batch_size
        self._cache: dict[int, NDArray[np.uint8]] = {}
        self._cache_left = cache_bytes
        self._order: dict[int, NDArray[np.int64]] = {}  # epoch -> permutation, the current epoch only

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Clips uint8 (b, T, h, w, 3) and targets (b, h, w) of one step."""
        made = [self._sample(step, slot) for slot in self.slots]
        clips, targets = zip(*made, strict=True)
        return torch.from_numpy(np.stack(clips)), torch.from_numpy(np.stack(targets))

    def stream(self, first: int, last: int) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
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
        if epoch not in self._order:
            self._order = {epoch: _generator(self.seed, 0, epoch).permutation(len(self.dataset))}
        return int(self._order[epoch][place])

    def _sample(self, step: int, slot: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        index = self.index(step, slot)
        random = _generator(self.seed, 1 + slot, step)
        frames = [self._image(i) for i in self.dataset.neighbours(index)]
        height, width = frames[0].shape[:2]
        crop_h, crop_w = self.crop
        top = int(random.integers(0, max(height - crop_h, 0) + 1))
        left = int(random.integers(0, max(width - crop_w, 0) + 1))
        clip = np.stack([frame[top : top + crop_h, left : left + crop_w] for frame in frames])
        missing = ((0, 0), (0, crop_h - clip.shape[1]), (0, crop_w - clip.shape[2]), (0, 0))
        clip = np.pad(clip, missing, mode="edge")
        points = self.dataset.frames[index].points - (left, top)
        inside = ((points >= -0.5) & (points < (crop_w - 0.5, crop_h - 0.5))).all(axis=1)
        target = cross_target(points[inside], crop_h, crop_w)
        if random.random() < 0.5:
            clip, target = clip[:, :, ::-1], target[:, ::-1]
        return np.ascontiguousarray(clip), np.ascontiguousarray(target)

    def _image(self, index: int) -> NDArray[np.uint8]:
        if index in self._cache:
            return self._cache[index]
        image = self.dataset.image(index)
        if image.nbytes <= self._cache_left:
            self._cache_left -= image.nbytes
            self._cache[index] = image
        return image


def _generator(seed: int, stream: int, counter: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[counter, 0, 0, 0]))

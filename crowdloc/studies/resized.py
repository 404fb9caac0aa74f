"""Images at another size than they have, as for a network that knows heads of one size only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from crowdloc.datasets.base import ClipDataset
from crowdloc.datasets.images import image_size
from crowdloc.models import Prediction


class Resized(ClipDataset):
    """A data set of single images scaled to one height; points stay in pixels of the original."""

    def __init__(self, dataset: ClipDataset, height: int) -> None:
        super().__init__(dataset.frames, name=dataset.name, num_frames=1)
        self.height = height

    def image(self, index: int) -> NDArray[np.uint8]:
        image = super().image(index)
        size = self._width(image.shape[1], image.shape[0]), self.height
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)

    def _width(self, width: int, height: int) -> int:
        return round(width * self.height / height)

    def in_original_pixels(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        """Predictions for the scaled images, their points moved to the pixels of the originals."""
        return [self._moved(frame.path, found) for frame, found in zip(self.frames, predictions, strict=True)]

    def _moved(self, path: Path, found: Prediction) -> Prediction:
        if found.points is None:
            return found
        width, height = image_size(path)
        scale = np.array([width / self._width(width, height), height / self.height])
        return Prediction((found.points + 0.5) * scale - 0.5, found.scores, found.count)

"""A tiny generated data set for tests of training and evaluation: bright discs on noise, moving to the right."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from crowdloc.datasets.base import ClipDataset, Frame


def disc_video(folder: Path, *, frames: int = 4, size: tuple[int, int] = (48, 64), heads: int = 4) -> ClipDataset:
    """`frames` frames (h, w) with `heads` discs each, one scene."""
    random = np.random.default_rng(7)
    start = random.random((heads, 2)) * (size[1] - 24, size[0] - 16) + 8
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(frames):
        image = random.integers(60, 100, (*size, 3), dtype=np.uint8)
        points = np.round(start + np.array([2.0 * index, 0.0]))
        for x, y in points:
            cv2.circle(image, (int(x), int(y)), 3, (230, 200, 180), -1)
        path = folder / f"{index:03d}.png"
        cv2.imwrite(str(path), image)
        made.append(Frame(id=path.stem, scene="discs", path=path, points=points))
    return ClipDataset(made, name="discs")

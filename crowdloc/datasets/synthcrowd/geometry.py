"""The pinhole camera above the ground plane, and heads as whole 1/64 pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crowdloc.datasets.synthcrowd.settings import PRESETS

ASPECT = 16 / 9
UNIT = 64  # annotations are whole numbers of 1/64 px
MINI = PRESETS["mini"]


@dataclass(frozen=True)
class Camera:
    """Pinhole above the ground: `height` in metres, `focal` in image heights, `sin`, `cos` of the downward tilt."""

    height: float
    focal: float
    sin: float
    cos: float

    def project(self, x: np.ndarray, y: np.ndarray, z: np.ndarray | float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ground metres (x right, y away, z up) to (u, v, depth): u, v from the centre, in image heights, v down."""
        below = self.height - z
        depth = y * self.cos + below * self.sin
        return self.focal * x / depth, self.focal * (below * self.cos - y * self.sin) / depth, depth

    def ground(self, v: float, z: float = 0.0) -> tuple[float, float]:
        """Where the image row v meets the plane at height z: (y, depth)."""
        depth = (self.height - z) / (self.sin + self.cos * v / self.focal)
        return (depth - (self.height - z) * self.sin) / self.cos, depth


def heads(camera: Camera, x: np.ndarray, y: np.ndarray, z: np.ndarray, size: tuple[int, int] = MINI) -> np.ndarray:
    """Head centres as whole 1/64 px (n, 2) in an image of `size` (height, width)."""
    u, v, _ = camera.project(x, y, z)
    height, width = size
    return np.stack(
        [np.rint((u * height + (width / 2 - 0.5)) * UNIT), np.rint((v * height + (height / 2 - 0.5)) * UNIT)], 1
    ).astype(np.int64)


def inside(points: np.ndarray) -> np.ndarray:
    """Which 1/64 px points lie inside the mini image: half a pixel from its edge, so inside at every preset."""
    limit = np.array([MINI[1] - 1, MINI[0] - 1]) * UNIT
    return np.asarray(((points >= 0) & (points <= limit)).all(axis=1))

"""A scene: camera, place and everybody in it, as numbers from which any frame follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crowdloc.datasets.synthcrowd.geometry import Camera
from crowdloc.datasets.synthcrowd.rng import Stream, wave
from crowdloc.datasets.synthcrowd.settings import DOMAINS, FPS, GENERATION, SPLIT_SEEDS, Difficulty

HEAD_PLANE = 1.6  # height of the plane in which head sizes are asked for, metres
PERSON, LOOKALIKE, BOLLARD, GLOBE, SIGN, SACK, PLANT = range(7)


@dataclass(frozen=True, eq=False)
class Figures:
    """Everything with a head or a head-like top, one row each: people first, then look-alikes and objects.

    Positions in metres at frame 0, velocities in m/s (0: stands); `sway` is how far somebody standing drifts.
    """

    kind: np.ndarray
    x: np.ndarray
    y: np.ndarray
    vx: np.ndarray
    vy: np.ndarray
    face_x: np.ndarray
    face_y: np.ndarray
    sway: np.ndarray
    phase: np.ndarray
    rate: np.ndarray
    stature: np.ndarray
    radius: np.ndarray
    half_width: np.ndarray
    look: np.ndarray  # (n, 8) uniform numbers that decide clothes, hair and colours

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True, eq=False)
class Scene:
    """What `render_frame` and `scene_annotations` need. The crowd lives in |x| <= `reach`, `near` <= y <= `far`."""

    domain: str
    split: str
    index: int
    place: tuple[object, ...]  # names the streams of all that stays when a place is filmed again
    camera: Camera
    reach: float
    near: float
    far: float
    figures: Figures
    people: int
    difficulty: Difficulty

    @property
    def name(self) -> str:
        """Folder name, unique inside the split."""
        return DOMAINS[self.domain].scene_name(self.index)

    def stream(self, *topic: object) -> Stream:
        """Random numbers of this video."""
        return Stream(GENERATION, self.domain, SPLIT_SEEDS[self.split], self.index, *topic)

    def place_stream(self, *topic: object) -> Stream:
        """Random numbers of this place, shared by all videos filmed there."""
        return Stream(*self.place, *topic)


def _fold(value: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Reflect at both ends of [low, high]: the place, and +1 or -1 for the direction."""
    span = high - low
    q = (value - low) / (2.0 * span)
    q = 2.0 * (q - np.floor(q))
    back = q > 1.0
    return low + span * np.where(back, 2.0 - q, q), np.where(back, -1.0, 1.0)


def _wrap(value: np.ndarray, reach: float) -> np.ndarray:
    """Leave at one side of [-reach, reach], enter at the other."""
    q = (value + reach) / (2.0 * reach)
    return (q - np.floor(q)) * (2.0 * reach) - reach


def positions(figures: Figures, t: float, reach: float, near: float, far: float) -> tuple[np.ndarray, ...]:
    """Closed form for any frame number t: x, y, height of the head centre (metres), facing x, facing y.

    Walkers re-enter at the opposite side (outside the view) and turn round at the near and far ends.
    """
    time = np.float64(t) / FPS
    walking = (figures.vx != 0) | (figures.vy != 0)
    drift_x = figures.sway * wave(figures.phase + time * (0.31 * figures.rate))
    drift_y = figures.sway * wave(figures.phase * 3.0 + time * (0.23 * figures.rate))
    x = _wrap(figures.x + time * figures.vx, reach) + drift_x
    y, turn = _fold(figures.y + time * figures.vy, near, far)
    bob = np.where(walking, 0.025, 0.0) * wave(figures.phase + time * (1.9 * figures.rate))
    head = figures.stature - figures.radius + bob
    return x, y + drift_y, head, figures.face_x, figures.face_y * np.where(walking, turn, 1.0)

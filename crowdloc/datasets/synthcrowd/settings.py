"""Everything that can be turned: difficulty, domains, presets and seeds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

SYNTHCROWD_VERSION = 1
FPS = 5  # frames per second, as in SenseCrowd

PRESETS = {"mini": (288, 512), "paper": (1080, 1920)}  # height, width; both 16:9, the same scenes
# No picture of a test scene is looked at; difficulty is set on "dev" only.
SPLIT_SEEDS = {"dev": 4021, "train": 1733, "val": 2909, "test": 90481}


@dataclass(frozen=True)
class Difficulty:
    """What makes heads hard to find; pairs are the range from which a scene draws. Lengths in mini pixels.

    `lookalikes` and `objects` are per ten people: figures drawn like people that never move, and head-like objects.
    `lost_blocks` is the share of 16 x 16 blocks that a frame loses to the codec (drawn anew in each frame). Still
    images have no look-alikes and lose no blocks: nothing could tell what is there.
    """

    lookalikes: tuple[float, float] = (1.5, 4.0)
    objects: tuple[float, float] = (2.0, 5.0)
    noise: tuple[float, float] = (3.0, 9.0)
    blur: tuple[float, float] = (0.45, 0.9)
    contrast: tuple[float, float] = (0.6, 1.0)
    far_contrast: tuple[float, float] = (0.4, 0.85)
    lost_blocks: tuple[float, float] = (0.0, 0.08)
    quality: tuple[int, int] = (60, 90)

    def fingerprint(self) -> str:
        """Short name of these values, stored with every scene, so that scenes of other values are never mistaken."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]


DIFFICULTY = Difficulty()


@dataclass(frozen=True)
class Domain:
    """One kind of footage. `videos` and `frames` per split; head diameters in mini pixels at the image's lower edge and
    at the far end of the crowd; `places` > 0: that many scenes are shared by all splits."""

    videos: dict[str, int]
    frames: dict[str, int]
    people: tuple[int, int]
    near: tuple[float, float]
    far: tuple[float, float]
    standing: tuple[float, float]
    min_gap: float
    places: int = 0

    @property
    def is_video(self) -> bool:
        """Whether scenes have neighbouring frames."""
        return self.frames["train"] > 1

    def scene_name(self, index: int) -> str:
        """Folder name of a video, unique inside its split."""
        if self.places:
            return f"place{index % self.places:02d}-video{index // self.places}"
        return f"scene{index:03d}"


DOMAINS = {
    "sense": Domain(
        {"dev": 24, "train": 60, "val": 12, "test": 24},
        {"dev": 8, "train": 8, "val": 8, "test": 10},
        (14, 72),
        (11.0, 21.0),
        (4.2, 7.0),
        (0.1, 0.45),
        0.42,
    ),
    "fdst": Domain(
        {"dev": 13, "train": 26, "val": 13, "test": 26},
        {"dev": 8, "train": 8, "val": 8, "test": 8},
        (10, 50),
        (13.0, 22.0),
        (5.5, 9.0),
        (0.1, 0.4),
        0.42,
        places=13,
    ),
    "sha": Domain(
        {"dev": 24, "train": 240, "val": 40, "test": 120},
        {"dev": 1, "train": 1, "val": 1, "test": 1},
        (90, 330),
        (8.0, 14.0),
        (3.6, 5.0),
        (0.4, 0.9),
        0.34,
    ),
    "shb": Domain(
        {"dev": 24, "train": 240, "val": 40, "test": 120},
        {"dev": 1, "train": 1, "val": 1, "test": 1},
        (22, 135),
        (12.0, 22.0),
        (3.6, 5.5),
        (0.15, 0.5),
        0.40,
    ),
}

"""Everything that can be turned: difficulty, domains, presets and seeds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

SYNTHCROWD_VERSION = 2  # which scenes there are; version 1 had a quarter of the training scenes, and the same others
GENERATION = 1  # how a scene is made: part of every seed; scenes of one generation are the same in every version
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

    lookalikes: tuple[float, float] = (1.5, 3.5)
    objects: tuple[float, float] = (1.0, 3.0)
    noise: tuple[float, float] = (3.0, 8.0)
    blur: tuple[float, float] = (0.45, 0.9)
    contrast: tuple[float, float] = (0.6, 1.0)
    far_contrast: tuple[float, float] = (0.55, 0.9)
    lost_blocks: tuple[float, float] = (0.01, 0.07)
    quality: tuple[int, int] = (60, 90)

    def fingerprint(self) -> str:
        """Short name of these values, stored with every scene, so that scenes of other values are never mistaken."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]


DIFFICULTY = Difficulty()


@dataclass(frozen=True)
class Domain:
    """One kind of footage.

    `people` heads in view per scene (mean of two draws), `near` and `far` head diameters in mini pixels at the lower
    edge of the image and at the far end of the crowd, `standing` share of groups that stand, `gap` metres between
    people. With `places` > 0 that many places are filmed again and again, in all splits.
    """

    videos: dict[str, int]
    frames: dict[str, int]
    people: tuple[int, int]
    near: tuple[float, float]
    far: tuple[float, float]
    standing: tuple[float, float]
    gap: float
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


_STILLS = {"dev": 24, "train": 720, "val": 40, "test": 120}
_ONE = {"dev": 1, "train": 1, "val": 1, "test": 1}

DOMAINS = {
    "sense": Domain(
        videos={"dev": 24, "train": 240, "val": 12, "test": 24},
        frames={"dev": 8, "train": 8, "val": 8, "test": 10},
        people=(14, 56), near=(17.0, 30.0), far=(6.8, 10.5), standing=(0.1, 0.45), gap=0.42,
    ),
    "fdst": Domain(
        videos={"dev": 13, "train": 104, "val": 13, "test": 26},
        frames={"dev": 8, "train": 8, "val": 8, "test": 8},
        people=(10, 44), near=(18.0, 30.0), far=(7.5, 11.5), standing=(0.1, 0.4), gap=0.42, places=13,
    ),
    "sha": Domain(
        videos=_STILLS, frames=_ONE,
        people=(80, 260), near=(11.0, 18.0), far=(4.8, 7.0), standing=(0.4, 0.9), gap=0.34,
    ),
    "shb": Domain(
        videos=_STILLS, frames=_ONE,
        people=(20, 110), near=(17.0, 30.0), far=(5.5, 8.0), standing=(0.15, 0.5), gap=0.40,
    ),
}  # fmt: skip

"""Single annotated frames to look at: generated ones without their split, real ones from a data root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.synthcrowd import PRESETS, build_scene, render_frame, scene_annotations
from crowdloc.datasets.synthcrowd.geometry import UNIT, heads, inside
from crowdloc.datasets.synthcrowd.scene import LOOKALIKE, positions


@dataclass(frozen=True, eq=False)
class Sample:
    """A frame (h, w, 3) uint8 RGB with head points (n, 2), where known boxes (n, 4) and track ids (n,), in its pixels.

    `lookalikes` (k, 2) are the heads of figures that are drawn like people and never move: no one is annotated there.
    """

    title: str
    image: np.ndarray
    points: np.ndarray
    boxes: np.ndarray | None = None
    track_ids: np.ndarray | None = None
    lookalikes: np.ndarray | None = None

    @property
    def tracks(self) -> dict[int, np.ndarray]:
        """The head point (2,) of every track id; empty where ids are not known."""
        return {} if self.track_ids is None else dict(zip(self.track_ids.tolist(), self.points, strict=True))


def synthetic(domain: str, index: int, number: int, *, preset: str = "mini", split: str = "dev") -> Sample:
    """Frame `number` of a SynthCrowd scene, rendered now; of split dev, since test scenes are not looked at."""
    scene = build_scene(domain, split, index)
    found = scene_annotations(scene, number, preset)
    figures = scene.figures
    x, y, z, _, _ = positions(figures, number, scene.reach, scene.near, scene.far)
    shown = (figures.kind == LOOKALIKE) & inside(heads(scene.camera, x, y, z))
    return Sample(
        f"{domain}: {scene.name}, frame {number}, {len(found.points)} heads",
        render_frame(scene, number, preset),
        found.points / UNIT,
        found.boxes / UNIT,
        found.track_ids,
        heads(scene.camera, x, y, z, PRESETS[preset])[shown] / UNIT,
    )


def strip(domain: str, index: int, numbers: Sequence[int], *, preset: str = "mini", split: str = "dev") -> list[Sample]:
    """Frames `numbers` of one SynthCrowd scene."""
    return [synthetic(domain, index, number, preset=preset, split=split) for number in numbers]


def content(samples: Sequence[Sample]) -> pd.DataFrame:
    """What every sample shows: heads, boxes, look-alikes; index: the title."""
    rows = {
        sample.title: [0 if part is None else len(part) for part in (sample.points, sample.boxes, sample.lookalikes)]
        for sample in samples
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["heads", "boxes", "look-alikes"])


def moved(samples: Sequence[Sample], view: tuple[int, int, int, int]) -> pd.DataFrame:
    """Pixels that every head inside `view` moves from frame to frame, NaN where hidden; last row: the look-alikes.

    Columns t, t + 1, … are the steps that begin there; `view` is left, top, right, bottom, of the first frame.
    """
    low, high = np.array(view[:2]), np.array(view[2:])
    places = [sample.tracks for sample in samples]
    shown = sorted(key for key, at in places[0].items() if ((at >= low) & (at < high)).all())
    steps = list(pairwise(places))
    rows: dict[str, list[float]] = {
        f"head {key}": [
            float(np.hypot(*(b[key] - a[key]))) if {key} <= a.keys() & b.keys() else np.nan for a, b in steps
        ]
        for key in shown
    }
    still = [sample.lookalikes for sample in samples if sample.lookalikes is not None]
    if len(still) == len(samples):
        rows["look-alikes"] = [float(np.abs(b - a).max(initial=0.0)) for a, b in pairwise(still)]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["t", *(f"t + {n}" for n in range(1, len(steps)))])


def real(root: Path | None) -> list[Sample]:
    """The middle frame of every real set that the data root holds; none without a data root.

    For the screen only: no licence allows these frames to be passed on, so nothing may store them.
    """
    from crowdloc.datasets import load
    from crowdloc.datasets.census import REAL, is_present

    if root is None:
        return []
    found = []
    for name in REAL:
        if not is_present(name, root):
            continue
        try:
            data = load(name, root, "trainval", num_frames=1)
            middle = len(data) // 2
            frame, image = data.frames[middle], data.image(middle)
        except CrowdlocError:
            continue
        title = f"{name}: {frame.id}, {len(frame.points)} heads"
        found.append(Sample(title, image, frame.points, frame.boxes, frame.track_ids))
    return found

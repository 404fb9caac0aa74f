"""Two sides that must be equal: JSON values, and the heads of generated data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import Frame
from crowdloc.results.experiments import SOURCES, Experiment
from crowdloc.results.formats import UNIT, Truth, read_truth, same_images

_RESTORE = "restore it from version control"


def differences(stored: Any, again: Any, tolerance: float, key: str = "") -> list[tuple[str, str, str]]:
    """(key, stored, computed) wherever two JSON values differ; NaN differs from everything, itself included."""
    if isinstance(stored, Mapping) and isinstance(again, Mapping):
        found: list[tuple[str, str, str]] = []
        for name in {**again, **stored}:
            where = f"{key}.{name}" if key else str(name)
            if name in stored and name in again:
                found += differences(stored[name], again[name], tolerance, where)
            else:
                here, there = ("there" if name in side else "missing" for side in (stored, again))
                found.append((where, here, there))
        return found
    if _is_number(stored) and _is_number(again):
        # Counting errors are in heads: their tolerance is relative. Written so that NaN is not within it.
        same = stored == again or abs(stored - again) <= tolerance * max(1.0, abs(again))
    else:
        same = type(stored) is type(again) and stored == again
    return [] if same else [(key, json.dumps(stored), json.dumps(again))]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def generated_frames(data: str, preset: str) -> list[Frame]:
    """The test split of generated data with the annotations that the code makes; there are no images behind them."""
    from crowdloc.datasets.synthcrowd.annotate import scene_annotations
    from crowdloc.datasets.synthcrowd.building import build_scene
    from crowdloc.datasets.synthcrowd.settings import DOMAINS

    name, size = SOURCES[data].options["domain"], "paper" if preset.startswith("paper") else "mini"
    domain, frames = DOMAINS[name], []
    for index in range(domain.videos["test"]):
        scene, video = build_scene(name, "test", index), f"{name}-test-{domain.scene_name(index)}"
        for number in range(domain.frames["test"]):
            found, id = scene_annotations(scene, number, size), f"{video}/{number:03d}"
            frames.append(Frame(id, video, Path(id), found.points / UNIT, found.boxes / UNIT))
    return frames


def generated_truth(experiment: Experiment) -> Truth:
    """The heads of `generated_frames`, as a stored file has them."""
    frames = generated_frames(experiment.data, experiment.preset)
    points = [np.asarray(frame.points, dtype=np.float64).reshape(-1, 2) for frame in frames]
    return Truth([frame.id for frame in frames], [frame.scene for frame in frames], points)


def compare_truth(path: Path, generated: Truth) -> None:
    """CrowdlocError that names the first image whose stored heads are not those that the code generates."""
    stored = read_truth(path)
    same_images(path, stored.images, generated.images)
    rows = zip(stored.images, stored.scenes, generated.scenes, stored.points, generated.points, strict=True)
    for image, scene, its_scene, heads, its_heads in rows:
        if scene != its_scene:
            raise CrowdlocError(f"{path}: image {image} is of scene {scene!r}, the code says {its_scene!r}: {_RESTORE}")
        if len(heads) != len(its_heads):
            raise CrowdlocError(
                f"{path}: image {image} has {len(heads)} heads, this code generates {len(its_heads)}: restore it, or"
                " run all experiments of the group again if SynthCrowd has changed"
            )
        if (heads != its_heads).any():
            row = int((heads != its_heads).any(axis=1).argmax())
            raise CrowdlocError(
                f"{path}: head {row} of image {image} is at {heads[row].tolist()}, this code generates"
                f" {its_heads[row].tolist()}: {_RESTORE}"
            )

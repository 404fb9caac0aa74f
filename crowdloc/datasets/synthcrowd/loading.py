"""Generated scenes as a sequence of clips."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.datasets.synthcrowd.geometry import UNIT
from crowdloc.datasets.synthcrowd.manifest import expected_hash
from crowdloc.datasets.synthcrowd.production import generate
from crowdloc.datasets.synthcrowd.settings import DOMAINS
from crowdloc.datasets.synthcrowd.store import check_images, default_root, read_annotations, split_folder


def load_synthcrowd(
    root: str | os.PathLike[str] | None,
    split: str = "test",
    *,
    domain: str = "sense",
    preset: str = "mini",
    num_frames: int = 3,
    frame_step: int = 1,
) -> ClipDataset:
    """A split of SynthCrowd as clips; with `root=None` it is generated below `build/` when first used.

    Splits train, val, test, and dev (on which difficulty was set); domains sense, fdst, sha, shb; presets mini
    (288 x 512) and paper (1080 x 1920). Points and boxes are float64 multiples of 1/64 px; annotations are compared
    with the manifest, images with what was written. Raises CrowdlocError for unknown names and for missing, damaged or
    outdated scenes.
    """
    folder = split_folder(Path(root) if root is not None else default_root(), preset, domain, split)
    if root is None:
        generate(default_root(), preset=preset, domains=(domain,), splits=(split,))
    frames = []
    for index in range(DOMAINS[domain].videos[split]):
        name = DOMAINS[domain].scene_name(index)
        if not (folder / name).is_dir():
            raise CrowdlocError(f"scene {folder / name} is missing: generate the split first, or leave root away")
        content = read_annotations(folder / name, expected_hash(preset, domain, split, index))
        if root is not None:  # otherwise `generate` has compared them
            check_images(folder / name, DOMAINS[domain].frames[split])
        scene = f"{domain}-{split}-{name}"
        for number, frame in enumerate(content["frames"]):
            points, boxes = (np.array(frame[key], dtype=np.float64) / UNIT for key in ("points", "boxes"))
            path = folder / name / f"{number:03d}.jpg"
            frames.append(Frame(f"{scene}/{number:03d}", scene, path, points, boxes, np.array(frame["track_ids"])))
    return ClipDataset(frames, name=f"synthcrowd-{domain}", num_frames=num_frames, frame_step=frame_step)

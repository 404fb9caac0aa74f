"""Write the stored manifest anew, or compare generated scenes with it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write
from crowdloc.datasets.images import read_image
from crowdloc.datasets.synthcrowd.annotate import annotation_text
from crowdloc.datasets.synthcrowd.building import build_scene
from crowdloc.datasets.synthcrowd.manifest import MANIFEST, annotation_hash, read_manifest
from crowdloc.datasets.synthcrowd.production import generate
from crowdloc.datasets.synthcrowd.settings import DIFFICULTY, DOMAINS, PRESETS, SPLIT_SEEDS, SYNTHCROWD_VERSION
from crowdloc.datasets.synthcrowd.store import split_folder

TOLERANCE = 2  # grey levels by which coarse means may differ between OpenCV versions and processors
_GRID = (3, 2)  # columns, rows of the coarse means


def coarse_means(folder: Path) -> list[int]:
    """Mean grey level of six fields, over all frames of a scene folder."""
    means = [cv2.resize(read_image(path), _GRID, interpolation=cv2.INTER_AREA) for path in sorted(folder.glob("*.jpg"))]
    return [round(float(level)) for level in np.mean(means, axis=(0, 3)).ravel()]


def write_manifest(root: Path) -> None:
    """Describe the mini scenes generated below `root`, and the annotations of the other presets, in the manifest.

    Scenes that are missing are generated first (minutes).
    """
    read_manifest.cache_clear()
    generate(root, domains=tuple(DOMAINS), splits=tuple(SPLIT_SEEDS))
    lines = []
    for preset in PRESETS:
        blocks = []
        for domain, kind in DOMAINS.items():
            parts = []
            for split in SPLIT_SEEDS:
                rows = []
                for index in range(kind.videos[split]):
                    row: list[object] = [annotation_hash(annotation_text(build_scene(domain, split, index), preset))]
                    if preset == "mini":
                        row.append(coarse_means(split_folder(root, preset, domain, split) / kind.scene_name(index)))
                    rows.append(json.dumps(row, separators=(",", ":")))
                parts.append(f'"{split}":[\n' + ",\n".join(rows) + "]")
            blocks.append(f'"{domain}":{{' + ",\n".join(parts) + "}")
        lines.append(f'"{preset}":{{' + ",\n".join(blocks) + "}")
    head = f'{{"version":{SYNTHCROWD_VERSION},"difficulty":"{DIFFICULTY.fingerprint()}","scenes":{{\n'
    with atomic_write(MANIFEST) as path:
        path.write_text(head + ",\n".join(lines) + "}}\n")
    read_manifest.cache_clear()


def verify_manifest(
    root: Path,
    *,
    preset: str = "mini",
    domains: Sequence[str] = tuple(DOMAINS),
    splits: Sequence[str] = ("train", "val", "test"),
) -> int:
    """Compare generated scenes with the manifest; returns how many were compared (absent splits are left out).

    Raises CrowdlocError where annotations differ in a single byte or a scene is incomplete; warns where coarse means
    differ by more than TOLERANCE levels.
    """
    manifest, compared = read_manifest(), 0
    if manifest is None:
        raise CrowdlocError(f"{MANIFEST} is missing or of another version: run python -m {__package__} manifest")
    for domain in domains:
        for split in splits:
            folder = split_folder(root, preset, domain, split)
            for index, (expected, *means) in enumerate(
                manifest["scenes"][preset][domain][split] if folder.is_dir() else ()
            ):
                scene = folder / DOMAINS[domain].scene_name(index)
                try:
                    found = annotation_hash((scene / "annotations.json").read_text())
                except OSError as error:
                    raise CrowdlocError(f"scene {scene} cannot be read ({error.strerror}): generate it again") from None
                if found != expected:
                    raise CrowdlocError(
                        f"scene {scene} differs from the manifest: delete the folder and generate it again"
                    )
                if means:
                    gap = max(abs(a - b) for a, b in zip(coarse_means(scene), means[0], strict=True))
                    if gap > TOLERANCE:
                        warnings.warn(f"scene {scene}: pixels differ from the manifest by {gap} levels", stacklevel=2)
                compared += 1
    return compared

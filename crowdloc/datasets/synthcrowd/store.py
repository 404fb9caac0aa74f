"""Scenes on the disk: `<root>/<preset>/v<version>/<domain>/<split>/<scene>/{000.jpg, …, annotations.json}`."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.synthcrowd.annotate import annotation_text
from crowdloc.datasets.synthcrowd.manifest import annotation_hash
from crowdloc.datasets.synthcrowd.render import render_jpeg
from crowdloc.datasets.synthcrowd.scene import Scene
from crowdloc.datasets.synthcrowd.settings import DIFFICULTY, DOMAINS, PRESETS, SPLIT_SEEDS, SYNTHCROWD_VERSION

ANNOTATIONS = "annotations.json"
REMEDY = "delete the folder and generate it again"


def default_root() -> Path:
    """Where generated data live when no root is given."""
    return paths.BUILD / "data" / "synthcrowd"


def _choose(option: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise CrowdlocError(f"synthcrowd {option} {value!r} is unknown: choose {', '.join(choices)}")


def split_folder(root: Path, preset: str, domain: str, split: str) -> Path:
    """Folder of a split; unknown names raise CrowdlocError."""
    _choose("preset", preset, PRESETS)
    _choose("domain", domain, DOMAINS)
    _choose("split", split, SPLIT_SEEDS)
    return root / preset / f"v{SYNTHCROWD_VERSION}" / domain / split


def read_annotations(folder: Path, expected: str | None = None) -> dict[str, Any]:
    """The stored annotations of a scene folder; CrowdlocError names a file that is damaged, of another difficulty, or
    has another hash than `expected`."""
    path = folder / ANNOTATIONS
    try:
        text = path.read_text()
        content = json.loads(text)
    except OSError as error:
        raise CrowdlocError(f"annotation {path} cannot be read ({error.strerror}): {REMEDY}") from None
    except ValueError as error:
        raise CrowdlocError(f"annotation {path} is no JSON ({error}): {REMEDY}") from None
    try:
        difficulty = content["difficulty"]
        rows = [(len(f["points"]), len(f["boxes"]), len(f["track_ids"])) for f in content["frames"]]
        widths = {(2, len(point)) for f in content["frames"] for point in f["points"]}
        widths |= {(4, len(box)) for f in content["frames"] for box in f["boxes"]}
    except (KeyError, TypeError):
        raise CrowdlocError(f"annotation {path} lacks frames of points, boxes and track_ids: {REMEDY}") from None
    if any(len(set(row)) != 1 for row in rows) or any(wanted != found for wanted, found in widths):
        raise CrowdlocError(f"annotation {path} has points, boxes and track_ids that do not fit: {REMEDY}")
    if difficulty != DIFFICULTY.fingerprint():
        raise CrowdlocError(f"annotation {path} belongs to another difficulty: {REMEDY}")
    if expected is not None and annotation_hash(text) != expected:
        raise CrowdlocError(f"annotation {path} differs from the manifest: {REMEDY}")
    return dict(content)


def is_current(folder: Path, frames: int, expected: str | None) -> bool:
    """Whether a scene folder is complete and what this code would write, as far as hash and names show."""
    try:
        content = read_annotations(folder, expected)
    except CrowdlocError:
        return False
    return len(content["frames"]) == frames and all((folder / f"{n:03d}.jpg").is_file() for n in range(frames))


def write_scene(folder: Path, scene: Scene, preset: str) -> None:
    """Render a scene into a temporary folder beside `folder`, then put it in place in one step."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for number in range(DOMAINS[scene.domain].frames[scene.split]):
            (part / f"{number:03d}.jpg").write_bytes(render_jpeg(scene, number, preset))
        with (part / ANNOTATIONS).open("w") as file:
            file.write(annotation_text(scene, preset))
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # then another process was faster with the same scene
            remedy = "free some space or choose another folder"
            raise CrowdlocError(f"{folder} cannot be written ({error.strerror}): {remedy}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)

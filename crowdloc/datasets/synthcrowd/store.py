"""Scenes on the disk: `<root>/<preset>/v<version>/<domain>/<split>/<scene>/`.

In it lie 000.jpg, …, `annotations.json` and `images.json`. The last holds size and hash of every image; they are no
part of the manifest, since pixels may differ a little between OpenCV versions, but tell what was changed, cut or
emptied after it was made.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import read_json
from crowdloc.datasets.images import read_bytes
from crowdloc.datasets.synthcrowd.annotate import annotation_text
from crowdloc.datasets.synthcrowd.manifest import annotation_hash
from crowdloc.datasets.synthcrowd.render import render_jpeg
from crowdloc.datasets.synthcrowd.scene import Scene
from crowdloc.datasets.synthcrowd.settings import DIFFICULTY, DOMAINS, GENERATION, PRESETS, SPLIT_SEEDS

ANNOTATIONS, IMAGES = "annotations.json", "images.json"
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
    return root / preset / f"v{GENERATION}" / domain / split


def read_annotations(folder: Path, expected: str | None = None) -> dict[str, Any]:
    """The stored annotations of a scene folder; CrowdlocError names a file that is damaged, of another difficulty, or
    has another hash than `expected`."""
    path = folder / ANNOTATIONS
    try:
        text = path.read_text()
        content = json.loads(text)
    except OSError as error:
        raise CrowdlocError(f"annotation {path} cannot be read ({error.strerror}): {REMEDY}") from None
    except (ValueError, RecursionError) as error:
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


def check_images(folder: Path, frames: int) -> None:
    """Compare the images of a scene folder with what was written; CrowdlocError names the first that differs."""
    try:
        record = read_json(folder / IMAGES)
    except CrowdlocError as error:
        raise CrowdlocError(f"{str(error).rpartition(': ')[0]}: {REMEDY}") from None
    for name in (f"{number:03d}.jpg" for number in range(frames)):
        if record.get(name) != _fingerprint(read_bytes(folder / name)):
            raise CrowdlocError(f"image {folder / name} is not what was generated: {REMEDY}")


def _fingerprint(data: bytes) -> list[int | str]:
    return [len(data), hashlib.blake2b(data, digest_size=16).hexdigest()]


def is_current(folder: Path, frames: int, expected: str | None) -> bool:
    """Whether a scene folder is complete, of this code's annotations, and its images are as they were written."""
    try:
        content = read_annotations(folder, expected)
        check_images(folder, frames)
    except CrowdlocError:
        return False
    return len(content["frames"]) == frames


def write_scene(folder: Path, scene: Scene, preset: str) -> None:
    """Render a scene into a temporary folder beside `folder`, sync it, then put it in place in one step."""
    part, old = (folder.with_name(f".{folder.name}.{os.getpid()}{end}.part") for end in ("", ".old"))
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        record = {}
        for number in range(DOMAINS[scene.domain].frames[scene.split]):
            name, data = f"{number:03d}.jpg", render_jpeg(scene, number, preset)
            _write(part / name, data)
            record[name] = _fingerprint(data)
        _write(part / ANNOTATIONS, annotation_text(scene, preset).encode())
        _write(part / IMAGES, json.dumps(record, indent=1).encode())
        if folder.exists():
            os.replace(folder, old)
        os.replace(part, folder)
        with contextlib.suppress(OSError):  # some file systems cannot sync a folder
            _sync(folder.parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # then another process was faster with the same scene
            remedy = "free some space or choose another folder"
            raise CrowdlocError(f"{folder} cannot be written ({error.strerror}): {remedy}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""One's own images or frames with head points: a folder with `points.csv` or `points.json` in it.

    FOLDER/
      points.csv            frame,x,y and, if wanted, split (train, val, test)
      entrance/0001.jpg     frames of one video (one camera) lie in one folder, in the order of their numbers
      entrance/0002.jpg

`points.csv` has a header and one line per head; `frame` is the image's path below FOLDER, with `/`. A frame without
heads has one line with x and y empty. Further columns (such as the score that `crowdloc locate` writes) are ignored.
`points.json` is an object: `{"entrance/0001.jpg": [[x, y], …], "entrance/0002.jpg": []}`; instead of the list it may
hold `{"points": [[x, y], …], "split": "test"}`.

Points are (x, y), x to the right, y down, in pixels of the image as viewers show it (the camera's EXIF orientation
applied), the centre of the first pixel being (0, 0). Images that the file does not name are left alone: they are not
"without heads". Neighbours in time are the frames before and after among those that are named.

Without a split column the first three fifths of every video are train, the next fifth val, the last one test, so that
the test begins where training has not been; a video of fewer than five frames is train.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from crowdloc.core.errors import CrowdlocError, printable
from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.datasets.files import choose, natural, read_text
from crowdloc.datasets.photos import photo_size, read_photo
from crowdloc.datasets.reading import SPLITS

CSV, JSON = "points.csv", "points.json"
_PARTS = ("train", "val", "test")
_OF_SPLIT = {part: (part,) for part in _PARTS} | {"trainval": _PARTS[:2], "all": _PARTS}
_EDGE = 2.0  # pixels that a point may lie outside its image: a hand that slipped; it is moved to the border
_FIFTHS = 5


class Upright(Frame):
    """A frame whose points are in pixels of the upright image."""

    def image(self) -> np.ndarray:
        """Decode the image, its EXIF orientation applied: (h, w, 3) uint8 RGB."""
        return read_photo(self.path)


@dataclass(frozen=True)
class _Entry:
    """What the annotation says of one frame; `where` it says so, for errors."""

    points: list[tuple[float, float]]
    split: str
    where: list[str]


def load_own(folder: str | os.PathLike[str], split: str = "all", *, photos: bool = False) -> ClipDataset:
    """A split of a folder of one's own, as described above; frames are upright.

    Args:
        split: train, val, trainval, test or all.
        photos: the images have nothing to do with each other: each is a scene of its own, sizes may differ, and without
            a split column the whole set is divided like one video.

    Raises:
        CrowdlocError: the annotation is missing, is not as described, names images that are absent or points outside
            them; frames of one video differ in size; or the split is empty. The message names file and line.
    """
    choose("split", split, SPLITS)
    root = Path(folder)
    entries = _read(root)
    names = sorted(entries, key=lambda name: [natural(Path(part)) for part in PurePosixPath(name).parts])
    frames = [_frame(root, name, entries[name], photos) for name in names]
    if not photos:
        _check_sizes(frames)
    wanted = _OF_SPLIT[split]
    pool = ClipDataset(frames, name=printable(root.resolve().name))
    keys = [key for key, s in enumerate(_splits(frames, [entries[n].split for n in names], photos)) if s in wanted]
    if not keys:
        raise CrowdlocError(
            f"{root}: its split '{split}' holds no frame ({len(frames)} are annotated): annotate at least "
            f"{_FIFTHS} frames of a video, or give {CSV} a column split"
        )
    return pool.subset_of_keys(keys)


def describe(dataset: ClipDataset) -> dict[str, Any]:
    """Name, images and heads of a data set of one's own, and a digest of its annotation and images' sizes."""
    whole = dataset.whole().frames
    hasher = hashlib.sha256()
    for frame in whole:
        hasher.update(f"{frame.id}\0{frame.path.stat().st_size}\0".encode() + frame.points.tobytes())
    heads = sum(len(frame.points) for frame in dataset.frames)
    return {"name": dataset.name, "images": len(dataset), "heads": heads, "digest": hasher.hexdigest()[:16]}


def _read(root: Path) -> dict[str, _Entry]:
    if not root.is_dir():
        raise CrowdlocError(f"{root} is no folder: give the one that holds your images and {CSV} or {JSON}")
    found = [root / name for name in (CSV, JSON) if (root / name).is_file()]
    if len(found) != 1:
        what = f"both {CSV} and {JSON}: keep one" if found else f"neither {CSV} nor {JSON}: write one (see the README)"
        raise CrowdlocError(f"{root} holds {what}")
    path = found[0]
    entries = _read_csv(path) if path.name == CSV else _read_json(path)
    if not entries:
        raise CrowdlocError(f"{path} names no frame: add your points")
    absent = [name for name in entries if not (root / name).is_file()]
    if absent:
        place = entries[absent[0]].where[0]
        raise CrowdlocError(
            f"{path}, {place}: image {absent[0]!r} is not in {root} ({len(absent)} of {len(entries)} are absent): "
            "frames are paths below that folder"
        )
    return entries


def _read_csv(path: Path) -> dict[str, _Entry]:
    reader = csv.DictReader(io.StringIO(read_text(path)), skipinitialspace=True)
    header = [str(name).strip().lower() for name in reader.fieldnames or []]
    if not {"frame", "x", "y"} <= set(header):
        raise CrowdlocError(f"{path}: its first line is {','.join(header)[:80]!r}, not frame,x,y: give it this header")
    reader.fieldnames = header
    entries: dict[str, _Entry] = {}
    try:
        for row in reader:
            where = f"line {reader.line_num}"
            name, x, y = ((row[column] or "").strip() for column in ("frame", "x", "y"))
            entry = _entry(entries, path, where, name, (row.get("split") or "").strip())
            if x or y:
                entry.points.append(_point(path, where, (x, y)))
                entry.where.append(where)
    except csv.Error as error:
        raise CrowdlocError(f"{path}, line {reader.line_num}: {error}: correct it") from None
    return entries


def _read_json(path: Path) -> dict[str, _Entry]:
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise CrowdlocError(f"{path} is not valid JSON (line {line}): correct it") from None
    if not isinstance(content, Mapping):
        raise CrowdlocError(f"{path} holds no JSON object: write {{frame: [[x, y], …], …}}")
    entries: dict[str, _Entry] = {}
    for name, value in content.items():
        where = f"frame {name!r}"
        points, split = (value.get("points"), value.get("split", "")) if isinstance(value, Mapping) else (value, "")
        entry = _entry(entries, path, where, name, split)
        if not isinstance(points, Sequence) or isinstance(points, str):
            raise CrowdlocError(f"{path}, {where}: its points are no list: write [[x, y], …], or [] without heads")
        for number, point in enumerate(points, start=1):
            place = f"{where}, point {number}"
            entry.points.append(_point(path, place, point))
            entry.where.append(place)
    return entries


def _entry(entries: dict[str, _Entry], path: Path, where: str, name: str, split: object) -> _Entry:
    """The entry of a frame, which all its lines share."""
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts:
        raise CrowdlocError(f"{path}, {where}: frame {name!r} is no path below the folder: correct it")
    if split not in ("", *_PARTS):
        raise CrowdlocError(f"{path}, {where}: split {split!r}: choose train, val or test")
    entry = entries.setdefault(str(pure), _Entry([], str(split), [where]))
    if entry.split != split:
        raise CrowdlocError(f"{path}, {where}: {name} is in split {entry.split!r} above: give all its lines the same")
    return entry


def _point(path: Path, where: str, values: Any) -> tuple[float, float]:
    try:
        x, y = (float(value) for value in values)
        if not np.isfinite([x, y]).all():
            raise ValueError
    except (TypeError, ValueError):
        raise CrowdlocError(f"{path}, {where}: {printable(str(values))[:60]} is no point x, y: correct it") from None
    return x, y


def _frame(root: Path, name: str, entry: _Entry, photos: bool) -> Frame:
    path = root / name
    width, height = photo_size(path)
    points = np.array(entry.points, dtype=np.float64).reshape(-1, 2)
    limit = np.array([width, height]) - 0.5
    bad = np.flatnonzero(((points < -0.5 - _EDGE) | (points >= limit + _EDGE)).any(axis=1))
    if bad.size:
        x, y = points[bad[0]]
        hint = "are x and y exchanged?" if x < height and y < width else "is it of an image scaled to another size?"
        raise CrowdlocError(
            f"{path}, {entry.where[1 + bad[0]]}: point ({x:g}, {y:g}) lies outside its {width}×{height} pixels: {hint}"
        )
    if len(points) > 2 and (points <= 1).all() and min(width, height) > 32:
        raise CrowdlocError(f"{path}: all its points lie within one pixel: give pixels, not shares of width and height")
    points = np.where((points < -0.5) | (points >= limit), np.clip(points, 0, np.array([width, height]) - 1), points)
    scene = name if photos else str(PurePosixPath(name).parent)
    return Upright(id=printable(name), scene=printable(scene), path=path, points=points)


def _check_sizes(frames: Iterable[Frame]) -> None:
    sizes: dict[str, tuple[tuple[int, int], Frame]] = {}
    for frame in frames:
        size = photo_size(frame.path)
        other, first = sizes.setdefault(frame.scene, (size, frame))
        if size != other:
            raise CrowdlocError(
                f"{frame.path} has {size[0]}×{size[1]} pixels, {first.path} {other[0]}×{other[1]}: give every video a "
                "folder of its own, or say that the images are photos (--photos)"
            )


def _splits(frames: Sequence[Frame], noted: Sequence[str], photos: bool) -> list[str]:
    """The split of every frame: as noted, else by fifths of its video."""
    if any(noted):
        if not all(noted):
            frame = frames[noted.index("")]
            raise CrowdlocError(f"{frame.path}: its split is empty, others have one: give all frames one, or none")
        return list(noted)
    videos: dict[str, list[int]] = {}
    for place, frame in enumerate(frames):
        videos.setdefault("" if photos else frame.scene, []).append(place)
    result = ["train"] * len(frames)
    for places in videos.values():
        part = len(places) // _FIFTHS
        for name, some in (("val", places[-2 * part : -part]), ("test", places[-part:])) if part else ():
            for place in some:
                result[place] = name
    return result

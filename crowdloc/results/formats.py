"""The files of evidence: how points, matches and counts of images are stored, and what a sound file may hold.

- `truth/<data>-<preset>-test.parquet`, generated data, once per split: image, scene, x and y of the heads in 1/64 px.
- `predictions.parquet`, generated data: image, x and y of the detections in 1/64 px, scores in 1/65535, falling.
- `matches.parquet`, real data, which must not be passed on: image, scene, number of heads, and of the detections the
  scores and the match flags. Bit 10 i + j of a detection's flags says whether it is matched at σ number i and threshold
  number j. There is no coordinate.
- `counts.csv`, methods that count without locating: image, scene, heads, count.

The Parquet files have one row per image. Scores are whole numbers where they are multiples of 1/65535, as all are that
`evidence.quantise` has seen; older results hold floats. The type of the column decides.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write
from crowdloc.metrics import SIGMAS, THRESHOLDS
from crowdloc.results.parquet import RESTORE, read_rows, write_rows

UNIT = 64  # coordinates are whole multiples of 1/64 px
LEVELS = 65535  # scores are whole multiples of 1/65535
_BITS = np.arange(len(SIGMAS) * len(THRESHOLDS), dtype=np.int32)[:, None]

_COUNTS = ["image", "scene", "heads", "count"]

Floats = list[NDArray[np.float64]]


class Truth(NamedTuple):
    """Images of a split of generated data, in their order, with scene and heads (m, 2)."""

    images: list[str]
    scenes: list[str]
    points: Floats


class Located(NamedTuple):
    """Images with the points (n, 2) and falling scores (n,) of their detections."""

    images: list[str]
    points: Floats
    scores: Floats


class Matched(NamedTuple):
    """Images with scene and number of heads, and falling scores (n,) and flags (σ, thresholds, n) of detections."""

    images: list[str]
    scenes: list[str]
    heads: NDArray[np.int64]
    scores: Floats
    flags: list[NDArray[np.bool_]]


class Counted(NamedTuple):
    """Images with scene, number of heads and count."""

    images: list[str]
    scenes: list[str]
    heads: NDArray[np.int64]
    counts: NDArray[np.float64]


def write_truth(path: Path, truth: Truth) -> None:
    """CrowdlocError where a head is no multiple of 1/64 px: then it was not generated and must not be stored."""
    if not all((points * UNIT == np.round(points * UNIT)).all() for points in truth.points):
        raise CrowdlocError(f"{path}: heads are no multiples of 1/{UNIT} px: only those of generated data are stored")
    write_rows(path, {"image": truth.images, "scene": truth.scenes, **_units(truth.points)})


def read_truth(path: Path) -> Truth:
    """What `write_truth` wrote; CrowdlocError where the file is damaged."""
    rows = read_rows(path, {"image": "text", "scene": "text", "x": "lists of whole", "y": "lists of whole"})
    _no_image_twice(path, rows["image"])
    return Truth(rows["image"], rows["scene"], _points(path, rows))


def write_predictions(path: Path, found: Located) -> None:
    """Points in 1/64 px, to which they are rounded."""
    write_rows(path, {"image": found.images, **_units(found.points), "score": _packed(found.scores, np.float32)})


def read_predictions(path: Path) -> Located:
    """What `write_predictions` wrote; CrowdlocError where the file is damaged."""
    kinds = {"image": "text", "x": "lists of whole", "y": "lists of whole", "score": "lists of number"}
    rows = read_rows(path, kinds)
    points, scores = _points(path, rows), _scores(path, rows["image"], rows["score"])
    if [len(p) for p in points] != [len(s) for s in scores]:
        raise CrowdlocError(f"{path}: there are not as many scores as points: {RESTORE}")
    return Located(rows["image"], points, scores)


def write_matches(path: Path, found: Matched) -> None:
    """No coordinates, only scores and flags."""
    flags = [(image.reshape(len(_BITS), -1).astype(np.int32) << _BITS).sum(axis=0) for image in found.flags]
    columns: dict[str, Any] = {"image": found.images, "scene": found.scenes, "heads": found.heads}
    columns |= {"score": _packed(found.scores, np.float64), "flags": [bits.astype(np.int32) for bits in flags]}
    write_rows(path, columns, repeated=("flags",))


def read_matches(path: Path) -> Matched:
    """What `write_matches` wrote; CrowdlocError where the file is damaged or no matching has such flags."""
    kinds = {"image": "text", "scene": "text", "heads": "whole", "score": "lists of number", "flags": "lists of whole"}
    rows = read_rows(path, kinds)
    images, heads = rows["image"], rows["heads"]
    _no_image_twice(path, images)
    scores = _scores(path, images, rows["score"])
    flags = [((bits >> _BITS) & 1).astype(bool) for bits in rows["flags"]]
    for name, number, score, image, bits in zip(images, heads, scores, flags, rows["flags"], strict=True):
        if len(bits) != len(score) or (bits >> len(_BITS)).any() or image.sum(axis=1).max(initial=0) > number:
            raise CrowdlocError(f"{path}: flags, scores and heads of image {name} do not fit: {RESTORE}")
    shape = len(SIGMAS), len(THRESHOLDS), -1
    return Matched(images, rows["scene"], heads, scores, [image.reshape(shape) for image in flags])


def write_counts(path: Path, found: Counted) -> None:
    """Counts with all digits of a float64."""
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COUNTS)
        writer.writerows(zip(found.images, found.scenes, found.heads.tolist(), found.counts.tolist(), strict=True))


def read_counts(path: Path) -> Counted:
    """What `write_counts` wrote; CrowdlocError where the file is damaged."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file, strict=True)
        if head != _COUNTS:
            raise ValueError(f"columns {', '.join(head)}")
        images, scenes, heads, counts = (list(column) for column in zip(*rows, strict=True))
        found = Counted(images, scenes, np.array(heads, dtype=np.int64), np.array(counts, dtype=np.float64))
        if not np.isfinite(found.counts).all() or (found.heads < 0).any():
            raise ValueError("a count that is not finite, or fewer than 0 heads")
    except (OSError, ValueError, csv.Error, OverflowError) as error:
        raise CrowdlocError(f"{path} cannot be read ({error}): {RESTORE}") from None
    _no_image_twice(path, images)
    return found


def same_images(path: Path, images: list[str], wanted: list[str]) -> None:
    """CrowdlocError that names the first image of a file which is not the one that its split has there."""
    if images == wanted:
        return
    if len(images) != len(wanted):
        raise CrowdlocError(f"{path} holds {len(images)} images, its split {len(wanted)}: {RESTORE}")
    found, name = next((a, b) for a, b in zip(images, wanted, strict=True) if a != b)
    raise CrowdlocError(f"{path} holds image {found!r} where its split has {name!r}: {RESTORE}")


def _no_image_twice(path: Path, images: list[str]) -> None:
    if len(set(images)) != len(images):
        raise CrowdlocError(f"{path} holds an image twice: {RESTORE}")


def _units(points: Floats) -> dict[str, list[NDArray[Any]]]:
    whole = [np.round(p * UNIT).astype(np.int64) for p in points]
    flat = np.concatenate([np.zeros((1, 2), dtype=np.int64), *whole])
    kind = np.uint16 if flat.min() >= 0 and flat.max() < 2**16 else np.int32
    return {name: [p[:, axis].astype(kind) for p in whole] for axis, name in enumerate("xy")}


def _points(path: Path, rows: dict[str, Any]) -> Floats:
    if [len(x) for x in rows["x"]] != [len(y) for y in rows["y"]]:
        raise CrowdlocError(f"{path}: there are not as many x as y: {RESTORE}")
    return [np.stack([x, y], axis=1) / UNIT for x, y in zip(rows["x"], rows["y"], strict=True)]


def _packed(scores: Floats, otherwise: type[np.floating]) -> list[NDArray[Any]]:
    levels = [np.round(s * LEVELS) for s in scores]
    if all((level / LEVELS == s).all() for level, s in zip(levels, scores, strict=True)):
        return [level.astype(np.uint16) for level in levels]
    return [s.astype(otherwise) for s in scores]


def _scores(path: Path, images: list[str], stored: Sequence[NDArray[Any]]) -> Floats:
    scores = [s / LEVELS if s.dtype.kind in "iu" else s.astype(np.float64) for s in stored]
    for name, image in zip(images, scores, strict=True):
        if not ((image >= 0) & (image <= 1)).all() or (image[1:] > image[:-1]).any():
            raise CrowdlocError(f"{path}: scores of image {name} do not fall from at most 1 to at least 0: {RESTORE}")
    return scores

"""Frames of one's own footage, one after the other: an image, a folder of images, a video or a camera."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError, CrowdlocWarning, printable
from crowdloc.datasets.files import entries
from crowdloc.datasets.photos import IMAGES, photo_size, read_photo
from crowdloc.inference.limits import check_size

# Containers that note how many frames they hold; of others OpenCV estimates it from length and rate.
_EXACT = (".avi", ".mp4", ".mov", ".m4v")
_ESTIMATE = 2  # frames by which an estimate may be wrong
_REMEDY = "convert it, for example with ffmpeg to H.264 in .mp4"


class Shot(NamedTuple):
    """One frame: file name, or number from 0; seconds since the beginning, None where nothing tells; (h, w, 3) RGB."""

    frame: str | int
    time: float | None
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """Where frames come from.

    Attributes:
        kind: "image", "folder", "video" or "camera".
        name: for people.
        total: how many frames it promises; None: nobody knows.
        rate: frames per second; None: nothing tells.
        photos: its images have nothing to do with each other, so each is its own neighbour.
        identity: what tells it from other sources; None for a camera, which never repeats itself.
        shots: reads it, from the first frame; may be called again unless it is a camera.
    """

    kind: str
    name: str
    total: int | None
    rate: float | None
    photos: bool
    identity: dict[str, Any] | None
    shots: Callable[[], Iterator[Shot]]


def open_source(
    source: str | os.PathLike[str] | int, *, every: int = 1, fps: float | None = None, photos: bool = False
) -> Source:
    """An image, a folder of images (in the order of their numbers), a video, or a camera by its number.

    Args:
        every: take the first of each `every` frames; numbers and times stay those of the source.
        fps: frames per second of a folder, which has no times else.
        photos: the images of a folder are no video.

    What can be known is checked at once. EXIF orientation is applied. An unreadable image of a folder is left out with
    a `CrowdlocWarning`; so is the end of a video that is cut off. Of a file with several images, the first counts; GIF
    is read as a video.

    Raises:
        CrowdlocError: there is no such source, it holds nothing readable, or an option does not fit it.
    """
    if every < 1:
        raise CrowdlocError(f"every={every}: give a whole number of at least 1")
    if fps is not None and not fps > 0:
        raise CrowdlocError(f"fps={fps}: give a positive number")
    path = Path(source) if not isinstance(source, int) else Path(str(source))
    camera = re.fullmatch(r"\d+", str(source)) is not None and not path.exists()
    if (fps is not None or photos) and not path.is_dir():
        raise CrowdlocError(f"{'photos' if photos else 'fps'} is for a folder of images, which {source} is not")
    if camera:
        return _camera(int(source), every)  # type: ignore[arg-type]
    if path.is_dir():
        return _folder(path, every, fps, photos)
    if not path.is_file():
        raise CrowdlocError(f"{path} not found: give an image, a folder of images, a video or the number of a camera")
    if path.suffix.lower() in IMAGES:
        _check_photo(path)
        found = [path]
        return Source("image", str(path), 1, None, True, _identity(found), lambda: _read_images(found, None, 1))
    return _video(path, every)


def _folder(path: Path, every: int, fps: float | None, photos: bool) -> Source:
    if photos and fps is not None:
        raise CrowdlocError("photos have no fps: leave one of them away")
    files = [p for p in entries(path, "*") if p.suffix.lower() in IMAGES and p.is_file()]
    if not files:
        raise CrowdlocError(f"{path} holds no image ({', '.join(IMAGES)}): give another folder")
    total = -(-len(files) // every)
    return Source(
        "folder", str(path), total, fps, photos, _identity(files), lambda: _read_images(files[::every], fps, every)
    )


def _identity(files: list[Path]) -> dict[str, Any]:
    """Names, sizes and times of change, in short."""
    import hashlib

    hasher = hashlib.sha256()
    for path in files:
        facts = path.stat()
        hasher.update(os.fsencode(path.name) + f"\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    where = files[0] if len(files) == 1 else files[0].parent
    return {"path": printable(str(where.absolute())), "files": len(files), "digest": hasher.hexdigest()[:16]}


def _check_photo(path: Path) -> None:
    """Refuse what is too large before it is decoded."""
    _check_size(path, *photo_size(path))


def _check_size(path: Path, width: int, height: int) -> None:
    try:
        check_size(height, width)
    except CrowdlocError as error:
        raise CrowdlocError(f"{path}: {error}") from None


def _read_images(files: list[Path], fps: float | None, every: int) -> Iterator[Shot]:
    """The readable ones; a folder of which none is readable is an error, as is a single unreadable image."""
    found, lost = 0, None
    for number, path in enumerate(files):
        try:
            _check_photo(path)
            image = read_photo(path)
        except CrowdlocError as error:
            lost = error
            if len(files) > 1:
                warnings.warn(f"{error}; it is left out", CrowdlocWarning, stacklevel=2)
            continue
        found += 1
        yield Shot(printable(path.name), None if fps is None else number * every / fps, image)
    if not found and lost is not None:
        raise lost


def _capture(source: str | int) -> Any:
    """OpenCV's reader, silent about what it cannot do."""
    import cv2

    logging = cv2.utils.logging
    before = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(source)
    finally:
        logging.setLogLevel(before)


def _video(path: Path, every: int) -> Source:
    import cv2

    capture = _capture(str(path))
    try:
        total, rate = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), float(capture.get(cv2.CAP_PROP_FPS))
        _check_size(path, int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        if not capture.grab():
            raise CrowdlocError(f"{path} cannot be decoded as a video: {_REMEDY}")
    finally:
        capture.release()
    return Source(
        "video",
        str(path),
        -(-total // every) if total > 0 else None,
        rate if np.isfinite(rate) and rate > 0 else None,
        False,
        _identity([path]),
        lambda: _read_video(path, every),
    )


def _read_video(path: Path, every: int) -> Iterator[Shot]:
    import cv2

    capture = _capture(str(path))
    try:
        promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        number, before = 0, -1.0
        while capture.grab():
            if number % every == 0:
                seconds = float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
                if not seconds > before:  # a container without times
                    seconds = number / rate if rate > 0 else before
                read, frame = capture.retrieve()
                if not read:
                    break
                yield Shot(number, seconds if seconds >= 0 else None, np.ascontiguousarray(frame[..., ::-1]))
                before = seconds
            number += 1
    finally:
        capture.release()
    if number < promised - (0 if path.suffix.lower() in _EXACT else _ESTIMATE):
        message = f"{path} ends after {number} of {promised} frames: it is truncated or damaged"
        warnings.warn(message, CrowdlocWarning, stacklevel=2)


def _camera(number: int, every: int) -> Source:
    return Source("camera", f"camera {number}", None, None, False, None, lambda: _read_camera(number, every))


def _read_camera(number: int, every: int) -> Iterator[Shot]:
    capture = _capture(number)
    try:
        started, count = time.monotonic(), 0
        while capture.grab():
            seconds = time.monotonic() - started
            if count % every == 0:
                read, frame = capture.retrieve()
                if not read:
                    break
                yield Shot(count, seconds, np.ascontiguousarray(frame[..., ::-1]))
            count += 1
    finally:
        capture.release()
    if not count:
        raise CrowdlocError(f"camera {number} gives no picture: is it connected, and does no other program hold it?")
    warnings.warn(f"camera {number} stopped after {count} frames", CrowdlocWarning, stacklevel=2)

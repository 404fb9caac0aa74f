"""Frames with the heads that were found in them, as a film or as images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.results.recording import Located, clean

FILM, IMAGES = "annotated.mp4", "annotated"
_PART = ".annotated.part.mp4"
_CODEC = "mp4v"
_SLOW = 5.0  # frames per second of a film whose source has no rate of its own
_MARK, _RIM = (0, 224, 160), (0, 0, 0)  # RGB


def draw(image: NDArray[np.uint8], found: Located) -> NDArray[np.uint8]:
    """A copy (h, w, 3) RGB with a ring around every head, and the count in the corner."""
    import cv2

    canvas = image.copy()
    size = max(min(image.shape[:2]), 1)
    radius, width = max(3, round(size / 80)), max(1, round(size / 400))
    for x, y in found.points:
        centre = round(x), round(y)
        cv2.circle(canvas, centre, radius, _RIM, width + 2, cv2.LINE_AA)
        cv2.circle(canvas, centre, radius, _MARK, width, cv2.LINE_AA)
    _caption(canvas, f"{len(found.points)} heads" + ("" if found.time is None else f"  {clock(found.time)}"), size)
    return canvas


def _caption(canvas: NDArray[np.uint8], text: str, size: int) -> None:
    """Text on a dark ground in the upper left corner."""
    import cv2

    font, scale, weight = cv2.FONT_HERSHEY_SIMPLEX, max(0.4, size / 640), max(1, round(size / 320))
    (width, height), base = cv2.getTextSize(text, font, scale, weight)
    edge = max(2, height // 2)
    cv2.rectangle(canvas, (0, 0), (width + 2 * edge, height + base + 2 * edge), _RIM, cv2.FILLED)
    cv2.putText(canvas, text, (edge, edge + height), font, scale, _MARK, weight, cv2.LINE_AA)


def clock(seconds: float) -> str:
    """Seconds as 1:23:45.6."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


class Film:
    """A film that appears under its name when it is closed; frames of another size than the first are scaled to it.

    Args:
        rate: frames per second; None: slow enough to look at each.

    Raises:
        CrowdlocError: OpenCV lacks the codec, or the file cannot be written.
    """

    def __init__(self, folder: Path, rate: float | None) -> None:
        self._folder, self._rate = folder, rate or _SLOW
        self._writer: Any = None
        self._size = (0, 0)

    def add(self, image: NDArray[np.uint8], found: Located) -> None:
        import cv2

        picture: Any = draw(image, found)
        if self._writer is None:
            self._size = picture.shape[1] + picture.shape[1] % 2, picture.shape[0] + picture.shape[0] % 2  # even sides
            path = self._folder / _PART
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*_CODEC), self._rate, self._size)
            if not writer.isOpened():
                raise CrowdlocError(
                    f"{path} cannot be written: this OpenCV lacks the codec {_CODEC}, leave --annotate away"
                )
            self._writer = writer
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = cv2.resize(picture, self._size)
        self._writer.write(np.ascontiguousarray(picture[..., ::-1]))

    def close(self) -> None:
        """The film that was there before is replaced."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            os.replace(self._folder / _PART, self._folder / FILM)


class Album:
    """Annotated images in a folder, under the names of the originals."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / IMAGES

    def add(self, image: NDArray[np.uint8], found: Located) -> None:
        import cv2

        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{Path(clean(found.frame)).name}.jpg"
        encoded = cv2.imencode(".jpg", np.ascontiguousarray(draw(image, found)[..., ::-1]))[1]
        path.write_bytes(encoded.tobytes())

    def close(self) -> None:
        """Every image is whole already."""

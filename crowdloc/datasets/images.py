"""Decode image files, refusing those that are damaged."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np

from crowdloc.core.errors import CrowdlocError

_PNG = b"\x89PNG\r\n\x1a\n"
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF markers: they hold the size


def _jpeg_layout(data: bytes) -> tuple[int, int, int] | None:
    """Width, height and offset of the first scan of a JPEG; None where the headers are incomplete."""
    offset, size = 2, None
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        marker, length = data[offset + 1], int.from_bytes(data[offset + 2 : offset + 4], "big")
        if marker == 0xFF:  # fill byte
            offset += 1
            continue
        if marker in _FRAME_HEADERS and offset + 9 <= len(data):
            size = (
                int.from_bytes(data[offset + 7 : offset + 9], "big"),
                int.from_bytes(data[offset + 5 : offset + 7], "big"),
            )
        if marker == 0xDA:
            return (*size, offset) if size else None
        offset += 2 + length
    return None


def _is_whole(data: bytes) -> bool:
    """Whether the end of a JPEG or PNG is there: OpenCV 4 fills what is missing with grey, OpenCV 5 refuses.

    Inside a scan every 0xFF data byte is followed by 0x00 or a restart marker, so FFD9 after the first scan
    header is the end of the image, also where padding or a maker's data follows it.
    """
    if data.startswith(b"\xff\xd8"):
        layout = _jpeg_layout(data)
        return layout is not None and data.find(b"\xff\xd9", layout[2]) >= 0
    return not data.startswith(_PNG) or b"IEND\xaeB`\x82" in data


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file; CrowdlocError naming it where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CrowdlocError(f"image {path} cannot be read ({error.strerror}): restore the file") from None


def decode_image(data: bytes, name: str | PathLike[str]) -> np.ndarray:
    """Encoded image to (h, w, 3) uint8 RGB, as `read_image`; `name` is what an error calls it."""
    import cv2

    image = None
    if data and _is_whole(data):
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:  # e.g. a header that promises more pixels than OpenCV allows
            image = None
    if image is None:
        raise CrowdlocError(f"image {name} is truncated or no readable image: restore the file from its source")
    return image


def read_image(path: str | PathLike[str]) -> np.ndarray:
    """The image at `path` as (h, w, 3) uint8 RGB; grey images get three equal channels, 16 bits become 8.

    The orientation that a camera notes in EXIF is ignored: annotations refer to the stored pixels.
    Raises CrowdlocError naming the file when it is absent, truncated or no image.
    """
    return decode_image(read_bytes(Path(path)), path)


def image_size(path: str | PathLike[str]) -> tuple[int, int]:
    """Width and height of the image at `path` in pixels, from the header alone for JPEG and PNG."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(65536)
    except OSError as error:
        raise CrowdlocError(f"image {path} cannot be read ({error.strerror}): restore the file") from None
    if head.startswith(_PNG) and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    layout = _jpeg_layout(head) if head.startswith(b"\xff\xd8") else None
    if layout:
        return layout[0], layout[1]
    height, width = read_image(path).shape[:2]
    return width, height

"""Decode image files, refusing those that are cut off, no images, or too large for the memory."""

from __future__ import annotations

import io
import warnings
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.overheard import jpeg_damage

MAX_PIXELS = 178_956_970  # 0.5 GB decoded; Pillow refuses the same
_JPEG, _PNG, _PNG_END = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_FLAT = 8  # pixels


def _header(file: BinaryIO) -> tuple[tuple[int, int], int] | None:
    """Width and height, and the offset of a JPEG's first scan; None where there is no sound header of a JPEG or PNG.

    Pillow's readers are called directly: `Image.open` would warn of every image above 89 megapixels.
    """
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    kind = JpegImageFile if file.read(2) == _JPEG else PngImageFile
    file.seek(0)
    try:
        image = kind(file)
    except Exception:  # Pillow has no single exception for bytes that are no header
        return None
    return image.size, file.tell()


def _is_whole(data: bytes, scan: int | None) -> bool:
    """Whether the end of a JPEG or PNG is there: OpenCV 4 fills what is missing with grey, OpenCV 5 refuses.

    Inside a scan every 0xFF data byte is followed by 0x00 or a restart marker, so FFD9 after the first scan
    header is the end of the image, also where padding or a maker's data follows it.
    """
    if data.startswith(_JPEG):
        return scan is not None and data.rfind(b"\xff\xd9") >= scan
    return not data.startswith(_PNG) or data.rfind(_PNG_END) >= 0


def _refuse_large(size: tuple[int, int], name: str | PathLike[str]) -> None:
    pixels = size[0] * size[1]
    if pixels > MAX_PIXELS:
        raise CrowdlocError(
            f"image {name} is {size[0]} x {size[1]}, {pixels / 1e6:.0f} megapixels: "
            f"scale it to at most {MAX_PIXELS / 1e6:.0f} megapixels, or cut it"
        )


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file; CrowdlocError naming it where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CrowdlocError(f"image {path} cannot be read ({error.strerror}): restore the file") from None


def decode_image(data: bytes, name: str | PathLike[str]) -> np.ndarray:
    """Encoded image to (h, w, 3) uint8 RGB, as `read_image` but silent about damage; `name` is for errors."""
    import cv2

    size, scan = _header(io.BytesIO(data)) or (None, None)
    if size is not None:
        _refuse_large(size, name)
    image = None
    if data and _is_whole(data, scan):
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
    Raises CrowdlocError naming the file when it is absent, truncated, no image, or has more than MAX_PIXELS.

    A JPEG that is damaged in its middle is decoded all the same, mostly with wrong colours and a flat end. Where its
    last 8 x 8 pixels are equal, libjpeg's opinion is asked, and a warning names the file; `verify` asks always.
    """
    data = read_bytes(Path(path))
    image = decode_image(data, path)
    corner = image[-_FLAT:, -_FLAT:]
    if data.startswith(_JPEG) and (corner == corner[-1, -1]).all() and (damage := jpeg_damage(data)):
        warnings.warn(f"image {path} is damaged ({damage}): restore the file from its source", stacklevel=2)
    return image


def image_size(path: str | PathLike[str]) -> tuple[int, int]:
    """Width and height of the image at `path` in pixels, from the header alone for JPEG and PNG."""
    try:
        with Path(path).open("rb") as file:
            found = _header(file)
    except OSError as error:
        raise CrowdlocError(f"image {path} cannot be read ({error.strerror}): restore the file") from None
    if found:
        return found[0]
    height, width = read_image(path).shape[:2]
    return width, height

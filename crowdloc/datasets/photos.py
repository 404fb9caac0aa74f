"""Images as their owner sees them: what a camera notes about its orientation (EXIF) is applied.

The published data sets are read as they are stored (`images.read_image`), since their annotations refer to that; a
person's own photographs, and the points that a labelling tool puts on them, refer to the upright picture.
"""

from __future__ import annotations

import io
import warnings
from os import PathLike
from pathlib import Path

import numpy as np

from crowdloc.datasets.images import image_size, read_bytes, read_image

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")  # file names, in lower case
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)


def read_photo(path: str | PathLike[str]) -> np.ndarray:
    """As `read_image`, upright: (h, w, 3) uint8 RGB. 16 bits become 8, CMYK becomes RGB, transparency is ignored."""
    image = read_image(path)
    turned = _orientation(Path(path))
    if turned in _SIDEWAYS:
        image = image.transpose(1, 0, 2)
    if turned in (3, 4, 7, 8):
        image = image[::-1]
    if turned in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def photo_size(path: str | PathLike[str]) -> tuple[int, int]:
    """Width and height of what `read_photo` gives, from the header alone for JPEG and PNG."""
    width, height = image_size(path)
    return (height, width) if _orientation(Path(path)) in _SIDEWAYS else (width, height)


def _orientation(path: Path) -> int:
    """EXIF's number for how what `read_image` gives has to be turned; 1: not at all, or none is noted."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its size; `read_image` has a limit of its own
            with Image.open(io.BytesIO(read_bytes(path))) as image:  # OpenCV turns TIFF itself
                value = 1 if image.format == "TIFF" else image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow has no single exception for what it cannot read; OpenCV may still read it
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1

"""How large a frame may be, and from which size on it goes through a network in tiles."""

from __future__ import annotations

from crowdloc.core.errors import CrowdlocError

IN_ONE_PIECE = 40_000_000  # pixels; the first convolutions hold about 16 float32 maps of that size, 3 GB; 8K video: 33
MAX_PIXELS = 400_000_000  # a frame itself takes 3 bytes a pixel, and a network may look at three


def check_size(height: int, width: int) -> None:
    """Refuse a frame that would take gigabytes by itself."""
    _check(height, width, MAX_PIXELS, "")


def check_one_piece(height: int, width: int) -> None:
    """Refuse what would ask for many gigabytes in one allocation, where there is no other way."""
    _check(height, width, IN_ONE_PIECE, " to be run in one piece")


def _check(height: int, width: int, most: int, to: str) -> None:
    if height * width > most:
        raise CrowdlocError(
            f"an image of {width}×{height} pixels is too large{to} (at most {most // 10**6} million pixels): "
            "scale it down or cut it into parts"
        )

"""How large a frame may be: it goes through a network in one piece."""

from __future__ import annotations

from crowdloc.core.errors import CrowdlocError

MAX_PIXELS = 40_000_000  # the first convolutions hold about 16 float32 maps of that size, 3 GB; 8K video has 33 million


def check_size(height: int, width: int) -> None:
    """Refuse what would ask for many gigabytes in one allocation."""
    if height * width > MAX_PIXELS:
        raise CrowdlocError(
            f"an image of {width}×{height} pixels is too large to be run in one piece (at most "
            f"{MAX_PIXELS // 10**6} million pixels): scale it down or cut it into parts"
        )

"""Reproducible companion of "Video Crowd Localization with Multi-focus Gaussian Neighbor Attention" (GNANet)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    import pandas as pd

__version__ = "0.1.0"


def locate(source: str | os.PathLike[str] | int, **options: Any) -> pd.DataFrame:
    """Heads in an image, folder or video: frame, x, y, score; options in `crowdloc.results.locating.stream`."""
    from crowdloc.results.locating import locate

    return locate(source, **options)

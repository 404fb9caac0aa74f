"""Every path of the project."""

from __future__ import annotations

import os
from pathlib import Path

from crowdloc.core.errors import CrowdlocError

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent
NOTEBOOKS = ROOT / "notebooks"
RESULTS = ROOT / "results"
# A wheel carries the published numbers inside the package; a checkout keeps them where readers look for them.
PAPER = RESULTS / "paper" if (RESULTS / "paper").is_dir() else PACKAGE / "_paper"
BUILD = Path(os.environ.get("CROWDLOC_BUILD", ROOT / "build"))


def data_root(value: str | os.PathLike[str] | None = None) -> Path | None:
    """Root folder of the real data sets: the argument, else the environment variable `CROWDLOC_DATA`, else None."""
    chosen = value or os.environ.get("CROWDLOC_DATA")
    return Path(chosen).expanduser() if chosen else None


def require_data_root(value: str | os.PathLike[str] | None = None) -> Path:
    """Like `data_root`, but a missing or absent folder is an error that says what to do."""
    root = data_root(value)
    if root is None:
        raise CrowdlocError("no data root: pass root=…, --data-root, or set the environment variable CROWDLOC_DATA")
    if not root.is_dir():
        raise CrowdlocError(f"data root {root} is not a folder: check --data-root or CROWDLOC_DATA")
    return root

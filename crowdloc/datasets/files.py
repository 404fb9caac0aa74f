"""What the readers share: finding folders, reading MATLAB files, and the rule for points outside the image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crowdloc.errors import CrowdlocError

OUTSIDE = ("clip", "drop", "keep")


def find_folder(root: Path, names: Sequence[str], contains: Sequence[str], what: str) -> Path:
    """The first of root/name (or root itself) that holds every path of `contains`; an item "a|b" means either."""
    candidates = [*(root / name for name in names), root]
    for folder in candidates:
        if all(any((folder / item).exists() for item in items.split("|")) for items in contains):
            return folder
    wanted = ", ".join(items.replace("|", " or ") for items in contains)
    raise CrowdlocError(f"{what}: no folder with {wanted} in {', '.join(str(c) for c in candidates)}: "
                        "unpack the official archive there, or pass root=… or --data-root")


def choose(option: str, value: object, choices: Iterable[str]) -> None:
    """Refuse a value that is none of `choices`, naming the option and the choices."""
    choices = tuple(choices)
    if value not in choices:
        raise CrowdlocError(f"{option}={value!r}: choose {', '.join(choices)}")


def natural(path: Path) -> tuple[tuple[int, str], ...]:
    """Sort key that puts IMG_2 before IMG_10."""
    parts = re.findall(r"\d+|\D+", path.name)
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)


def listed(folder: Path, patterns: Sequence[str], what: str) -> list[Path]:
    """Files of `folder` that match one of `patterns`, in natural order; none is an error."""
    found = sorted({path for pattern in patterns for path in folder.glob(pattern)}, key=natural)
    if not found:
        raise CrowdlocError(f"{what}: no {' or '.join(patterns)} in {folder}: unpack the official archive there")
    return found


def read_mat(path: Path, key: str) -> Any:
    """Variable `key` of a MATLAB file, as scipy reads it."""
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except FileNotFoundError:
        raise CrowdlocError(f"annotation {path} is missing: unpack the official archive there") from None
    except Exception as error:  # scipy raises a dozen kinds of exception for damaged files
        raise CrowdlocError(f"annotation {path} is no readable .mat file ({type(error).__name__}): restore it") from None
    if key not in content:
        found = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
        raise CrowdlocError(f"annotation {path} has no variable '{key}' (found {found}): restore the official file")
    return content[key]


def settle_points(points: np.ndarray, size: tuple[int, int], outside: str) -> tuple[np.ndarray, np.ndarray]:
    """Apply the rule for points outside a (width, height) image: the points and which of the given rows they are.

    A point lies inside when the pixel it rounds to exists: -0.5 <= x < width - 0.5. "clip" moves the others to the nearest
    border pixel, so that published counts hold and a map can show them; "drop" removes them; "keep" changes nothing.
    """
    choose("outside", outside, OUTSIDE)
    rows = np.arange(len(points))
    if outside == "keep" or not len(points):
        return points, rows
    limit = np.array(size, dtype=np.float64) - 1
    out = ((points < -0.5) | (points >= limit + 0.5)).any(axis=1)
    if outside == "drop":
        return points[~out], rows[~out]
    return np.where(out[:, None], np.clip(points, 0.0, limit), points), rows

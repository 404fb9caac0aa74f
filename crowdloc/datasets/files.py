"""Finding and reading the files of a data set, with errors that name the file and the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crowdloc.core.errors import CrowdlocError, printable


def choose(option: str, value: object, choices: Iterable[str]) -> None:
    """Refuse a value that is none of `choices`, naming the option and the choices."""
    choices = tuple(choices)
    if value not in choices:
        raise CrowdlocError(f"{option}={value!r}: choose {', '.join(choices)}")


def find_folder(root: Path, names: Sequence[str], contains: Sequence[str], what: str) -> Path:
    """The first of root/name, or root itself, that holds every path of `contains` ("a|b": either of them)."""
    candidates = [*(root / name for name in names), root]
    for folder in candidates:
        if all(any((folder / item).exists() for item in items.split("|")) for items in contains):
            return folder
    wanted = ", ".join(items.replace("|", " or ") for items in contains)
    raise CrowdlocError(
        f"{what}: no folder with {wanted} in {', '.join(str(c) for c in candidates)}: "
        "unpack the official archive there, or pass root=… or --data-root"
    )


def natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sort key that puts IMG_2 before IMG_10, and numbers before words."""
    parts = re.findall(r"\d+|\D+", path.name)
    return [(False, int(part), "") if part.isdecimal() else (True, 0, part) for part in parts]


def entries(folder: Path, pattern: str) -> list[Path]:
    """Entries of `folder` that match `pattern`, in natural order, without the `._*` that macOS puts into archives."""
    found = [path for path in folder.glob(pattern) if not path.name.startswith(".")]
    for path in found:
        if printable(path.name) != path.name:  # it would become the id of a frame, which results are to hold
            raise CrowdlocError(f"{folder}: the name {path.name!r} in it is not UTF-8: rename it")
    return sorted(found, key=natural)


def listed(folder: Path, pattern: str, what: str) -> list[Path]:
    """As `entries`, but none is an error."""
    found = entries(folder, pattern)
    if not found:
        raise CrowdlocError(f"{what}: no {pattern} in {folder}: unpack the official archive there")
    return found


def read_text(path: Path) -> str:
    """The text of an annotation file; bytes that are no UTF-8 become U+FFFD, which no parser accepts."""
    try:
        return path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise CrowdlocError(f"annotation {path} cannot be read ({error.strerror}): restore the official file") from None


def xy(values: Any, path: Path, where: str = "") -> np.ndarray:
    """The first two columns of an array from a file as float64 (n, 2), finite; without rows (0, 2)."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.zeros(1)
    if array.size == 0:
        return np.zeros((0, 2))
    if array.ndim != 2 or array.shape[1] < 2:
        raise CrowdlocError(f"annotation {path}{where}: points are no rows of x and y: restore the official file")
    bad = np.flatnonzero(~np.isfinite(array[:, :2]).all(axis=1))
    if bad.size:
        raise CrowdlocError(f"annotation {path}{where}: point {bad[0] + 1} is not finite: restore the official file")
    return array[:, :2]

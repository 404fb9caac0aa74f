"""Files that are whole or not there, however the writing ends; JSON objects; digests of files and folders."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from crowdloc.core.errors import CrowdlocError


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed over `path`, on failure removed."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        CrowdlocError: the file is missing, is not valid JSON, or holds something else than an object.
    """
    restore = "restore it from version control, or make it again"
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CrowdlocError(f"{path} not found: {restore}") from None
    except IsADirectoryError:
        raise CrowdlocError(f"{path} is a folder, not a JSON file: {restore}") from None
    except json.JSONDecodeError as error:
        raise CrowdlocError(f"{path} is not valid JSON (line {error.lineno}): {restore}") from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        why = {UnicodeDecodeError: "not UTF-8", RecursionError: "nested too deeply"}.get(
            type(error), "a number too long"
        )
        raise CrowdlocError(f"{path} is not valid JSON ({why}): {restore}") from None
    if not isinstance(content, dict):
        raise CrowdlocError(f"{path} holds no JSON object: {restore}")
    return content


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a JSON object, indented by one space; NumPy's scalars become plain numbers."""
    text = json.dumps(content, indent=1, default=_plain) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _plain(value: Any) -> bool | int | float:
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def digest(*paths: str | os.PathLike[str]) -> str:
    """Hash (16 hexadecimal digits) of the contents and names of files and folders; times and machines play no part."""
    hasher = hashlib.sha256()
    for path in map(Path, paths):
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            if "__pycache__" not in file.parts:
                name = file.relative_to(path.parent).as_posix()
                hasher.update(f"{name}\0{file.stat().st_size}\0".encode())
                hasher.update(file.read_bytes())
    return hasher.hexdigest()[:16]

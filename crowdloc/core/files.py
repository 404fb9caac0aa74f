"""Files that are whole or not there, however the writing ends; JSON objects; digests of files and folders."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from crowdloc.core.errors import CrowdlocError

_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.(?P<pid>[0-9]+)\.part(?P<suffix>\.[^.]+)?", re.DOTALL)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of a temporary file; when the block ends without an error, its bytes become the content of `path`.

    A regular file is replaced at once: the temporary file lies beside it, is synced and renamed over it, and keeps the
    permissions that were there; folders are made. A symbolic link stays, its target is replaced, be it there or not.
    Through anything else (device, FIFO, socket, /dev/stdout) the bytes are written, and the thing stays what it is.
    Temporary files that killed processes left of the same `path` are removed.

    Raises:
        OSError: with the name `path`, also where a library hides that the disk is full.
    """
    target = _end_of_links(Path(path).absolute())
    through = _is_written_through(target)
    with tempfile.TemporaryDirectory() if through else nullcontext(target.parent) as folder:
        temporary = Path(folder) / f".{target.stem}.{os.getpid()}.part{target.suffix}"
        try:
            if not through:
                target.parent.mkdir(parents=True, exist_ok=True)
                _remove_stale(target)
            yield temporary
            if through:
                _write_through(temporary, target)
            else:
                _replace(temporary, target)
        except Exception as error:
            if named := _named(error, temporary, path):
                raise named from error
            raise
        finally:
            temporary.unlink(missing_ok=True)


def is_temporary(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name is that of a temporary file of `atomic_write`: no result, even if it lies among them."""
    return _TEMPORARY.fullmatch(Path(path).name) is not None


def _end_of_links(path: Path) -> Path:
    """What a chain of symbolic links ends in; links of /proc stand for open files and are not followed."""
    for _ in range(40):
        if _is_in_proc(path) or not path.is_symlink():
            return path
        path = path.parent / os.readlink(path)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _is_in_proc(path: Path) -> bool:
    return os.path.realpath(path.parent).startswith("/proc/")


def _is_written_through(target: Path) -> bool:
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    return not stat.S_ISREG(mode) or _is_in_proc(target)


def _write_through(temporary: Path, target: Path) -> None:
    with open(temporary, "rb") as source:
        if os.path.realpath(target.parent) == f"/proc/{os.getpid()}/fd":
            sink = os.dup(int(target.name))  # opened anew, a file behind >> would be written from its start
        elif stat.S_ISSOCK(target.stat().st_mode):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(target))
                connection.sendfile(source)
            return
        else:
            sink = os.open(target, os.O_WRONLY | os.O_TRUNC)
        try:
            with open(sink, "wb") as file:
                shutil.copyfileobj(source, file)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), str(target)) from error


def _replace(temporary: Path, target: Path) -> None:
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    with contextlib.suppress(FileNotFoundError):
        temporary.chmod(stat.S_IMODE(target.stat().st_mode))
    os.replace(temporary, target)
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder; the file itself is safe
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _remove_stale(target: Path) -> None:
    with contextlib.suppress(PermissionError):  # a folder that cannot be listed, or a file of somebody else
        for name in os.listdir(target.parent):
            match = _TEMPORARY.fullmatch(name)
            same = match and (match["stem"], match["suffix"] or "") == (target.stem, target.suffix)
            if match and same and _is_gone(match["pid"]):
                target.with_name(name).unlink(missing_ok=True)


def _is_gone(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def _named(error: Exception, temporary: Path, path: str | os.PathLike[str]) -> OSError | None:
    """An error about the file, with the name that the caller knows; None where the error is about something else."""
    if isinstance(error, CrowdlocError):
        return None
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, OSError) and number is not None:
        about = str(temporary) in (str(error.filename), str(error.filename2))  # copying names source and target
        about = about or (error.filename is None and number in _FULL)
    else:  # torch and safetensors tell a full disk in words of their own, so the disk is asked
        number = _errno_of_appending(temporary)
        about = number in _FULL
    return OSError(number, os.strerror(number), os.fspath(path)) if about and number else None


def _errno_of_appending(temporary: Path) -> int | None:
    try:
        if temporary.is_file():
            with open(temporary, "ab") as file:
                file.write(bytes(2**16))
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        return error.errno
    return None


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
    """Hash (16 hexadecimal digits) of the contents and names of files and folders.

    File times, machines, compiled code and temporary files play no part.
    """
    hasher = hashlib.sha256()
    for path in map(Path, paths):
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            if "__pycache__" not in file.parts and not is_temporary(file):
                name = file.relative_to(path.parent).as_posix()
                hasher.update(f"{name}\0{file.stat().st_size}\0".encode())
                hasher.update(file.read_bytes())
    return hasher.hexdigest()[:16]

"""Read MATLAB files (version 5 to 7) so that a damaged one is an error.

scipy.io.loadmat parses a compressed file while it inflates it, before the checksum is known: a few wrong bytes in
mall_gt.mat end the Python process with a bus error. Here every length is checked before it is used.
"""

from __future__ import annotations

import struct
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from crowdloc.core.errors import CrowdlocError

_NUMBERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4


def load_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file by name.

    Numbers are arrays of their shape, text is a str, a cell an object array, a structure a dict, an array of structures
    an object array of dicts, anything else None. Version 7.3 files need h5py and give their numeric variables only.
    Raises CrowdlocError naming the file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CrowdlocError(f"annotation {path} cannot be read ({error.strerror}): restore the official file") from None
    if data[124:128] == b"\x00\x02IM":
        return _load_hdf5(path)
    try:
        if data[124:128] != b"\x00\x01IM":
            raise ValueError("no MATLAB 5 header")
        variables = {}
        offset = 128
        while offset < len(data):
            kind, content, offset = _element(data, offset)
            if kind == _COMPRESSED:
                kind, content, _ = _element(zlib.decompress(content), 0)
            if kind == _MATRIX:
                name, value = _matrix(content)
                variables[name] = value
        return variables
    except (ValueError, zlib.error, struct.error, MemoryError, OverflowError, RecursionError) as error:
        raise CrowdlocError(
            f"annotation {path} is damaged or no .mat file ({error}): restore the official file"
        ) from None


def variable(content: dict[str, Any], path: Path, *names: str) -> Any:
    """The first of the variables `names` in what `load_mat` read from `path`."""
    for name in names:
        if name in content:
            return content[name]
    found = ", ".join(content) or "nothing"
    raise CrowdlocError(f"annotation {path} has no variable '{names[0]}' (found: {found}): restore the official file")


def _element(data: bytes, offset: int) -> tuple[int, bytes, int]:
    """Type and content of the data element at `offset`, and where the next one begins."""
    kind, length = struct.unpack_from("<II", data, offset)
    start, end = offset + 8, offset + 8 + length
    following = end if kind == _COMPRESSED else end + -length % 8
    if kind >> 16:  # up to four bytes are kept inside the tag
        kind, length = kind & 0xFFFF, kind >> 16
        start, end, following = offset + 4, offset + 4 + length, offset + 8
    if end > min(len(data), following):
        raise ValueError("an element is longer than the file")
    return kind, data[start:end], following


def _matrix(data: bytes) -> tuple[str, Any]:
    """Name and value of the content of a matrix element."""
    if not data:  # an empty place of a cell or structure
        return "", np.zeros((0, 0))
    _, flags, offset = _element(data, 0)
    _, sizes, offset = _element(data, offset)
    _, label, offset = _element(data, offset)
    kind = struct.unpack_from("<I", flags)[0] & 0xFF
    shape = struct.unpack(f"<{len(sizes) // 4}i", sizes)
    if not shape or min(shape) < 0:
        raise ValueError("a size is negative")
    name = label.decode("latin-1")
    if kind in _CLASSES:
        stored, content, _ = _element(data, offset)
        if stored not in _NUMBERS:
            raise ValueError("an array holds no numbers")
        numbers = np.frombuffer(content, _NUMBERS[stored]).astype(_CLASSES[kind])
        return name, numbers.reshape(shape, order="F")
    if kind == _CHAR:
        stored, content, _ = _element(data, offset)
        return name, content.decode({4: "utf-16-le", 17: "utf-16-le", 18: "utf-32-le"}.get(stored, "utf-8"), "replace")
    if kind == _CELL:
        return name, _filled(shape, _values(data, offset, prod(shape)))
    if kind == _STRUCT:
        _, width, offset = _element(data, offset)
        _, names, offset = _element(data, offset)
        step = struct.unpack("<i", width)[0]
        if step < 1 or len(names) % step:
            raise ValueError("field names have no length")
        fields = [names[i : i + step].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), step)]
        if not fields:
            return name, {}
        values = _values(data, offset, prod(shape) * len(fields))
        records = [
            dict(zip(fields, values[i : i + len(fields)], strict=True)) for i in range(0, len(values), len(fields))
        ]
        return name, records[0] if len(records) == 1 else _filled(shape, records)
    return name, None


def _values(data: bytes, offset: int, count: int) -> list[Any]:
    """`count` matrix elements from `offset` on; a count that promises too much runs into the end of the data."""
    values = []
    for _ in range(count):
        kind, content, offset = _element(data, offset)
        if kind != _MATRIX:
            raise ValueError("a cell or structure holds no matrix")
        values.append(_matrix(content)[1])
    return values


def _filled(shape: tuple[int, ...], values: list[Any]) -> np.ndarray:
    """An object array of `shape`, filled in MATLAB's order."""
    array = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):
        array[position] = value
    return array.reshape(shape, order="F")


def _load_hdf5(path: Path) -> dict[str, Any]:
    """MATLAB 7.3 is HDF5 with the axes reversed."""
    try:
        import h5py
    except ImportError:
        raise CrowdlocError(f"annotation {path} is a MATLAB v7.3 file: pip install h5py to read it") from None
    try:
        with h5py.File(path) as file:
            return {key: np.asarray(value).T for key, value in file.items() if hasattr(value, "shape")}
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise CrowdlocError(
            f"annotation {path} is damaged or no .mat file ({error}): restore the official file"
        ) from None

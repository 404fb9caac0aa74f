"""Read MATLAB files (version 5 to 7) so that a damaged one is an error, and never the end of the process.

scipy.io.loadmat trusts what it reads: a few wrong bytes in mall_gt.mat are a bus error. It gets the content inflated,
so that zlib's checksums have found damage, and only after every tag and length were followed to the end.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from crowdloc.core.errors import CrowdlocError

LIMIT = 256 * 2**20  # bytes that a file may inflate to; the largest official one has 4 MB
_DEPTH = 32  # of cells and structures in each other
_NUMBERS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # type of an element to its bytes
_TEXT = (1, 2, 4, 16, 17, 18)
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_CELL, _STRUCT, _CHAR, _ARRAYS = 1, 2, 4, range(6, 16)  # classes of a matrix
_COMPLEX = 0x8


def load_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file by name.

    Numbers are arrays of their shape, text is a str, a cell an object array, a structure a dict, an array of structures
    an object array of dicts; a variable of another kind is None. Version 7.3 files need h5py and give their numeric
    variables only. Raises CrowdlocError naming the file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CrowdlocError(f"annotation {path} cannot be read ({error.strerror}): restore the official file") from None
    if data[124:128] == b"\x00\x02IM":
        return _load_hdf5(path)
    from scipy.io import loadmat

    try:
        content, others = _sound(data)
        found = loadmat(io.BytesIO(content), mat_dtype=True)
    except Exception as error:  # what loadmat makes of wrong values can be of almost any type
        raise CrowdlocError(
            f"annotation {path} is damaged or no .mat file ({error}): restore the official file"
        ) from None
    return others | {name: _plain(value) for name, value in found.items() if not name.startswith("__")}


def variable(content: dict[str, Any], path: Path, *names: str) -> Any:
    """The first of the variables `names` in what `load_mat` read from `path`."""
    for name in names:
        if name in content:
            return content[name]
    found = ", ".join(content) or "nothing"
    raise CrowdlocError(f"annotation {path} has no variable '{names[0]}' (found: {found}): restore the official file")


def _sound(data: bytes) -> tuple[bytes, dict[str, None]]:
    """The file without compression and without the variables that are no arrays, and the names of those."""
    if data[124:128] != b"\x00\x01IM":
        raise ValueError("no MATLAB 5 header")
    kept, others = bytearray(data[:128]), dict[str, None]()
    for kind, content in _elements(memoryview(data)[128:]):
        if kind == _COMPRESSED:
            inflate = zlib.decompressobj()
            inflated = inflate.decompress(content, LIMIT - len(kept))
            if not inflate.eof:
                full = bool(inflate.unconsumed_tail)
                raise ValueError(f"it inflates to more than {LIMIT >> 20} MB" if full else "its end is missing")
            ((kind, content),) = _elements(memoryview(inflated))
        if kind != _MATRIX:
            raise ValueError("a variable is no matrix")
        name = _check(content)
        if name is None:
            kept += struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)
        else:
            others[name] = None
    return bytes(kept), others


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and content of the data elements that fill `data`."""
    offset = 0
    while offset < len(data):
        kind, length = struct.unpack_from("<II", data, offset)
        start, end = offset + 8, offset + 8 + length
        offset = end if kind == _COMPRESSED else end + -length % 8
        if kind >> 16:  # up to four bytes are kept inside the tag
            kind, length = kind & 0xFFFF, kind >> 16
            start, end, offset = start - 4, start - 4 + min(length, 5), start
        if end > min(len(data), offset):
            raise ValueError("an element is longer than the file")
        yield kind, data[start:end]


def _check(content: memoryview, depth: int = 0) -> str | None:
    """Follow the content of a matrix to its end; the name of a variable that is no array, cell, structure or text."""
    if not content and depth:  # an empty place of a cell or structure
        return None
    if depth > _DEPTH:
        raise ValueError("it is nested too deeply")
    (flag_kind, flags), (size_kind, sizes), (name_kind, name), *parts = _elements(content)
    if (flag_kind, size_kind, name_kind) != (_UINT32, _INT32, _INT8) or len(flags) != 8 or len(sizes) % 4:
        raise ValueError("a matrix has no flags, size or name")
    shape = struct.unpack(f"<{len(sizes) // 4}i", sizes)
    if not 2 <= len(shape) <= 32 or min(shape) < 0:
        raise ValueError("a size is negative")
    kind, count = flags[0], prod(shape)
    if kind in _ARRAYS:
        sound = len(parts) == 1 + bool(flags[1] & _COMPLEX) and all(
            stored in _NUMBERS and len(part) == count * _NUMBERS[stored] for stored, part in parts
        )
    elif kind == _CHAR:
        sound = len(parts) == 1 and parts[0][0] in _TEXT and count <= len(parts[0][1])
    elif kind in (_CELL, _STRUCT):
        if kind == _STRUCT:
            (width_kind, width), (names_kind, names), *parts = parts
            step = struct.unpack("<i", width)[0]
            if (width_kind, names_kind) != (_INT32, _INT8) or step < 1 or len(names) % step:
                raise ValueError("field names have no length")
            count *= len(names) // step
        sound = count == len(parts) and all(stored == _MATRIX for stored, _ in parts)
        for _, part in parts if sound else ():
            if _check(part, depth + 1) is not None:
                raise ValueError("a cell or structure holds what is no array, cell, structure or text")
    else:
        return bytes(name).decode("latin-1")
    if not sound:
        raise ValueError("a matrix holds other values than its size and class say")
    return None


def _plain(value: Any) -> Any:
    """What scipy read, in the words of `load_mat`."""
    if (fields := value.dtype.names) is not None:
        records = np.frompyfunc(lambda row: dict(zip(fields, map(_plain, row), strict=True)), 1, 1)(value)
        return records.item() if records.size == 1 else records
    if value.dtype == object:
        return np.frompyfunc(_plain, 1, 1)(value)
    return "".join(value.ravel().tolist()) if value.dtype.kind == "U" else value


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

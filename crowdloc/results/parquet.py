"""Parquet files with one row per image: texts and numbers, and lists of numbers that belong to the image.

Every page carries a checksum that is verified when it is read. What a file holds is compared with what it should hold,
so a damaged file is one line that names it, never a traceback or another value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write

RESTORE = "restore it from version control, or make it again"
_MOST_ROWS = 1_000_000  # images; a damaged footer must not make us reserve memory for more
_Column = Sequence[str] | NDArray[Any] | Sequence[NDArray[Any]]


def write_rows(path: Path, columns: Mapping[str, _Column], *, repeated: Sequence[str] = ()) -> None:
    """One row per image; a column holds texts, numbers (n,), or n arrays of one dtype.

    Bytes of lists are stored by significance, since neighbouring scores and coordinates share high bytes, if any; lists
    of the columns `repeated`, in which few values differ, by a dictionary.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays, encodings = {}, {}
    for name, values in columns.items():
        if len(values) and isinstance(values[0], np.ndarray):
            ends = np.cumsum([0, *map(len, values)], dtype=np.int32)
            inner = np.concatenate(list(values))
            arrays[name] = pa.ListArray.from_arrays(pa.array(ends), pa.array(inner))
            if name not in repeated:
                encodings[f"{name}.list.element"] = "BYTE_STREAM_SPLIT"
        else:
            arrays[name] = pa.array(list(values) if not isinstance(values, np.ndarray) else values)
            encodings[name] = "DELTA_BYTE_ARRAY" if pa.types.is_string(arrays[name].type) else "DELTA_BINARY_PACKED"
    with atomic_write(path) as temporary:
        pq.write_table(
            pa.table(arrays),
            temporary,
            compression="zstd",
            compression_level=19,
            use_dictionary=[f"{name}.list.element" for name in repeated],
            column_encoding=encodings,
            write_page_checksum=True,
            store_schema=False,
        )


def read_rows(path: Path, columns: Mapping[str, str]) -> dict[str, Any]:
    """The columns of a file that holds exactly `columns`: name -> kind.

    Kinds: "text" gives a list of str, "whole" integers (n,) int64, "lists of whole" and "lists of number" n arrays, the
    latter of integers or floats, in the dtype that is stored.

    Raises:
        CrowdlocError: the file is missing, damaged, or holds something else.
    """
    import pyarrow.parquet as pq

    if not path.is_file():
        raise CrowdlocError(f"{path} not found: {RESTORE}")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if file.metadata.num_rows > _MOST_ROWS:
                raise CrowdlocError(f"{path} claims {file.metadata.num_rows} images: {RESTORE}")
            table = file.read()
        if table.column_names != list(columns):
            raise CrowdlocError(f"{path} holds the columns {', '.join(table.column_names)}: {RESTORE}")
        return {name: _column(table[name].combine_chunks(), kind) for name, kind in columns.items()}
    except CrowdlocError:
        raise
    except Exception as error:  # pyarrow raises many kinds for damaged files, OSError to UnicodeDecodeError
        why = (str(error).splitlines() or [""])[0]
        raise CrowdlocError(f"{path} cannot be read ({type(error).__name__}: {why}): {RESTORE}") from None


def _column(array: Any, kind: str) -> Any:
    import pyarrow as pa

    if kind.startswith("lists of "):
        if not pa.types.is_list(array.type):
            raise ValueError(f"a column holds {array.type}, not {kind}")
        _no_gap(array)
        values = _numbers(array.flatten(), kind.removeprefix("lists of "))
        ends = np.cumsum(array.value_lengths().to_numpy(zero_copy_only=False))
        return np.split(values, ends[:-1]) if len(array) else []
    if kind == "text":
        _no_gap(array)
        texts = array.to_pylist()
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"a column holds {array.type}, not {kind}")
        return texts
    return _numbers(array, kind).astype(np.int64)


def _numbers(array: Any, kind: str) -> NDArray[Any]:
    _no_gap(array)
    values = array.to_numpy(zero_copy_only=False)
    if values.dtype.kind not in ("iu" if kind == "whole" else "iuf"):
        raise ValueError(f"a column holds {array.type}, not {kind}")
    return values


def _no_gap(array: Any) -> None:
    if array.null_count:
        raise ValueError("a column has gaps")

"""The folder that `locate` writes: grows with every frame, can be read at any moment, and goes on where it stopped.

`points.csv`: frame, x, y, score; a line per head, x and y in pixels of the original image, 0-based.
`counts.csv`: frame, time (seconds; empty where nothing tells), count; a line per frame, also for frames without heads.
`run.json`: what was run, how far it came, and where it was made.

A frame's points are written before its line of counts, and both files are only appended to. So whatever ends a run, the
frames in `counts.csv` are done, and what follows their points in `points.csv` (a line cut off, points of a frame that
was not finished) is cut away when the run goes on.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write, read_json, write_json

POINTS, COUNTS, RUN, PARQUET = "points.csv", "counts.csv", "run.json", "points.parquet"
FRAME_COLUMNS, POINT_COLUMNS = ("frame", "time", "count"), ("frame", "x", "y", "score")
_CHUNK = 500_000  # rows of points in memory while they are turned into Parquet


class Located(NamedTuple):
    """What was found in a frame: its name or number, points (n, 2) and scores (n,) that are counted, its time in s."""

    frame: str | int
    points: NDArray[np.float64]
    scores: NDArray[np.float64]
    time: float | None = None


class Recording:
    """A folder of results that is being written.

    Args:
        identity: what was asked for. A folder of the same is gone on with (`done` frames are there), one of anything
            else is left alone, unless `overwrite`.

    Raises:
        CrowdlocError: the folder holds something else, or its files contradict each other.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = {"complete": False, "frames": 0, "heads": 0, "seconds": 0.0, "run": {**identity}}
        if overwrite:
            for name in (POINTS, COUNTS, RUN, PARQUET):
                (folder / name).unlink(missing_ok=True)
        if (folder / RUN).is_file():
            self._go_on(identity)
        elif any(not p.name.startswith(".") for p in folder.glob("*")):
            raise CrowdlocError(f"{folder} holds other files: choose another folder")
        self.done = int(self.facts["frames"])
        self._heads = int(self.facts["heads"])
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RUN, self.facts)
        self._points = _append(folder / POINTS, POINT_COLUMNS)
        self._counts = _append(folder / COUNTS, FRAME_COLUMNS)

    def _go_on(self, identity: Mapping[str, Any]) -> None:
        before = read_json(self.folder / RUN)
        other = [
            key for key in {**before.get("run", {}), **identity} if before.get("run", {}).get(key) != identity.get(key)
        ]
        if other:
            raise CrowdlocError(
                f"{self.folder} holds another run ({', '.join(other)} differ): choose another folder, or --overwrite"
            )
        frames, heads = _mend(self.folder / POINTS, self.folder / COUNTS)
        self.facts = {**before, "complete": before["complete"] and frames == before["frames"]}
        self.facts |= {"frames": frames, "heads": heads}

    def add(self, found: Located) -> None:
        """Write one frame; it is on its way to the disk when this returns."""
        seconds = "" if found.time is None else f"{found.time:.3f}"
        _write(self._points, point_rows(found))
        _write(self._counts, line((clean(found.frame), seconds, len(found.points))))
        self.done += 1
        self._heads += len(found.points)

    def replay(self) -> Iterator[Located]:
        """The frames that are there, in order."""
        return read(self.folder)

    def close(self, *, complete: bool, seconds: float, **facts: Any) -> None:
        """End the run, or this part of it; `seconds` are added to those before."""
        self._points.close()
        self._counts.close()
        self.facts |= {"complete": complete, "frames": self.done, "heads": self._heads}
        self.facts |= {"seconds": round(self.facts["seconds"] + seconds, 1)} | facts
        write_json(self.folder / RUN, self.facts)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._points.close()
        self._counts.close()


def clean(frame: str | int) -> str:
    """A frame's name in one line."""
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", str(frame))


def read(folder: Path) -> Iterator[Located]:
    """What a folder of results holds, frame by frame; names and numbers come as text. Bounded memory.

    Raises:
        CrowdlocError: there is none, or its files are damaged.
    """
    try:
        with (
            open(folder / COUNTS, encoding="utf-8", newline="") as counts,
            open(folder / POINTS, encoding="utf-8", newline="") as points,
        ):
            rows, heads = csv.DictReader(counts), csv.DictReader(points)
            for row in rows:
                of_frame = list(islice(heads, int(row["count"])))
                if any(head["frame"] != row["frame"] for head in of_frame) or len(of_frame) != int(row["count"]):
                    raise ValueError
                values = np.array([[float(h[c]) for c in POINT_COLUMNS[1:]] for h in of_frame]).reshape(-1, 3)
                yield Located(row["frame"], values[:, :2], values[:, 2], float(row["time"]) if row["time"] else None)
    except FileNotFoundError as error:
        raise CrowdlocError(f"{error.filename} not found: give a folder that `crowdloc locate --out` wrote") from None
    except (KeyError, TypeError, ValueError):
        raise CrowdlocError(f"{folder}: {POINTS} and {COUNTS} contradict each other: locate again") from None


def write_parquet(folder: Path) -> Path:
    """`points.parquet` from `points.csv`, piece by piece; frame (text), x, y, score (float32)."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("frame", pa.string()), *((c, pa.float32()) for c in POINT_COLUMNS[1:])])
    with atomic_write(folder / PARQUET) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        pieces = pd.read_csv(folder / POINTS, dtype={"frame": str}, keep_default_na=False, chunksize=_CHUNK)
        for piece in pieces:
            writer.write_table(pa.Table.from_pandas(piece, schema=schema, preserve_index=False))
    return folder / PARQUET


def _append(path: Path, columns: tuple[str, ...]) -> BinaryIO:
    file = open(path, "ab")  # closed by the recording
    if file.tell() == 0:
        _write(file, line(columns))
    return file


def _write(file: BinaryIO, lines: str) -> None:
    """Whole lines, in one call."""
    file.write(lines.encode("utf-8", "backslashreplace"))
    file.flush()


def point_rows(found: Located) -> str:
    """The lines of `points.csv` of a frame: to hundredths of a pixel."""
    name = clean(found.frame)
    heads = zip(found.points, found.scores, strict=True)
    return "".join(line((name, f"{x:.2f}", f"{y:.2f}", f"{score:.4f}")) for (x, y), score in heads)


def line(row: tuple[Any, ...]) -> str:
    """One line of CSV."""
    cells = [str(value) for value in row]
    quoted = ['"{}"'.format(c.replace('"', '""')) if re.search('[",]', c) else c for c in cells]
    return ",".join(quoted) + "\n"


def _mend(points: Path, counts: Path) -> tuple[int, int]:
    """Cut both files behind the last frame that is whole; returns the number of frames and of heads."""
    available = _lines(points)
    frames, heads, end = 0, 0, 0
    try:
        for number, text in enumerate(_whole_lines(counts)):
            if number > 0:
                count = int(next(csv.reader([text.decode("utf-8")]))[2])
                if heads + count > available - 1:
                    break
                frames, heads = frames + 1, heads + count
            end += len(text)
    except (IndexError, StopIteration, ValueError):
        raise CrowdlocError(
            f"{counts} is damaged in line {frames + 2}: choose another folder, or --overwrite"
        ) from None
    _cut(counts, end)
    _cut(points, sum(len(text) for text in islice(_whole_lines(points), heads + 1)))
    return frames, heads


def _lines(path: Path) -> int:
    return sum(1 for _ in _whole_lines(path))


def _whole_lines(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with open(path, "rb") as file:
            yield from (text for text in file if text.endswith(b"\n"))


def _cut(path: Path, size: int) -> None:
    if path.is_file() and path.stat().st_size != size:
        os.truncate(path, size)

"""`log.csv`: a line for every training step."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write

LOG = "log.csv"
_FIRST, _LAST = ("step", "loss"), ("learning_rate", "seconds")


class Log:
    """Writes `log.csv`; lines of steps that a resumed run will repeat are dropped.

    Columns: step, loss, the terms of the loss where there are several, learning_rate, seconds.
    """

    def __init__(self, path: Path, first: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._kept = [row for row in read_log(path) if row["step"] < first] if path.exists() else []
        self._seconds = self._kept[-1]["seconds"] if self._kept else 0.0
        self._path = path
        self._writer: csv.DictWriter[str] | None = None

    def write(self, step: int, numbers: Mapping[str, float], rate: float, seconds: float) -> None:
        """`numbers` holds "loss" and its terms."""
        terms = [name for name in numbers if name != "loss"]
        if self._writer is None:
            self._open([*_FIRST, *(terms if len(terms) > 1 else []), *_LAST])
        assert self._writer is not None
        row = {name: f"{value:.6g}" for name, value in numbers.items()}
        row |= {"learning_rate": f"{rate:.6g}", "seconds": f"{self._seconds + seconds:.2f}"}
        self._writer.writerow({"step": step, **row})

    def flush(self) -> None:
        if self._writer is not None:
            self._file.flush()

    def _open(self, columns: list[str]) -> None:
        with atomic_write(self._path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._kept)
        self._file = open(self._path, "a", newline="")
        self._writer = csv.DictWriter(self._file, columns, extrasaction="ignore", lineterminator="\n")


def read_log(path: Path) -> Iterator[dict[str, float]]:
    """Rows of a training log; a line cut off by an interruption is left out.

    Raises:
        CrowdlocError: the file is missing, no text, or holds other columns.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CrowdlocError(f"{path} cannot be read ({type(error).__name__}): train again, or restore it") from None
    rows = csv.DictReader(lines)
    if lines and not {*_FIRST, *_LAST} <= set(rows.fieldnames or ()):
        raise CrowdlocError(f"{path} is no training log: train again, or restore it")
    for row in rows:
        try:
            yield {key: int(value) if key == "step" else float(value) for key, value in row.items()}
        except (TypeError, ValueError):
            continue

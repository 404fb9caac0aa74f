"""What a person sees of a whole run: one line per job that ended, and below them a bar with the time that is left."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

_CLEAR = "\r\033[K"  # of a terminal: to the beginning of the line, and empty
_WIDTH = 30  # characters of the bar
_LONGEST = 100  # characters of its line: one that wraps could not be taken away


class Screen:
    """Lines, and below them a bar that stays where it is; where no person looks (a file, a pipe) only the lines."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self._bar = stream, ""
        self._watched = stream.isatty()

    def line(self, text: str) -> None:
        """A line above the bar."""
        bar, self._bar = self._bar, ""
        print(f"{_CLEAR * bool(bar)}{text}", file=self.stream, flush=True)
        self.bar(bar)

    def bar(self, text: str) -> None:
        """Another bar in place of the one before; an empty one takes it away."""
        if self._watched and text != self._bar:
            print(f"{_CLEAR}{text}", end="", file=self.stream, flush=True)
            self._bar = text


class Progress(logging.Filter):
    """Listens to Snakemake's log: as a filter, since Snakemake puts handlers of its own in place of others.

    Args:
        tell: takes each line.
        estimate: rule and id -> seconds on one core.
        cores: how many jobs run at a time.
        folder: where the logs of the jobs are, which Snakemake names relative to it.
        show: takes the bar, whenever it changes.
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        estimate: Callable[[str, str], float],
        cores: int,
        folder: Path,
        show: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__()
        self.show = show
        self.tell, self.estimate, self.cores, self.folder = tell, estimate, cores, folder
        self.failed = 0
        self._jobs: dict[int, tuple[str, str, float]] = {}  # rule, id, start
        self._total, self._done = 0, 0
        self._left: dict[str, int] = {}  # rule -> jobs to come
        self._expected, self._taken = 0.0, 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Note an event; every record goes on into the log."""
        facts = vars(record)
        match str(facts.get("event", "")):
            case "run_info":
                self._left = {rule: int(n) for rule, n in facts["stats"].items() if rule not in ("total", "all")}
                self._total = sum(self._left.values())
            case "job_info" if facts["rule_name"] != "all":
                id = next(iter(facts["wildcards"].values()), "")
                self._jobs[facts["jobid"]] = facts["rule_name"], str(id), time.monotonic()
            case "job_finished" if facts["job_id"] in self._jobs:
                self._finished(*self._jobs.pop(facts["job_id"]))
            case "job_error" if facts["jobid"] in self._jobs:
                self._failed(*self._jobs.pop(facts["jobid"])[:2], facts)
            case _:
                return True
        self.show(self._bar())
        return True

    def _bar(self) -> str:
        full = round(_WIDTH * self._done / self._total) if self._total else 0
        now = ", ".join(f"{rule} {id}".rstrip() for rule, id, _ in self._jobs.values())
        text = f"{'█' * full}{'░' * (_WIDTH - full)} {self._done}/{self._total}{self._remaining()}"
        return f"{text}: {now}"[:_LONGEST] if now else text

    def _finished(self, rule: str, id: str, start: float) -> None:
        seconds = time.monotonic() - start
        self._done += 1
        self._left[rule] = self._left.get(rule, 1) - 1
        self._expected += self.estimate(rule, id)
        self._taken += seconds
        self.tell(f"[{self._done}/{self._total}] {rule} {id}".rstrip() + f": {_duration(seconds)}{self._remaining()}")

    def _remaining(self) -> str:
        """Minutes left, from what jobs took so far beside what was expected of them."""
        running = [self.estimate(rule, id) for rule, id, _ in self._jobs.values()]
        active = [rule for rule, _, _ in self._jobs.values()]
        waiting = sum(self.estimate(rule, "") * (n - active.count(rule)) for rule, n in self._left.items())
        if not any(self._left.values()):
            return ""
        pace = self._taken / self._expected if self._expected else 1.0
        gone = sum(time.monotonic() - start for _, _, start in self._jobs.values())
        seconds = max(0.0, (sum(running) + waiting) * pace - gone) / self.cores
        return f"; about {max(1, math.ceil(seconds / 60))} min left"

    def _failed(self, rule: str, id: str, facts: Mapping[str, Any]) -> None:
        self.failed += 1
        logs = [self.folder / name for name in facts.get("log", [])]
        reasons = [line for line in map(last_line, logs) if line]
        where = f" (log: {', '.join(map(str, logs))})" if logs else ""
        self.tell(f"failed: {rule} {id}".rstrip() + f": {reasons[0] if reasons else 'no reason given'}{where}")


def last_line(path: Path) -> str:
    """The last line of a log that holds anything, without the command's own prefix; empty where there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    except OSError:
        return ""
    filled = [line.strip() for line in lines if line.strip()]
    return filled[-1].removeprefix("crowdloc: error: ") if filled else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

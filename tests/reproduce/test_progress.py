"""What a run tells a person, from the events that Snakemake logs."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest

from crowdloc.reproduce import progress
from crowdloc.reproduce.progress import Progress, Screen, last_line


class Clock:
    now = 0.0


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    Clock.now = 0.0
    return Clock


def log(listener: Progress, event: str | None, **facts) -> None:
    record = logging.LogRecord("snakemake.logging", logging.INFO, "", 0, "text", None, None)
    record.__dict__.update(facts | ({"event": event} if event else {}))
    assert listener.filter(record)  # nothing is kept from the log


def start(listener: Progress, jobid: int, rule: str, id: str) -> None:
    log(listener, "job_info", jobid=jobid, rule_name=rule, wildcards={"id": id} if id else {})


@pytest.fixture
def told(tmp_path):
    lines: list[str] = []
    seconds = {"evaluate": 60.0, "notebook": 30.0, "report": 0.0}
    listener = Progress(lines.append, lambda rule, id: seconds[rule], cores=2, folder=tmp_path)
    log(listener, "run_info", stats={"evaluate": 2, "notebook": 2, "report": 1, "all": 1, "total": 6})
    return listener, lines


def test_a_line_per_job_and_the_time_that_is_left(told, clock):
    listener, lines = told
    start(listener, 1, "evaluate", "a/b.c/seed0")
    start(listener, 2, "evaluate", "a/d/seed0")
    log(listener, None)
    log(listener, "progress", done=0, total=6)
    clock.now = 120.0  # twice as long as expected: 60 s more for the other, less what it took, and 2 × 60 s to come
    log(listener, "job_finished", job_id=1)
    clock.now = 180.0
    log(listener, "job_finished", job_id=2)
    start(listener, 3, "notebook", "02_x")
    start(listener, 4, "notebook", "03_y")
    clock.now = 240.0
    log(listener, "job_finished", job_id=3)
    log(listener, "job_finished", job_id=4)
    start(listener, 5, "report", "")
    log(listener, "job_finished", job_id=5)
    start(listener, 6, "report", "")
    log(listener, "job_info", jobid=0, rule_name="all", wildcards={})
    log(listener, "job_finished", job_id=0)
    assert lines == [
        "[1/5] evaluate a/b.c/seed0: 2 min 00 s; about 1 min left",
        "[2/5] evaluate a/d/seed0: 3 min 00 s; about 2 min left",
        "[3/5] notebook 02_x: 1 min 00 s; about 1 min left",
        "[4/5] notebook 03_y: 1 min 00 s; about 1 min left",
        "[5/5] report: 0 s",
    ]


def test_a_failed_job_is_told_with_its_last_words(told, clock, tmp_path):
    listener, lines = told
    start(listener, 1, "evaluate", "a/b/seed0")
    (tmp_path / "e.log").write_bytes(b"12 images\n 50 %\r100 %\ncrowdloc: error: weights x: damaged \xff\n\n")
    log(listener, "job_error", jobid=1, log=["e.log"])
    log(listener, "job_error", jobid=1, log=["e.log"])  # told once
    assert listener.failed == 1
    assert lines == [f"failed: evaluate a/b/seed0: weights x: damaged � (log: {tmp_path / 'e.log'})"]


def test_the_bar_says_what_runs_and_what_is_left(tmp_path, clock):
    bars: list[str] = []
    listener = Progress(lambda line: None, lambda rule, id: 60.0, cores=1, folder=tmp_path, show=bars.append)
    log(listener, "run_info", stats={"notebook": 2, "all": 1, "total": 3})
    start(listener, 1, "notebook", "02_x")
    clock.now = 60.0
    log(listener, "job_finished", job_id=1)
    start(listener, 2, "notebook", "n" * 200)
    log(listener, None)
    clock.now = 120.0
    log(listener, "job_finished", job_id=2)
    none, half, whole = "░" * 30, "█" * 15 + "░" * 15, "█" * 30
    assert bars[0] == f"{none} 0/2; about 2 min left"
    assert bars[1] == f"{none} 0/2; about 2 min left: notebook 02_x"
    assert bars[2] == f"{half} 1/2; about 1 min left"
    assert bars[3].startswith(f"{half} 1/2; about 1 min left: notebook nnn") and len(bars[3]) == 100
    assert bars[4:] == [f"{whole} 2/2"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(text: str) -> list[str]:
    """What a terminal has after it: every line from the last time that it was emptied."""
    return [line.rpartition("\r\033[K")[2] for line in text.split("\n")]


def test_lines_stay_above_the_bar_and_nobody_else_sees_one():
    watched, piped = Terminal(), io.StringIO()
    for stream in (watched, piped):
        screen = Screen(stream)
        screen.line("begin")
        screen.bar("=-- 1/3")
        screen.line("one")
        screen.bar("==- 2/3")
        if stream is watched:
            assert shown(watched.getvalue()) == ["begin", "one", "==- 2/3"]
        screen.line("two")
        screen.bar("")
    assert shown(watched.getvalue()) == ["begin", "one", "two", ""]
    assert piped.getvalue() == "begin\none\ntwo\n"


def test_last_line_of_nothing(tmp_path):
    assert last_line(tmp_path / "absent") == ""
    (tmp_path / "empty").touch()
    assert last_line(Path(tmp_path / "empty")) == ""

"""One run at a time in a folder, and no job that outlives the run which started it.

A lock is an advisory `flock`: the kernel drops it when its holder ends, also by kill -9, so none is left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crowdloc.core.errors import CrowdlocError

LEADER = "CROWDLOC_LEADER"  # environment variable of jobs: machine and process whose end they must not survive
HOLDER = "CROWDLOC_LOCK_HOLDER"  # of what a lock's holder starts: process and path of the lock, separated by a space
_POLL_SECONDS = 0.5


@contextmanager
def locked(path: Path, what: str, *, patience: float = 3.0) -> Iterator[None]:
    """Hold the lock file `path`; CrowdlocError names the process that still holds it after `patience` seconds.

    The patience lets the jobs of a run that was killed a moment ago notice it and end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    holder = file.read().strip() or "unknown"
                    raise CrowdlocError(
                        f"{what} is in use by process {holder} (lock {path}): wait for it or stop it"
                    ) from None
                time.sleep(0.1)
        file.truncate(0)
        try:
            os.write(file.fileno(), str(os.getpid()).encode())
        except OSError as error:  # a full disk: here it has no name
            raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from None
        outer = os.environ.get(HOLDER)
        os.environ[HOLDER] = f"{os.getpid()} {os.path.realpath(path)}"
        try:
            yield
        finally:
            os.environ.pop(HOLDER)
            if outer is not None:
                os.environ[HOLDER] = outer
            file.truncate(0)  # a child that lives on must not take the lock for held


def is_held_for_us(path: Path) -> bool:
    """Whether a process that started this one, directly or not, holds the lock `path`, and started it while it did.

    The environment must say so, the lock must name the same process, and that must be an ancestor of this one.
    """
    pid, _, held = os.environ.get(HOLDER, "").partition(" ")
    if not pid.isdecimal() or held != os.path.realpath(path):
        return False
    try:
        named = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return False
    import psutil

    return named == pid and int(pid) in {parent.pid for parent in psutil.Process().parents()}


def lead() -> None:
    """Make this process the leader of the jobs that it starts from now on."""
    os.environ[LEADER] = f"{platform.node()} {os.getpid()}"


def follow_leader() -> None:
    """In a job: end this process (kill -9) as soon as its leader on this machine has ended (zombies have)."""
    node, _, pid = os.environ.get(LEADER, "").rpartition(" ")
    if node != platform.node() or not pid.isdecimal() or int(pid) == os.getpid():
        return
    import psutil

    def watch() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            leader = psutil.Process(int(pid))  # knows it from a later process with the same number
            while leader.is_running() and leader.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                time.sleep(_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="follow-leader").start()

"""One run at a time in a folder, and no job that outlives the run which started it.

A lock is an advisory `flock`: the kernel drops it when its holder ends, also by kill -9, so none is left behind.
"""

from __future__ import annotations

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
        file.write(str(os.getpid()))
        file.flush()
        yield


def _birth(pid: int) -> str | None:
    """What tells a process from a later one with its number; None when it has ended (zombies have)."""
    try:
        os.kill(pid, 0)
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except PermissionError:
        return ""
    except ProcessLookupError:
        return None
    except FileNotFoundError:  # no /proc on this system, or the process ended between the two lines
        return None if Path("/proc/self/stat").exists() else ""
    return None if fields[0] in "ZX" else fields[19]


def lead() -> None:
    """Make this process the leader of the jobs that it starts from now on."""
    os.environ[LEADER] = f"{platform.node()} {os.getpid()}"


def follow_leader() -> None:
    """In a job: end this process (kill -9) as soon as its leader on this machine has ended."""
    node, _, pid = os.environ.get(LEADER, "").rpartition(" ")
    if node != platform.node() or int(pid) == os.getpid():
        return
    birth = _birth(int(pid))

    def watch() -> None:
        while birth is not None and _birth(int(pid)) == birth:
            time.sleep(_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="follow-leader").start()

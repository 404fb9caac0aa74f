"""Locks end with their holder, jobs with their leader, however it ends."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time

import pytest

from crowdloc.core import locking
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.locking import locked
from crowdloc.core.paths import ROOT

HOLD = """
import sys, time
from pathlib import Path
from crowdloc.core.locking import locked
with locked(Path(sys.argv[1]), "the test"):
    print("held", flush=True)
    time.sleep(60)
"""
FOLLOW = """
import time
from crowdloc.core.locking import follow_leader
follow_leader()
print("following", flush=True)
time.sleep(60)
"""


def start(code, *arguments, **environment):
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
    )
    assert process.stdout.readline()
    return process


def test_second_holder_is_told_who_holds(tmp_path):
    holder = start(HOLD, tmp_path / "x.lock")
    try:
        with (
            pytest.raises(CrowdlocError, match=f"the test is in use by process {holder.pid} "),
            locked(tmp_path / "x.lock", "the test", patience=0.2),
        ):
            pass
    finally:
        holder.kill()
    # Not waited for: a killed holder that its parent has not asked about yet holds nothing either.
    with locked(tmp_path / "x.lock", "the test"):
        assert (tmp_path / "x.lock").read_text() == str(os.getpid())
    holder.wait()


def test_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "x.lock", "x"):
        raise ZeroDivisionError
    with locked(tmp_path / "x.lock", "x", patience=0):
        pass


def test_job_ends_with_its_leader():
    leader = start("import time; print('up', flush=True); time.sleep(60)")
    job = start(FOLLOW, **{locking.LEADER: f"{platform.node()} {leader.pid}"})
    assert job.poll() is None
    leader.kill()  # and becomes a zombie, which counts as ended
    assert job.wait(timeout=10) == -signal.SIGKILL
    leader.wait()


def test_job_whose_leader_has_gone_ends_at_once():
    gone = subprocess.Popen(["true"])
    gone.wait()
    job = subprocess.Popen(
        [sys.executable, "-c", FOLLOW], cwd=ROOT, env=os.environ | {locking.LEADER: f"{platform.node()} {gone.pid}"}
    )
    assert job.wait(timeout=20) == -signal.SIGKILL


@pytest.mark.parametrize("leader", ["", "another-machine 1", f"{platform.node()} {os.getpid()}"])
def test_without_a_leader_here_nothing_ends(leader):
    job = start(FOLLOW, **{locking.LEADER: leader})
    time.sleep(0.2)
    assert job.poll() is None
    job.kill()
    job.wait()

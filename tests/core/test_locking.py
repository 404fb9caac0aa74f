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
HELD_FOR_US = """
import os, sys
from pathlib import Path
from crowdloc.core.locking import is_held_for_us
print(is_held_for_us(Path(sys.argv[1])))
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


def test_lock_names_nobody_once_it_is_free(tmp_path):
    with locked(tmp_path / "x.lock", "x"):
        pass
    assert (tmp_path / "x.lock").read_text() == ""


def test_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "x.lock", "x"):
        raise ZeroDivisionError
    with locked(tmp_path / "x.lock", "x", patience=0):
        pass


def is_held_for_a_child(path, *before, **environment):
    command = [*before, sys.executable, "-c", HELD_FOR_US, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | environment, check=True)
    return done.stdout.strip() == "True"


def test_a_lock_is_held_for_the_children_of_its_holder_only(tmp_path, monkeypatch):
    monkeypatch.delenv(locking.HOLDER, raising=False)
    path, other = tmp_path / "x.lock", tmp_path / "y.lock"
    assert not is_held_for_a_child(path)
    with locked(path, "x"):
        assert is_held_for_a_child(path)
        assert is_held_for_a_child(path, "sh", "-c", '"$@"; exit $?', "sh")  # a grandchild
        assert not is_held_for_a_child(other)
        assert not is_held_for_a_child(path, LOCAL_RANK="1", **{locking.HOLDER: ""})  # switched locks off once
        with locked(other, "y"):
            assert is_held_for_a_child(other)
        assert is_held_for_a_child(path)
        claim = os.environ[locking.HOLDER]
    assert locking.HOLDER not in os.environ
    assert not is_held_for_a_child(path, **{locking.HOLDER: claim})  # held once, no longer


def test_a_lock_of_a_stranger_is_not_held_for_us(tmp_path, monkeypatch):
    path = tmp_path / "x.lock"
    holder = start(HOLD, path)
    try:
        for pid in (holder.pid, os.getpid()):  # neither a lie about the holder nor one about the parent helps
            monkeypatch.setenv(locking.HOLDER, f"{pid} {path}")
            assert not locking.is_held_for_us(path)
            assert not is_held_for_a_child(path)
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize("claim", ["", "x", "1", "-1 {}", "{}"])
def test_a_damaged_claim_is_no_claim(tmp_path, monkeypatch, claim):
    monkeypatch.setenv(locking.HOLDER, claim.format(tmp_path / "x.lock"))
    assert not locking.is_held_for_us(tmp_path / "x.lock")


def test_a_second_training_is_refused_whatever_local_rank_says(tmp_path):
    """LOCAL_RANK is in the environment of every job of some clusters."""
    holder = start(HOLD, tmp_path / ".lock")
    try:
        command = [sys.executable, "-m", "crowdloc", "train", "synthcrowd-sense-mini/gnanet/seed0"]
        command += ["--out", str(tmp_path)]
        environment = os.environ | {"LOCAL_RANK": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    finally:
        holder.kill()
        holder.wait()
    assert done.returncode == 2
    assert f"in use by process {holder.pid}" in done.stderr


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


@pytest.mark.parametrize(
    "leader", ["", "another-machine 1", f"{platform.node()} {os.getpid()}", f"{platform.node()} x"]
)
def test_without_a_leader_here_nothing_ends(leader):
    job = start(FOLLOW, **{locking.LEADER: leader})
    time.sleep(0.2)
    assert job.poll() is None
    job.kill()
    job.wait()

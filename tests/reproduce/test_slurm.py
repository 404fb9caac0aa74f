"""The same graph on SLURM: a cluster of one node, this machine, from Debian's packages `slurmctld slurmd munge`."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from small_project import environment, make_clone

from crowdloc.core import paths

DAEMONS = ("munged", "slurmctld", "slurmd")
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin"
PROFILE = paths.ROOT / "profiles" / "slurm"
# No control groups, no accounting; a node without RealMemory refuses every job that asks for memory.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)


def ask(*command: str, **environment: str) -> str:
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Path]:
    """The configuration file of a running cluster."""
    absent = [name for name in (*DAEMONS, "sbatch") if shutil.which(name, path=SEARCH) is None]
    if absent:
        pytest.skip(f"no {', '.join(absent)} here: apt install slurmctld slurmd slurm-client munge")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "key").touch(0o600)
    (folder / "key").write_bytes(os.urandom(1024))
    facts = {"folder": folder, "host": socket.gethostname().partition(".")[0], "user": psutil.Process().username()}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(controller=free_port(), node=free_port(), **facts))
    # Snakemake's plugin takes all variables of SLURM from its jobs; their `srun` needs this one, no file being in /etc.
    (folder / "bin").mkdir()
    (folder / "bin/srun").write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    (folder / "bin/srun").chmod(0o755)
    munge = [f"--{name}-file={folder}/{name}" for name in ("key", "pid", "log", "seed")]
    arguments = {"munged": ["--foreground", "--force", f"--socket={folder}/munge", *munge]}
    conf = folder / "slurm.conf"

    def idle() -> bool:
        return "idle" in ask("sinfo", "--noheader", "-o", "%t", SLURM_CONF=str(conf))

    with ExitStack() as stack:
        for name in DAEMONS:
            log = stack.enter_context(open(folder / f"{name}.out", "wb"))
            command = [str(shutil.which(name, path=SEARCH)), *arguments.get(name, ["-D"])]
            daemon = subprocess.Popen(
                command, env=os.environ | {"SLURM_CONF": str(conf)}, stdout=log, stderr=log, start_new_session=True
            )
            stack.callback(daemon.wait)
            stack.callback(daemon.terminate)
            if name == "munged":
                wait_for((folder / "munge").exists, "munge's socket")
        wait_for(idle, f"an idle node (see {folder})")
        yield conf


@pytest.mark.slow
def test_the_graph_runs_on_slurm(cluster, tmp_path):
    """Every job goes through the queue, with the memory and cores of its rule; the report is that of a local run."""
    root = tmp_path / "clone"
    root.mkdir()
    make_clone(root)
    command = [sys.executable, "-m", "crowdloc", "run", "all", "--source", "weights", "--snakemake"]
    command += ["--profile", str(PROFILE), "--latency-wait", "5", "--slurm-status-command", "squeue"]
    command += ["--slurm-init-seconds-before-status-checks", "1", "--slurm-keep-successful-logs", "--slurm-no-account"]
    options = environment(root) | {"SLURM_CONF": str(cluster), "PATH": f"{cluster.parent}/bin:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=root, env=options, capture_output=True, text=True, check=False, timeout=500)
    log = root / "build" / "run.log"
    assert done.returncode == 0, done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    assert "2 experiments (weights) and 2 notebooks on other machines: about" in done.stdout
    assert done.stdout.splitlines()[-1] == "the summary"

    jobs = [
        dict(re.findall(r"(\S+?)=(\S*)", line))
        for line in ask("scontrol", "-o", "show", "job", SLURM_CONF=str(cluster)).splitlines()
    ]
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    asked = sorted((job["Comment"].partition("_wildcards")[0], job["NumCPUs"], job["MinMemoryNode"]) for job in jobs)
    assert asked == [
        ("rule_data", "2", "3000M"),
        *[("rule_evaluate", "1", "6000M")] * 2,
        *[("rule_notebook", "1", "6000M")] * 2,
        ("rule_report", "1", "6000M"),
    ]
    executed = json.loads((root / "build/notebooks/02_table2.ipynb").read_text())
    assert executed["cells"][-1]["outputs"][0]["text"] == ["weights\n"]
    assert set(os.listdir(root)) == {"Snakefile", "build", "crowdloc", "notebooks", "results"}

"""Killed at any moment, on a full disk, beside itself: the same command again ends with the same bytes.

A copy of the project with a tiny experiment: four short videos, a network of a 32nd of the paper's width, six steps in
each of two stages. Its commands run in forks of one process (`zygote.py`), which spares their imports.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_project import environment, write_notebook

from crowdloc.core import paths
from crowdloc.core.files import is_temporary
from crowdloc.core.locking import locked
from crowdloc.results.evidence import read_evidence
from crowdloc.results.experiments import Experiment
from crowdloc.results.tables import REPRODUCED, verdict

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds orphans by their environment in /proc"),
]

FIRST, SECOND = (f"synthcrowd-sense-mini/{name}/seed0" for name in ("raznet.stage1", "gnanet"))
TINY = """
CHOSEN = {
    "synthcrowd-sense-mini": Chosen(
        {"crop": (96, 128), "steps": 6, "batch_size": 2, "width": 1 / 32, "network": {}},
        second={"frozen": True, "crop": None, "batch_size": 1},
    )
}
TABLES = {"II": (Listed("synthcrowd-sense", ("gnanet",), seeds=1),)}
"""
FEW = 'DOMAINS["sense"].videos.update(dev=1, train=2, val=1, test=1)\n'
CELL = """
from crowdloc.results import runs
from crowdloc.results.experiments import experiments_of
run = runs.read(experiments_of("II")[0], source)
print(run.metrics["localization"]["20"], run.log["loss"].tolist())
"""
COMMANDS = {
    "data": ["data", "generate", "synthcrowd", "--out", "{build}/data/synthcrowd"],
    "train": ["train", FIRST],
    "train on maps": ["train", SECOND],
    "predict": ["evaluate", SECOND, "--source", "train"],
    "store": ["promote", SECOND],
    "notebook": ["run", "02", "--source", "train"],
}
MADE = {
    "data": "build/data", "train": f"build/experiments/{FIRST}", "train on maps": f"build/experiments/{SECOND}",
    "predict": "build/evaluations", "store": "results", "notebook": "build/notebooks",
}  # fmt: skip
# How often each is killed: alone, with its group; half by the clock, half at a change of a file.
KILLS = {"data": 4, "train": 4, "train on maps": 5, "predict": 4, "store": 4, "notebook": 4}
# Whose bytes may differ between a run and one that was interrupted: seconds, dates, who made which steps.
HISTORY = {"checkpoint.pt", "history.json", "training.json", "evaluation.json", "run.json", "log.csv", "MANIFEST.json",
           "key.txt", ".lock", ".promote.lock", "maps.f16", "checksums.u32", "02_table2.ipynb"}  # fmt: skip


class Project:
    """The copy, and the process that its commands are forked from."""

    def __init__(self, root: Path) -> None:
        self.root, self.build, self.results = root, root / "build", root / "results"
        shutil.copytree(paths.PACKAGE, root / "crowdloc")  # with the compiled kernels
        for name, text in {"results/experiments.py": TINY, "datasets/synthcrowd/settings.py": FEW}.items():
            with open(root / "crowdloc" / name, "a") as file:
                file.write(text)
        loop = root / "crowdloc/training/loop.py"
        often = loop.read_text().replace("_CHECKPOINT_SECONDS = 30.0", "_CHECKPOINT_SECONDS = 0.0")
        assert often != loop.read_text()
        loop.write_text(often)
        shutil.copy(paths.ROOT / "Snakefile", root)
        (root / "notebooks").mkdir()
        write_notebook(root / "notebooks" / "02_table2.ipynb", "synthcrowd", CELL)
        self.mark = f"fault-test-{uuid.uuid4()}"  # in the environment of all that the commands start
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}  # the last is the most
        self.zygote = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root,
            env=environment(root) | threads | {"FAULT_TEST": self.mark},
        )  # fmt: skip
        assert self._read() == "ready"

    def _read(self) -> str:
        assert self.zygote.stdout is not None
        return self.zygote.stdout.readline().strip()

    def _write(self, line: str) -> None:
        assert self.zygote.stdin is not None
        self.zygote.stdin.write(f"{line}\n")
        self.zygote.stdin.flush()

    def run(
        self, name: str, *, after: float | None = None, dies_at: int = 0, whole: bool = False, threads: int = 1
    ) -> tuple[int, int, str]:
        """A command, killed `after` seconds or before a change of a file: exit code, changes, output."""
        log = self.root / "command.log"
        argv = [word.format(build=self.build) for word in COMMANDS[name]]
        order: dict[str, Any] = {"argv": argv, "log": str(log), "dies_at": dies_at, "whole": whole}
        self._write(json.dumps(order | {"threads": threads, "folders": [str(self.build), str(self.results)]}))
        pid = int(self._read())
        if after is not None:
            time.sleep(after)
            (os.killpg if whole else os.kill)(pid, signal.SIGKILL)  # not yet waited for, so it is still that process
        self._write("")
        code, changes = map(int, self._read().split())
        return code, changes, log.read_text(errors="replace")

    def orphans(self) -> list[psutil.Process]:
        """What the commands started and what still runs."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != self.zygote.pid and process.environ().get("FAULT_TEST") == self.mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def wait_for_orphans(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while left := self.orphans():
            assert time.monotonic() < deadline, f"orphans go on: {[process.cmdline() for process in left]}"
            time.sleep(0.1)

    def files(self) -> dict[str, bytes]:
        """Everything below build/ and results/ that has the name of a result."""
        found = {}
        for folder in (self.build, self.results):
            for path in folder.rglob("*"):
                inside = path.relative_to(self.root).parts
                hidden = any(part.startswith(".") and part.endswith((".part", ".old")) for part in inside)
                if path.is_file() and not hidden and not is_temporary(path):
                    found["/".join(inside)] = path.read_bytes()
        return found

    def clear(self) -> None:
        for folder in (self.build, self.results):
            shutil.rmtree(folder, ignore_errors=True)


def facts(name: str, content: bytes) -> Any:
    """What two runs must have in common of a file."""
    base = Path(name).name
    if base in ("training.json", "evaluation.json"):
        return {k: v for k, v in json.loads(content).items() if k not in ("seconds", "history", "provenance")}
    if base == "log.csv":
        rows = [line.split(",") for line in content.decode().splitlines()]
        return [row[: rows[0].index("seconds")] for row in rows]
    if base == "02_table2.ipynb":
        return [cell.get("outputs") for cell in json.loads(content)["cells"]]
    if base == "MANIFEST.json":
        return {k: v for k, v in json.loads(content)["files"].items() if Path(k).name not in HISTORY}
    return content if base not in HISTORY - {"maps.f16", "checksums.u32"} else None


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("faults"))
    yield project
    project.zygote.kill()
    project.zygote.wait()


@pytest.fixture(scope="module")
def undisturbed(project) -> tuple[dict[str, bytes], dict[str, tuple[float, int]]]:
    """The files of a run that nothing interrupts; of each command the seconds and the changes of files."""
    taken = {}
    for name in COMMANDS:
        start = time.monotonic()
        code, changes, output = project.run(name)
        assert code == 0, output
        taken[name] = time.monotonic() - start, changes
    files = project.files()
    assert json.loads(files[f"build/experiments/{SECOND}/training.json"])["convergence"]
    assert b'"mAP": 0.' in files[f"results/{SECOND}/metrics.json"]
    return files, taken


def test_killed_at_random_moments(project, undisturbed):
    """Alone and with its process group. In between, what has the name of a result is the result."""
    reference, taken = undisturbed
    project.clear()
    chance = random.Random(16)
    killed = dict.fromkeys(COMMANDS, 0)
    for name in COMMANDS:
        seconds, changes = taken[name]
        while killed[name] < KILLS[name]:
            by_clock, whole = killed[name] % 2 == 0 or changes < 3, killed[name] % 4 < 2
            moment = {"after": chance.uniform(0, seconds)} if by_clock else {"dies_at": chance.randint(1, changes)}
            code, _, output = project.run(name, whole=whole, **moment)
            if code == 0:  # what the kills before had left was soon completed: from the beginning, and faster
                seconds *= 0.8
                shutil.rmtree(project.root / MADE[name])
                if name == "train on maps":
                    shutil.rmtree(project.build / "maps")
                continue
            assert code == -signal.SIGKILL, output
            killed[name] += 1
            project.wait_for_orphans()
            shown = {n: content for n, content in project.files().items() if Path(n).name not in HISTORY}
            half = [n for n, content in shown.items() if reference.get(n) != content]
            assert not half, f"{name}, killed at {moment}"
        code, _, output = project.run(name)
        assert code == 0, output
    assert killed == KILLS and sum(KILLS.values()) >= 20
    found = project.files()
    assert set(found) == set(reference)
    assert not [name for name in reference if facts(name, found[name]) != facts(name, reference[name])]


class Disk:
    """A small disk at a folder of the project, for who may mount one; it can be full, or read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ballast = folder, folder / "ballast"
        folder.mkdir()
        options = ("-t", "tmpfs", "-o", "size=64m,mode=755", "none", str(folder))
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            folder.rmdir()
            pytest.skip("only root may mount a small disk")

    def fill(self, *, but: int) -> None:
        with open(self.ballast, "wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while file.write(bytes(1 << 16)):
                    pass
            file.truncate(file.tell() - but)

    def remount(self, access: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{access}", str(self.folder)], check=True)

    def remove(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.fixture
def disks(project) -> Iterator[dict[str, Disk]]:
    """build/ and results/ on a small disk each, empty."""
    project.clear()
    made = {}
    try:
        for folder in (project.build, project.results):
            made[folder.name] = Disk(folder)
        yield made
    finally:
        for disk in made.values():
            disk.remove()


def told(output: str) -> str:
    """The only line of an output that is no progress: an error that the user can mend."""
    lines = [line for line in output.replace("\r", "\n").splitlines() if line.startswith("crowdloc: error: ")]
    assert len(lines) == 1 and "Traceback" not in output, output
    return lines[0]


def test_a_full_disk(project, undisturbed, disks):
    """Every command says so in one line and leaves no half of anything; with space it goes on to the same bytes."""
    reference, _ = undisturbed
    room = {"data": 400_000, "train": 100_000, "train on maps": 300_000, "notebook": 0}  # it may fit into a page
    for name in COMMANDS:
        disk = disks["results" if name == "store" else "build"]
        disk.fill(but=room.get(name, 4096))
        code, _, output = project.run(name)
        assert code == 2, f"{name} ended with {code}: {output}"
        assert "No space left on device" in told(output) and "free some space" in told(output)
        assert f" {disk.folder}/" in told(output), name
        shown = {n: content for n, content in project.files().items() if Path(n).name not in {*HISTORY, "ballast"}}
        assert not [n for n, content in shown.items() if reference.get(n) != content]
        disk.ballast.unlink()
        code, _, output = project.run(name)
        assert code == 0, output
    found = project.files()
    assert set(found) == set(reference)
    assert not [name for name in reference if facts(name, found[name]) != facts(name, reference[name])]


def write(project: Project, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_read_only_results(project, undisturbed, disks):
    """Nothing is stored, which is said; whatever only reads results goes on."""
    write(project, undisturbed[0])
    disks["results"].remount("ro")
    before = project.files()
    code, _, output = project.run("store")
    assert code == 2 and "Read-only file system" in told(output) and str(project.results) in told(output)
    assert project.files() == before
    assert project.run("notebook")[0] == 0
    disks["results"].remount("rw")


def test_two_runs_at_once(project, undisturbed):
    project.clear()
    write(project, undisturbed[0])
    for name, lock in (("train", f"experiments/{FIRST}/.lock"), ("store", ".promote.lock")):
        with locked(project.build / lock, "the test"):
            code, _, output = project.run(name)
        assert code == 2 and f"is in use by process {os.getpid()} " in told(output)
    assert project.files() == undisturbed[0]


@pytest.mark.parametrize("place", [8, -3])  # in the header, in the values
@pytest.mark.parametrize("id", [FIRST, SECOND])
def test_a_changed_byte_of_weights(project, undisturbed, id, place):
    project.clear()
    write(project, undisturbed[0])
    path = project.build / "experiments" / id / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    code, _, output = project.run("predict")
    assert code == 2 and "weights.safetensors" in told(output) and "again" in told(output)


def test_a_changed_byte_of_synthcrowd(project, undisturbed):
    """What was generated is generated again, byte for byte."""
    reference = undisturbed[0]
    project.clear()
    write(project, {n: content for n, content in reference.items() if not n.startswith("build/evaluations")})
    chosen = random.Random(3).sample([name for name in reference if name.startswith("build/data")], 3)
    for name in chosen:
        content = bytearray(reference[name])
        content[len(content) // 2] ^= 1
        (project.root / name).write_bytes(content)
    for command in ("data", "predict"):
        code, _, output = project.run(command)
        assert code == 0, output
    found = project.files()
    assert not [name for name in reference if facts(name, found[name]) != facts(name, reference[name])]


def test_a_second_run_and_one_with_other_threads(project, undisturbed):
    """The second run has the same bytes; two threads add in another order: metrics move within the tolerance."""
    reference = undisturbed[0]
    for threads in (1, 2):
        project.clear()
        write(project, {n: content for n, content in reference.items() if not n.startswith("build/evaluations")})
        shutil.rmtree(project.build / "maps")
        code, _, output = project.run("predict", threads=threads)
        assert code == 0, output
        made = project.build / "evaluations" / "train" / SECOND
        if threads == 1:
            evidence = f"build/evaluations/train/{SECOND}/predictions.parquet"
            assert (made / "predictions.parquet").read_bytes() == reference[evidence]
        located, _ = read_evidence(made, Experiment.parse(SECOND))
        stored = json.loads(reference[f"results/{SECOND}/metrics.json"])["localization"]
        for sigma, row in located.localization.items():
            for metric, value in row.items():
                assert verdict(value, stored[sigma][metric], "weights") == REPRODUCED, (threads, sigma, metric)

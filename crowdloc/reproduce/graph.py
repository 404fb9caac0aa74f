"""The whole reproduction: what a run consists of, when one of its jobs is out of date, and running it."""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crowdloc.core import locking, paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import digest
from crowdloc.reproduce import notebooks

SOURCES = ("stored", "weights", "train")
# Rooms that cannot change what a network predicts; every other may, also what is added later.
_NOT_MODEL = {"__main__.py", "cli.py", "benchmarks", "figures", "paper", "reproduce", "studies"}
# On 2 cores, for the estimate at the start.
_SECONDS = {"data": 30, "evaluate": 40, "train": 200, "notebook": 20}


def experiments() -> dict[str, tuple[str, str]]:
    """Ids of the stored experiments that have weights, with their data set and preset."""
    found = {}
    for path in sorted(paths.RESULTS.rglob("weights.safetensors")):
        id = path.parent.relative_to(paths.RESULTS).as_posix()
        data, _, preset = id.split("/")[0].partition("-")
        if (path.parent / "experiment.json").is_file():
            found[id] = data, preset
    return found


@functools.cache
def clips(data: str, root: Path | None) -> int:
    """Number of test clips of a real data set; CrowdlocError where it is not there."""
    from crowdloc import datasets

    return len(datasets.load(data, root=root))


@dataclass(frozen=True)
class Plan:
    """One run: depth, notebooks and experiments with their data set and preset, what is left out and why."""

    source: str
    root: Path | None
    uses: dict[str, tuple[str, str]]
    made: dict[str, tuple[str, str]]
    left_out: tuple[str, ...]

    @property
    def notebooks(self) -> list[str]:
        """Names of the notebooks to execute."""
        return list(self.uses)

    def results(self, name: str | None = None) -> list[str]:
        """Files of this run that a notebook (or, without a name, the report) reads, relative to build/."""
        pattern = {"weights": "evaluations/{}.json", "train": "experiments/{}/metrics.json"}.get(self.source)
        wanted = None if name is None else self.uses[name]
        return [pattern.format(id) for id, kind in self.made.items() if pattern and wanted in (None, kind)]

    def minutes(self, cores: int) -> int:
        """Rough time of a run from nothing."""
        generated = any(data == "synthcrowd" for data, _ in self.made.values())
        heavy = generated * _SECONDS["data"] + len(self.results()) * _SECONDS.get(_job(self.source), 0)
        return max(1, math.ceil((heavy + len(self.uses) * _SECONDS["notebook"] / cores) / 60))


def _job(source: str) -> str:
    return {"weights": "evaluate"}.get(source, source)


def plan(source: str, data_root: str | os.PathLike[str] | None = None) -> Plan:
    """The run of a depth with the data at hand: SynthCrowd always, a real set where the data root has it."""
    if source not in SOURCES:
        raise CrowdlocError(f"source {source!r} is unknown: choose {', '.join(SOURCES)}")
    root = paths.require_data_root(data_root).resolve() if paths.data_root(data_root) else None
    uses, left_out = {}, []
    for path in notebooks.numbered():
        given = notebooks.parameters(path)
        data = given.get("data", "synthcrowd")
        if data != "synthcrowd":
            try:
                clips(data, root)
            except CrowdlocError as error:
                left_out.append(f"{path.stem}: {error}")
                continue
        uses[path.stem] = data, given.get("preset", "mini")
    made = {id: kind for id, kind in experiments().items() if source != "stored" and kind in uses.values()}
    return Plan(source, root, uses, made, tuple(left_out))


def generated(id: str) -> list[str]:
    """The generated data that an experiment reads, relative to build/."""
    return ["data/synthcrowd.txt"] if id.startswith("synthcrowd") else []


def data_key() -> str:
    """Changes when SynthCrowd may."""
    return digest(paths.PACKAGE / "datasets" / "synthcrowd")


def experiment_key(id: str, source: str, root: Path | None) -> str:
    """Changes when an experiment's numbers may: code, recipe, stored weights, amount of real data."""
    code = [path for path in sorted(paths.PACKAGE.iterdir()) if path.name not in _NOT_MODEL]
    stored = [paths.RESULTS / id / name for name in ("experiment.json", "weights.safetensors")]
    data = id.partition("-")[0]
    amount = "" if data == "synthcrowd" else f"-{clips(data, root)}"
    return digest(*code, *stored[: 1 if source == "train" else 2]) + amount


@functools.cache
def notebook_key(name: str, source: str) -> str:
    """Changes when a notebook's outputs may; without a name, the report's."""
    own = [paths.NOTEBOOKS / f"{name}.ipynb"] if name else []
    return f"{source}-{digest(paths.PACKAGE, paths.RESULTS, *own)}"


def run(source: str, data_root: str | None, cores: int | None, extra: Sequence[str] = ()) -> int:
    """Run the whole graph with Snakemake, then print the report; returns an exit status.

    One run at a time per build folder. Killed in any way, it leaves no lock and no running job, and the next one
    goes on where it stopped. `extra` are further options of Snakemake, for example `--executor slurm`.
    """
    snakefile = paths.ROOT / "Snakefile"
    if not snakefile.is_file():
        raise CrowdlocError(
            f"{snakefile} is missing: the whole run needs a clone of the repository, not only the package"
        )
    from snakemake.cli import main as snakemake

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = cores or usable
    with locking.locked(paths.BUILD / ".lock", f"build folder {paths.BUILD}"):
        todo = plan(source, data_root)
        print(
            f"crowdloc: {len(todo.results())} experiments ({source}) and {len(todo.uses)} notebooks on {cores} cores: "
            f"about {todo.minutes(cores)} minutes, less where results are up to date",
            flush=True,
        )
        for reason in todo.left_out:
            print(f"crowdloc: left out: {reason}", flush=True)
        locking.lead()
        # Jobs and kernels start elsewhere and must import this very package.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")]))
        if not sys.stderr.isatty():
            os.environ.setdefault("TQDM_MININTERVAL", "10")  # a log needs no moving bars
        options = f"--cores {cores} --keep-going --nolock --rerun-incomplete --rerun-triggers params input code".split()
        options += ["--snakefile", str(snakefile), "--directory", str(paths.BUILD)]
        options += ["--max-checksum-file-size", "100MB"]  # executed notebooks hold pictures
        options += ["--quiet", "rules", "host", "reason", *extra]
        options += ["--config", f"source={source}", *([f"data_root={todo.root}"] if todo.root else [])]
        try:
            snakemake(options)
        except SystemExit as stop:
            if stop.code:
                print(
                    "crowdloc: error: some jobs failed (see above); the same command goes on from here",
                    file=sys.stderr,
                )
                return 1
    report = paths.BUILD / "report.txt"
    if report.is_file() and not {"-n", "--dry-run"} & set(extra):
        print(report.read_text(encoding="utf-8"), end="")
    return 0

"""Running the whole graph with Snakemake, and telling a person how it goes."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from crowdloc.core import locking, paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.reproduce import graph
from crowdloc.reproduce.progress import Progress, Screen, last_line

LOG = "run.log"  # Snakemake's own words, in build/
_DRY = {"-n", "--dry-run", "--dryrun"}


def run(source: str, data_root: str | None, cores: int | None, extra: Sequence[str] = ()) -> int:
    """Run the whole graph, then print the report; returns an exit status.

    One run at a time per build folder. Killed in any way, it leaves no lock and no running job, and the next one
    goes on where it stopped. `extra` are further options and targets of Snakemake, for example `--executor slurm`.
    """
    snakefile = paths.ROOT / "Snakefile"
    if not snakefile.is_file():
        raise CrowdlocError(
            f"{snakefile} is missing: the whole run needs a clone of the repository, not only the package"
        )
    if cores is None and not _is_elsewhere(extra):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with locking.locked(paths.BUILD / ".lock", f"build folder {paths.BUILD}"):
        todo = graph.plan(source, data_root)
        where = (
            f"on {cores} cores: about {todo.minutes(cores)} minutes"
            if cores
            else (f"on other machines: about {todo.minutes(1)} minutes of one core")
        )
        _tell(
            f"{len(todo.experiments)} experiments ({source}) and {len(todo.notebooks)} notebooks {where}, "
            "less where results are up to date"
        )
        for reason in todo.left_out:
            _tell(f"left out: {reason}")
        locking.lead()
        _set_environment(todo)
        options = _options(source, cores, snakefile)
        if _DRY & set(extra):
            return _snakemake([*options, *extra])
        log = paths.BUILD / LOG
        screen = Screen(sys.stdout)
        progress = Progress(
            lambda text: screen.line(f"crowdloc: {text}"), graph.seconds, cores or 1, paths.BUILD, screen.bar
        )
        with _listening(progress, log):
            status = _snakemake([*options, *extra])
        screen.bar("")
    if status:
        if not progress.failed:
            print(f"crowdloc: error: Snakemake stopped: {last_line(log)} (log: {log})", file=sys.stderr)
        else:
            print(
                f"crowdloc: error: {progress.failed} jobs failed (see above, and {log}); "
                "the same command goes on from here",
                file=sys.stderr,
            )
        return 1
    report = paths.BUILD / "report.txt"
    if report.is_file():
        print(report.read_text(encoding="utf-8"), end="")
    if not extra and graph.has_site():
        print(f"\nto read in a browser: {paths.BUILD / 'site' / 'index.html'}")
    return 0


def _is_elsewhere(extra: Sequence[str]) -> bool:
    """Whether Snakemake is told of another executor; then the profile or `--jobs` says how much may run at a time."""
    words = [option.partition("=")[0] for option in extra]
    return bool({"--executor", "-e", "--profile", "--workflow-profile"} & set(words))


def _options(source: str, cores: int | None, snakefile: Path) -> list[str]:
    """Options of Snakemake; those that take several words come first, so that they swallow no target."""
    return [
        *("--quiet", "rules", "host", "reason"),
        *("--rerun-triggers", "params", "input", "code"),
        *("--config", f"source={source}"),  # Snakemake reads it as YAML: only a word that we know is safe
        *("--keep-going", "--nolock", "--rerun-incomplete"),
        *("--max-checksum-file-size", "100MB"),  # executed notebooks hold pictures
        *("--snakefile", str(snakefile), "--directory", str(paths.BUILD)),
        *(("--cores", str(cores)) if cores else ()),
    ]


def _set_environment(todo: graph.Plan) -> None:
    """What jobs and kernels, which start elsewhere, get from here: this package, and any path as it is."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")]))
    os.environ.pop("CROWDLOC_DATA", None)
    if todo.root is not None:
        os.environ["CROWDLOC_DATA"] = str(todo.root)
    os.environ.setdefault("TQDM_MININTERVAL", "10")  # logs need no moving bars


def _snakemake(options: list[str]) -> int:
    from snakemake.cli import main

    try:
        main(options)
    except SystemExit as stop:
        return int(stop.code or 0) if not isinstance(stop.code, str) else 1
    return 0


@contextlib.contextmanager
def _listening(progress: Progress, log: Path) -> Iterator[None]:
    logger = logging.getLogger("snakemake.logging")
    logger.addFilter(progress)
    try:
        with open(log, "w", encoding="utf-8", errors="backslashreplace") as file, contextlib.redirect_stderr(file):
            yield
    finally:
        logger.removeFilter(progress)


def _tell(line: str) -> None:
    print(f"crowdloc: {line}", flush=True)

"""Generate scenes in two processes, each with its part of what is missing."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
from tqdm import tqdm

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.synthcrowd.building import build_scene
from crowdloc.datasets.synthcrowd.manifest import expected_hash
from crowdloc.datasets.synthcrowd.settings import DOMAINS
from crowdloc.datasets.synthcrowd.store import is_current, split_folder, write_scene

_WORKERS = 2
_PROBLEM = "problem: "
_STALE = 600  # seconds after which the temporary folder of a killed process is removed
_FRAMES_PER_SECOND = {"mini": 60, "paper": 10}  # on two cores


def render_part(root: Path, preset: str, jobs: Sequence[str]) -> int:
    """Render scenes named "domain/split/index", saying so of each; what the process started by `generate` does.

    It ends after the scene at hand where nobody listens any more, and at the first error, which it says.
    """
    cv2.setNumThreads(1)
    try:
        for job in jobs:
            domain, split, index = job.split("/")
            folder = split_folder(root, preset, domain, split) / DOMAINS[domain].scene_name(int(index))
            try:
                write_scene(folder, build_scene(domain, split, int(index)), preset)
            except CrowdlocError as error:
                print(f"{_PROBLEM}{error}", flush=True)
                return 1
            print(job, flush=True)
    except (BrokenPipeError, KeyboardInterrupt):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to print has no reader
        return 1
    return 0


def _run(root: Path, preset: str, jobs: Sequence[str], progress: bool) -> None:
    """Render all jobs in processes that write to one pipe; the first problem ends it."""
    search = os.pathsep.join([str(paths.ROOT), os.environ.get("PYTHONPATH", "")])
    own = {"PYTHONPATH": search, "PYTHONIOENCODING": "utf-8:backslashreplace", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", __package__, "part", str(root), preset]
    reading, writing = os.pipe()
    workers = [
        subprocess.Popen(
            [*command, *jobs[first::_WORKERS]], stdin=subprocess.DEVNULL, stdout=writing, env={**os.environ, **own}
        )
        for first in range(min(_WORKERS, len(jobs)))
    ]
    os.close(writing)
    try:
        with (
            os.fdopen(reading, encoding="utf-8") as lines,  # once it is closed, the workers end
            tqdm(total=len(jobs), desc="synthcrowd", unit="scene", disable=not progress, mininterval=1) as bar,
        ):
            for line in lines:
                if line.startswith(_PROBLEM):
                    raise CrowdlocError(line.removeprefix(_PROBLEM).strip())
                bar.update()
    finally:
        codes = [worker.wait() for worker in workers]
    if any(codes):
        raise CrowdlocError(f"a process that rendered scenes below {root} died: generate again")


def generate(
    out: str | os.PathLike[str],
    *,
    preset: str = "mini",
    domains: Sequence[str] = ("sense",),
    splits: Sequence[str] = ("train", "val", "test"),
    progress: bool = True,
) -> None:
    """Write the scenes of the given domains and splits below `out`; scenes that are there and current are kept.

    A scene appears whole or not at all, so an interrupted run is continued by running again. Raises CrowdlocError for
    unknown names and when the disk refuses.
    """
    jobs, frames = list[str](), 0
    for domain in domains:
        for split in splits:
            folder = split_folder(Path(out), preset, domain, split)
            for part in folder.glob(".*.part"):
                with contextlib.suppress(OSError):
                    if time.time() - part.stat().st_mtime > _STALE:
                        shutil.rmtree(part, ignore_errors=True)
            kind = DOMAINS[domain]
            for index in range(kind.videos[split]):
                scene = folder / kind.scene_name(index)
                if not is_current(scene, kind.frames[split], expected_hash(preset, domain, split, index)):
                    jobs.append(f"{domain}/{split}/{index}")
                    frames += kind.frames[split]
    if not jobs:
        return
    if progress:
        seconds = 2 + frames / _FRAMES_PER_SECOND[preset] + 0.05 * len(jobs)
        print(f"synthcrowd: {len(jobs)} scenes, {frames} frames, about {seconds:.0f} s on 2 cores", file=sys.stderr)
    _run(Path(out), preset, jobs, progress)

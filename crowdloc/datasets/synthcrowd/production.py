"""Generate scenes in two worker processes."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
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

Job = tuple[str, str, str, str, int]  # folder, preset, domain, split, index
_WORKERS = 2
_STALE = 600  # seconds after which the temporary folder of a killed process is removed
_FRAMES_PER_SECOND = {"mini": 60, "paper": 10}  # on two cores


def serve() -> None:
    """A worker: renders one scene per line of standard input, answers with an error or "", ends with its input."""
    cv2.setNumThreads(1)
    for line in sys.stdin:
        folder, preset, domain, split, index = json.loads(line)
        answer = ""
        try:
            write_scene(Path(folder), build_scene(domain, split, index), preset)
        except CrowdlocError as error:
            answer = str(error)
        print(json.dumps(answer), flush=True)


def _feed(waiting: queue.SimpleQueue[Job], finished: queue.SimpleQueue[str]) -> None:
    """Start a worker and hand it jobs until none is left. It ends with this process, since its input closes."""
    search = os.pathsep.join([str(paths.ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", "from crowdloc.datasets.synthcrowd.production import serve; serve()"]
    environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        with contextlib.suppress(queue.Empty):
            while True:
                job = waiting.get_nowait()
                answer = ""
                with contextlib.suppress(BrokenPipeError):
                    worker.stdin.write(json.dumps(job) + "\n")
                    worker.stdin.flush()
                    answer = worker.stdout.readline()
                finished.put(
                    json.loads(answer) if answer else f"the process that rendered {job[0]} died: generate again"
                )


def _run(jobs: Sequence[Job], progress: bool) -> None:
    """Do all jobs; the first problem ends it."""
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    finished: queue.SimpleQueue[str] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    threads = [
        threading.Thread(target=_feed, args=(waiting, finished), daemon=True) for _ in range(min(_WORKERS, len(jobs)))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in tqdm(jobs, "synthcrowd", unit="scene", disable=not progress, mininterval=1):
            problem = finished.get()
            if problem:
                raise CrowdlocError(problem)
    finally:
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        for thread in threads:
            thread.join()


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
    jobs: list[Job] = []
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
                    jobs.append((str(scene), preset, domain, split, index))
    if not jobs:
        return
    if progress:
        frames = sum(DOMAINS[domain].frames[split] for _, _, domain, split, _ in jobs)
        seconds = 2 + frames / _FRAMES_PER_SECOND[preset] + 0.05 * len(jobs)
        print(f"synthcrowd: {len(jobs)} scenes, {frames} frames, about {seconds:.0f} s on 2 cores", file=sys.stderr)
    _run(jobs, progress)

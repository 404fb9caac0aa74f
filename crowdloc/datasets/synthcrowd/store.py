"""Scenes on the disk: `<root>/<preset>/v<version>/<domain>/<split>/<scene>/{000.jpg, …, annotations.json}`."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crowdloc import paths
from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.datasets.synthcrowd.annotate import UNIT, annotation_text
from crowdloc.datasets.synthcrowd.render import render_jpeg
from crowdloc.datasets.synthcrowd.scene import Scene, build_scene
from crowdloc.datasets.synthcrowd.settings import DIFFICULTY, DOMAINS, PRESETS, SPLIT_SEEDS, SYNTHCROWD_VERSION
from crowdloc.errors import CrowdlocError

ANNOTATIONS = "annotations.json"
_WORKERS = 2
_REMEDY = "delete the folder and generate it again"


def _choose(option: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise CrowdlocError(f"synthcrowd {option} {value!r} is unknown: choose {', '.join(choices)}")


def default_root() -> Path:
    """Where generated data live when no root is given."""
    return paths.BUILD / "data" / "synthcrowd"


def split_folder(root: Path, preset: str, domain: str, split: str) -> Path:
    """Folder of a split; unknown names raise CrowdlocError."""
    _choose("preset", preset, PRESETS)
    _choose("domain", domain, DOMAINS)
    _choose("split", split, SPLIT_SEEDS)
    return Path(root) / preset / f"v{SYNTHCROWD_VERSION}" / domain / split


def scene_names(domain: str, split: str) -> list[str]:
    """Folder names of a split's scenes, in order."""
    return [build_scene(domain, split, index).name for index in range(DOMAINS[domain].videos[split])]


def read_annotations(folder: Path) -> dict[str, Any]:
    """The stored annotations of a scene folder, checked for shape; CrowdlocError names the file."""
    path = folder / ANNOTATIONS
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise CrowdlocError(f"annotation {path} cannot be read ({error.strerror}): {_REMEDY}") from None
    except ValueError as error:
        raise CrowdlocError(f"annotation {path} is no JSON ({error}): {_REMEDY}") from None
    try:
        for frame in content["frames"]:
            lengths = {len(frame["points"]), len(frame["boxes"]), len(frame["track_ids"])}
            if (
                len(lengths) != 1
                or not all(len(p) == 2 for p in frame["points"])
                or not all(len(b) == 4 for b in frame["boxes"])
            ):
                raise ValueError("rows do not fit")
    except (KeyError, TypeError, ValueError):
        raise CrowdlocError(f"annotation {path} lacks frames of points, boxes and track_ids: {_REMEDY}") from None
    return dict(content)


def _is_current(folder: Path, frames: int) -> bool:
    """Whether a scene folder is complete and of the present version and difficulty."""
    try:
        content = read_annotations(folder)
    except CrowdlocError:
        return False
    return (
        content.get("difficulty") == DIFFICULTY.fingerprint()
        and len(content["frames"]) == frames
        and all((folder / f"{number:03d}.jpg").is_file() for number in range(frames))
    )


def write_scene(folder: Path, scene: Scene, preset: str) -> None:
    """Render a scene into a temporary folder beside `folder`, then put it in place in one step."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        for number in range(DOMAINS[scene.domain].frames[scene.split]):
            (part / f"{number:03d}.jpg").write_bytes(render_jpeg(scene, scene.first + number, preset))
        with (part / ANNOTATIONS).open("w") as file:
            file.write(annotation_text(scene, preset))
            file.flush()
            os.fsync(file.fileno())
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(part, folder)
    except OSError as error:
        raise CrowdlocError(
            f"{folder} cannot be written ({error.strerror}): free space or choose another folder"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def serve() -> None:
    """A worker process: renders one scene per line of standard input, answers with an error or ""; ends with its input."""
    for line in sys.stdin:
        folder, preset, domain, split, index = json.loads(line)
        answer = ""
        try:
            write_scene(Path(folder), build_scene(domain, split, index), preset)
        except CrowdlocError as error:
            answer = str(error)
        print(json.dumps(answer), flush=True)


def _run_jobs(jobs: Sequence[list[Any]], progress: bool) -> None:
    """Render scenes in worker processes that end when this one does (their standard input closes)."""
    waiting: queue.Queue[list[Any]] = queue.Queue()
    for job in jobs:
        waiting.put(job)
    finished: queue.Queue[str] = queue.Queue()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(paths.ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", "from crowdloc.datasets.synthcrowd.store import serve; serve()"]

    def feed() -> None:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as worker:
            assert worker.stdin is not None and worker.stdout is not None
            with contextlib.suppress(queue.Empty):
                while True:
                    job = waiting.get_nowait()
                    try:
                        worker.stdin.write(json.dumps(job) + "\n")
                        worker.stdin.flush()
                        answer = worker.stdout.readline()
                    except BrokenPipeError:
                        answer = ""
                    finished.put(json.loads(answer) if answer else f"the worker for {job[0]} died: generate again")
                    if not answer:
                        return
            worker.stdin.close()

    threads = [threading.Thread(target=feed, daemon=True) for _ in range(min(_WORKERS, len(jobs)))]
    for thread in threads:
        thread.start()
    with _bar(len(jobs), progress) as advance:
        for _ in jobs:
            problem = finished.get()
            if problem:
                with contextlib.suppress(queue.Empty):
                    while True:
                        waiting.get_nowait()
                raise CrowdlocError(problem)
            advance()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def _bar(total: int, progress: bool) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(total=total, desc="synthcrowd scenes", unit="scene", disable=not progress, file=sys.stderr) as bar:
        yield bar.update


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
    jobs, frames = [], 0
    for domain in domains:
        for split in splits:
            folder = split_folder(Path(out), preset, domain, split)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CrowdlocError(f"{folder} cannot be made ({error.strerror}): choose another folder") from None
            count = DOMAINS[domain].frames[split]
            for index, name in enumerate(scene_names(domain, split)):
                if not _is_current(folder / name, count):
                    jobs.append([str(folder / name), preset, domain, split, index])
                    frames += count
    if not jobs:
        return
    if progress:
        seconds = frames / (60 if preset == "mini" else 5)
        print(
            f"synthcrowd: rendering {len(jobs)} scenes, {frames} frames, about {max(seconds, 1):.0f} s", file=sys.stderr
        )
    _run_jobs(jobs, progress)


def load_synthcrowd(
    root: str | os.PathLike[str] | None,
    split: str = "test",
    *,
    domain: str = "sense",
    preset: str = "mini",
    num_frames: int = 3,
    frame_step: int = 1,
) -> ClipDataset:
    """A split of SynthCrowd as clips; with `root=None` it is generated below `build/` when first used.

    Splits train, val, test, and dev (on which difficulty was set); domains sense, fdst, sha, shb; presets mini
    (288 x 512) and paper (1080 x 1920). Points and boxes are float64 multiples of 1/64 px.
    """
    folder = split_folder(Path(root) if root is not None else default_root(), preset, domain, split)
    if root is None:
        generate(default_root(), preset=preset, domains=(domain,), splits=(split,))
    frames = []
    for name in scene_names(domain, split):
        if not (folder / name).is_dir():
            raise CrowdlocError(f"scene {folder / name} is missing: run crowdloc data generate, or leave root away")
        content = read_annotations(folder / name)
        if content.get("difficulty") != DIFFICULTY.fingerprint():
            raise CrowdlocError(f"scene {folder / name} was generated with another difficulty: {_REMEDY}")
        scene = f"{domain}-{split}-{name}"
        for number, frame in enumerate(content["frames"]):
            points = np.array(frame["points"], dtype=np.float64).reshape(-1, 2) / UNIT
            boxes = np.array(frame["boxes"], dtype=np.float64).reshape(-1, 4) / UNIT
            frames.append(
                Frame(
                    f"{scene}/{number:03d}",
                    scene,
                    folder / name / f"{number:03d}.jpg",
                    points,
                    boxes,
                    np.array(frame["track_ids"], dtype=np.int64),
                )
            )
    return ClipDataset(frames, name=f"synthcrowd-{domain}", num_frames=num_frames, frame_step=frame_step)

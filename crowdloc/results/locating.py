"""Heads in one's own image, folder, video or camera: `crowdloc.locate`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from crowdloc.core.errors import CrowdlocError, CrowdlocWarning
from crowdloc.core.locking import locked
from crowdloc.core.provenance import describe as provenance
from crowdloc.inference.precision import choose
from crowdloc.inference.sources import Shot, Source, open_source
from crowdloc.inference.windows import Stages, predict_frames
from crowdloc.models import Prediction
from crowdloc.results.films import Album, Film
from crowdloc.results.networks import Network, open_network
from crowdloc.results.recording import POINT_COLUMNS, Located, Recording, write_parquet


class Recorded(NamedTuple):
    """How a recording ended: all of the source was read (`complete`), or the user stopped it (`stopped`)."""

    folder: Path
    frames: int
    heads: int
    complete: bool
    stopped: bool


def locate(source: str | os.PathLike[str] | int, **options: Any) -> pd.DataFrame:
    """Heads in an image, in a folder of images (in the order of their numbers, taken as a video) or in a video.

    Args:
        options: those of `stream`.

    Returns:
        One row per head: frame (file name, or number from 0), x, y (pixels of the original image as viewers show it,
        0-based), score. Its `attrs["counts"]` maps every frame, also those without heads, to its count.

    Raises:
        CrowdlocError: the source is missing or unreadable, or the weights do not fit.
    """
    rows, counts = [], {}
    for found in stream(source, **options):
        counts[found.frame] = len(found.points)
        rows += [(found.frame, x, y, s) for (x, y), s in zip(found.points, found.scores, strict=True)]
    table = pd.DataFrame(rows, columns=list(POINT_COLUMNS))
    table.attrs["counts"] = counts
    return table


def stream(
    source: str | os.PathLike[str] | int,
    *,
    weights: str | os.PathLike[str] | Network | None = None,
    experiment: str | None = None,
    method: str | None = None,
    threshold: float | None = None,
    every: int = 1,
    fps: float | None = None,
    photos: bool = False,
    precision: str = "auto",
) -> Iterator[Located]:
    """As `locate`, frame by frame as soon as its neighbours are there; bounded memory for any length.

    Args:
        source: path, or the number of a camera, which is read until the caller stops.
        weights, experiment, method: whose weights (`open_network`); by default GNANet's. Or the network itself.
        threshold: smallest score; default: the counting threshold that was chosen with these weights.
        every, fps, photos: how the source is read (`open_source`).
        precision: "fp32", "bf16", or "auto": bf16 where the processor has instructions for it (`inference.precision`).

    A video that is cut off and an unreadable image of a folder raise a `CrowdlocWarning`. Where the size of the frames
    changes, a new video begins.
    """
    footage = open_source(source, every=every, fps=fps, photos=photos)
    network, least = _network(weights, experiment, method, threshold)
    for shot, prediction in _predictions(footage, network, choose(precision)):
        assert prediction is not None
        yield _counted(shot, prediction, least)


def record(
    source: str | os.PathLike[str] | int,
    out: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | Network | None = None,
    experiment: str | None = None,
    method: str | None = None,
    threshold: float | None = None,
    every: int = 1,
    fps: float | None = None,
    photos: bool = False,
    precision: str = "auto",
    limit: int | None = None,
    annotate: bool = False,
    parquet: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    stages: Stages | None = None,
) -> Recorded:
    """`stream` into a folder (`results.recording` describes its files), which grows with every frame.

    Stopped by Ctrl-C, a kill or a lack of disk, the same call goes on with the next frame; what was finished is not
    computed again, and a folder with anything else in it is left alone. One signal (SIGINT, SIGTERM) ends the run after
    the frame that it is at; a second one at once.

    Args:
        limit: stop after so many frames of the source, as Ctrl-C would.
        annotate: also `annotated.mp4`, for what has no rate of frames a folder `annotated` with the images. Frames that
            were done before are read again for it.
        parquet: also `points.parquet`.
        overwrite: throw away what an earlier run left in the folder.
        stages: where the time goes is added to it.
    """
    footage = open_source(source, every=every, fps=fps, photos=photos)
    network, least = _network(weights, experiment, method, threshold)
    precision = choose(precision)
    identity = {
        "source": footage.identity or {"camera": footage.name, "started": time.time()},
        **{"every": every, "fps": fps, "photos": photos},
        **{"network": network.id, "weights": network.digest, "threshold": least, "precision": precision},
    }
    folder, stages = Path(out), stages or Stages()
    lost: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    with (
        locked(folder / ".lock", f"the folder {folder}"),
        Recording(folder, identity, overwrite=overwrite) as recording,
        _stopping() as asked,
        _noting(lost),
    ):
        started, done = time.monotonic(), recording.done
        complete = recording.facts["complete"] or None
        if not complete or annotate:
            pictures = _pictures(footage, folder, every) if annotate else None
            pairs = _predictions(footage, network, precision, skip=recording.done, stages=stages)
            _run(footage, pairs, least, recording, pictures, limit, progress, stages, asked)
        stopped = bool(asked)
        reached = limit is not None and recording.done >= limit
        recording.close(
            complete=bool(complete) or not (stopped or reached),
            seconds=time.monotonic() - started if recording.done > done else 0.0,
            about=network.describe(),
            warnings=sorted({*recording.facts.get("warnings", []), *lost}),
            provenance=provenance(),
        )
    if parquet:
        write_parquet(folder)
    facts = recording.facts
    return Recorded(folder, facts["frames"], facts["heads"], facts["complete"], stopped)


def _run(
    footage: Source,
    pairs: Iterator[tuple[Shot, Prediction | None]],
    least: float,
    recording: Recording,
    pictures: Film | Album | None,
    limit: int | None,
    progress: bool,
    stages: Stages,
    asked: list[int],
) -> None:
    before = recording.replay() if pictures is not None else iter(())
    begun = time.perf_counter()
    bar = tqdm(total=footage.total, unit="frame", disable=not progress, file=sys.stderr, dynamic_ncols=True)
    try:
        for shot, prediction in islice(pairs, limit):
            since = time.perf_counter()
            if prediction is not None:
                found = _counted(shot, prediction, least)
                recording.add(found)
                bar.set_postfix_str(f"{len(found.points)} heads", refresh=False)
            if pictures is not None:
                pictures.add(shot.image, found if prediction is not None else next(before))
            stages.add("write", since)
            bar.update()
            if asked:
                break
    finally:
        stages.whole += time.perf_counter() - begun
        bar.close()
        if pictures is not None:
            pictures.close()


def _predictions(
    footage: Source, network: Network, precision: str, *, skip: int = 0, stages: Stages | None = None
) -> Iterator[tuple[Shot, Prediction | None]]:
    shots = footage.shots() if stages is None else stages.timed("read", footage.shots())
    options: dict[str, Any] = {"skip": skip, "alone": footage.photos, "stages": stages, "precision": precision}
    return predict_frames(network.method, shots, image=_image, **options)


def _image(shot: Shot) -> NDArray[np.uint8]:
    return shot.image


def _network(
    weights: str | os.PathLike[str] | Network | None,
    experiment: str | None,
    method: str | None,
    threshold: float | None,
) -> tuple[Network, float]:
    if not isinstance(weights, Network):
        weights = open_network(weights, experiment=experiment, method=method)
    network = weights
    if not network.locates:
        raise CrowdlocError(f"{network.id} counts without locating: choose another method")
    least = network.threshold if threshold is None else threshold
    if least is None:
        raise CrowdlocError(f"{network.path} holds no threshold: give one, or find it with `crowdloc calibrate`")
    return network, float(least)


def _counted(shot: Shot, prediction: Prediction, least: float) -> Located:
    assert prediction.points is not None and prediction.scores is not None
    kept = prediction.scores >= least
    return Located(shot.frame, prediction.points[kept], prediction.scores[kept], shot.time)


def _pictures(footage: Source, folder: Path, every: int) -> Film | Album:
    if footage.kind == "camera":
        return Film(folder, None)
    if footage.kind == "video" or footage.rate is not None:
        return Film(folder, None if footage.rate is None else footage.rate / every)
    return Album(folder)


@contextmanager
def _stopping() -> Iterator[list[int]]:
    """The first SIGINT or SIGTERM is only noted in the list, so that a frame is finished; the second one ends."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        restore()


@contextmanager
def _noting(lost: list[str]) -> Iterator[None]:
    """Put what footage warns of into the list too."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
        if issubclass(category, CrowdlocWarning):
            lost.append(str(message))
        shown(message, category, *where, **options)

    with warnings.catch_warnings():
        warnings.simplefilter("always", CrowdlocWarning)
        warnings.showwarning = show
        yield

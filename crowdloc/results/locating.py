"""Heads in one's own image, folder or video: `crowdloc.locate`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError, CrowdlocWarning, printable
from crowdloc.core.files import read_json
from crowdloc.datasets.files import entries
from crowdloc.datasets.images import read_image
from crowdloc.inference.windows import predict_stream
from crowdloc.models import Method, Prediction
from crowdloc.results import runs
from crowdloc.results.experiments import Experiment, all_experiments
from crowdloc.training.weights import read_about

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
DEFAULT = "synthcrowd-sense-mini/gnanet/seed0"
COLUMNS = ("frame", "x", "y", "score")


class Located(NamedTuple):
    """What was found in a frame: its name or number, points (n, 2) and scores (n,) at or above the threshold."""

    frame: str | int
    points: NDArray[np.float64]
    scores: NDArray[np.float64]


def locate(
    source: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    experiment: str | None = None,
    threshold: float | None = None,
) -> pd.DataFrame:
    """Heads in an image, in a folder of images (in the order of their numbers, taken as a video) or in a video.

    Args:
        weights: safetensors file; it says which network and which counting threshold it was stored with.
        experiment: id of a stored experiment, or what a file without such notes belongs to; default: GNANet trained on
            generated video.
        threshold: smallest score; default: the counting threshold that was chosen with these weights.

    Returns:
        One row per head: frame (file name or number), x, y (pixels of the original image, 0-based), score.

    Raises:
        CrowdlocError: the source is missing or unreadable, or the weights do not fit.
    """
    rows = [
        (found.frame, x, y, score)
        for found in stream(source, weights=weights, experiment=experiment, threshold=threshold)
        for (x, y), score in zip(found.points, found.scores, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def stream(
    source: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    experiment: str | None = None,
    threshold: float | None = None,
) -> Iterator[Located]:
    """As `locate`, frame by frame as soon as its neighbours are there, frames without heads too; bounded memory.

    A video that ends before the number of frames that its file promises raises a `CrowdlocWarning` at its end.
    """
    names, images = _frames(Path(source))
    method, chosen = _network(weights, experiment)
    least = chosen if threshold is None else threshold
    for prediction in predict_stream(method, images):
        yield Located(next(names), *_above(prediction, least))


def _above(prediction: Prediction, threshold: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    assert prediction.points is not None and prediction.scores is not None
    kept = prediction.scores >= threshold
    return prediction.points[kept], prediction.scores[kept]


def _network(weights: str | os.PathLike[str] | None, id: str | None) -> tuple[Method, float]:
    """The network and its counting threshold."""
    path = None if weights is None else Path(weights)
    about = {} if path is None else read_about(path)
    noted = about.get("experiment", {}).get("id")
    if path is not None and noted is None and id is None:
        raise CrowdlocError(f"{path} does not say which network it holds: name it, e.g. --experiment {DEFAULT}")
    if noted is not None and id is not None and noted != id:
        raise CrowdlocError(f"{path} holds weights of {noted}, not of {id}: leave --experiment away")
    experiment = Experiment.parse(noted or id or DEFAULT)
    if "points" not in runs.yields(experiment):
        raise CrowdlocError(f"{experiment.id} counts without locating: choose another method")
    if path is None:
        path = runs.find_weights(experiment)
    if path is None:
        known = [e.id for e in all_experiments() if (runs.stored(e) / runs.WEIGHTS).is_file()]
        hint = f"choose one of {', '.join(known)}" if known else "clone the repository, which holds some"
        raise CrowdlocError(f"no weights of {experiment.id}: {hint}, or pass weights=")
    threshold = about.get("threshold")
    if threshold is None:
        threshold = read_json(runs.stored(experiment) / runs.METRICS)["counting_threshold"]
    return runs.load_model(experiment, path), float(threshold)


def _frames(path: Path) -> tuple[Iterator[str | int], Iterator[NDArray[np.uint8]]]:
    """Names or numbers of the frames, and the frames; what can be known is checked at once."""
    if path.is_dir():
        files = [p for p in entries(path, "*") if p.suffix.lower() in IMAGES]
        if not files:
            raise CrowdlocError(f"{path} holds no image ({', '.join(IMAGES)}): give another folder")
        return iter([printable(p.name) for p in files]), (read_image(p) for p in files)
    if not path.is_file():
        raise CrowdlocError(f"{path} not found: give an image, a folder of images or a video")
    if path.suffix.lower() in IMAGES:
        return iter([printable(path.name)]), iter([read_image(path)])
    return _numbers(), _video(path)


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def _video(path: Path) -> Iterator[NDArray[np.uint8]]:
    import cv2

    capture = cv2.VideoCapture(str(path))
    try:
        promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        number = 0
        read, frame = capture.read()
        if not read:
            raise CrowdlocError(f"{path} cannot be decoded as a video: convert it, for example to H.264 in .mp4")
        while read:
            number += 1
            yield np.ascontiguousarray(frame[..., ::-1])
            read, frame = capture.read()
    finally:
        capture.release()
    if number < promised:
        message = f"{path} ends after {number} of {promised} frames: it is truncated or damaged"
        warnings.warn(message, CrowdlocWarning, stacklevel=2)

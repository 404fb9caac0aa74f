"""Heads in one's own image, folder or video: `crowdloc.locate`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.paths import RESULTS
from crowdloc.datasets.images import read_image
from crowdloc.inference.windows import sequence_maps
from crowdloc.models import Localizer
from crowdloc.models.decoding import find_peaks
from crowdloc.results import runs
from crowdloc.results.experiments import Experiment, all_experiments, get_experiment
from crowdloc.training.weights import load_weights

_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_DEFAULT = "synthcrowd-mini/gnanet/seed0"


def locate(
    source: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    experiment: str = _DEFAULT,
    threshold: float | None = None,
) -> pd.DataFrame:
    """Heads in an image, in a folder of images (in the order of their names, taken as a video) or in a video.

    Args:
        weights: safetensors file of the network of `experiment`; default: the stored ones.
        threshold: smallest score; default: the counting threshold that was chosen with these weights.

    Returns:
        One row per head: frame (file name or number), x, y (pixels of the original image, 0-based), score.

    Raises:
        CrowdlocError: the source is missing or unreadable, or the weights do not fit.
    """
    path = Path(source)
    chosen = get_experiment(experiment)
    model = _model(chosen, weights)
    if threshold is None:
        threshold = float(runs.stored_metrics(chosen)["counting_threshold"])
    rows = []
    for name, probability in _maps(model, path):
        found = find_peaks(probability)
        rows += [(name, x, y, s) for (x, y), s in zip(found.points, found.scores, strict=True) if s >= threshold]
    return pd.DataFrame(rows, columns=["frame", "x", "y", "score"])


def _model(experiment: Experiment, weights: str | os.PathLike[str] | None) -> Localizer:
    stored = RESULTS / experiment.id / runs.WEIGHTS
    if weights is None and not stored.is_file():
        known = [e.id for e in all_experiments() if (RESULTS / e.id / runs.WEIGHTS).is_file()]
        raise CrowdlocError(
            f"no stored weights for {experiment.id}: clone the repository (it holds {len(known)}) or pass weights="
        )
    model = runs.untrained(experiment)
    return load_weights(Path(weights) if weights else stored, model)


def _maps(model: Localizer, path: Path) -> Iterator[tuple[str | int, NDArray[np.float32]]]:
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in _IMAGES)
        if not files:
            raise CrowdlocError(f"{path} holds no image ({', '.join(_IMAGES)}): give another folder")
        names: list[str | int] = [p.name for p in files]
        yield from zip(names, sequence_maps(model, (read_image(p) for p in files)), strict=True)
    elif not path.is_file():
        raise CrowdlocError(f"{path} not found: give an image, a folder of images or a video")
    elif path.suffix.lower() in _IMAGES:
        yield path.name, next(sequence_maps(model, iter([read_image(path)])))
    else:
        yield from enumerate(sequence_maps(model, _video(path)))


def _video(path: Path) -> Iterator[NDArray[np.uint8]]:
    import cv2

    capture = cv2.VideoCapture(str(path))
    try:
        read, frame = capture.read()
        if not read:
            raise CrowdlocError(f"{path} cannot be decoded as a video: convert it, for example to H.264 in .mp4")
        while read:
            yield np.ascontiguousarray(frame[..., ::-1])
            read, frame = capture.read()
    finally:
        capture.release()

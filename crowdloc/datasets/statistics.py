"""How crowded, how large and how close: distributions of counts, head sizes and distances of any data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.datasets.images import image_size

if TYPE_CHECKING:
    import pandas as pd

LEVELS = (5, 25, 50, 75, 95)  # quantiles that are stored and printed, percent
EDGES = 2.0 ** (np.arange(-6, 37) / 3)  # of all histograms: thirds of an octave from 0.25 to 4096


def box_sides(boxes: np.ndarray) -> np.ndarray:
    """Square root of the area of every box (n, 4); (n,) float64."""
    return np.sqrt(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0).prod(axis=1))


def nearest(points: np.ndarray) -> np.ndarray:
    """Distance from every point (n, 2) to the nearest other one, (n,) float64; of a single point (0,)."""
    from scipy.spatial import cKDTree

    return cKDTree(points).query(points, k=2)[0][:, 1] if len(points) > 1 else np.zeros(0)


def spread(values: np.ndarray) -> dict[str, Any]:
    """Number, mean, quantiles at LEVELS and histogram over EDGES of `values` (n,), as JSON values.

    What lies below the first edge (no heads, distance 0) is in `n`, not in the histogram.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return {"n": 0, "mean": None, "quantiles": [None] * len(LEVELS), "histogram": [0] * (len(EDGES) - 1)}
    return {
        "n": len(values),
        "mean": round(float(values.mean()), 4),
        "quantiles": [round(float(q), 4) for q in np.percentile(values, LEVELS)],
        "histogram": np.histogram(values, EDGES)[0].tolist(),
    }


def _scale(frame: Frame, height: float | None) -> float:
    """Factor from the frame's pixels to those of an image `height` pixels high."""
    return 1.0 if height is None else height / image_size(frame.path)[1]


def heads_per_frame(dataset: ClipDataset) -> np.ndarray:
    """Annotated heads of every frame, (len(dataset),) int64."""
    return np.array([len(frame.points) for frame in dataset.frames], dtype=np.int64)


def box_sizes(dataset: ClipDataset, *, height: float | None = None) -> np.ndarray:
    """Square root of the area of every box, in pixels, or in pixels of images scaled to `height`; (n,) float64.

    Empty where a set has no boxes.
    """
    sizes = []
    for frame in dataset.frames:
        if frame.boxes is not None and len(frame.boxes):
            sizes.append(box_sides(frame.boxes) * _scale(frame, height))
    return np.concatenate(sizes) if sizes else np.zeros(0)


def nearest_distances(dataset: ClipDataset, *, height: float | None = None) -> np.ndarray:
    """Distance from every head to the nearest other head of its frame, in pixels (scaled to `height`); (n,) float64.

    Frames with fewer than two heads give none.
    """
    found = [nearest(frame.points) * _scale(frame, height) for frame in dataset.frames if len(frame.points) > 1]
    return np.concatenate(found) if found else np.zeros(0)


def summarise(dataset: ClipDataset, *, height: float | None = None) -> pd.DataFrame:
    """Number, mean and quantiles of counts, box sizes and nearest distances; index: the quantity."""
    import pandas as pd

    quantities = {
        "heads per frame": heads_per_frame(dataset),
        "box size": box_sizes(dataset, height=height),
        "nearest head": nearest_distances(dataset, height=height),
    }
    rows = {
        name: pd.Series(values, dtype=float).describe(percentiles=[0.05, 0.25, 0.5, 0.75, 0.95])
        for name, values in quantities.items()
    }
    table = pd.DataFrame(rows).T.drop(columns="std")
    table["count"] = table["count"].astype(int)
    return table

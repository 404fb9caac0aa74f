"""What is no method, beside the tables of localization: centres of annotated boxes, and points drawn anywhere.

`python -m crowdloc.studies.yardsticks [--data-root FOLDER]` makes the study `random_points`. The centres of boxes
follow from the annotations in a second or two: they are computed whenever they are asked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.datasets.images import image_size
from crowdloc.metrics import COLUMNS, localization_scores, sigma_scale
from crowdloc.models.detectors import oracle_predictions
from crowdloc.models.method import Prediction
from crowdloc.results.comparing import generated_frames
from crowdloc.results.experiments import SOURCES, Experiment
from crowdloc.studies.stored import read_study, write_study

BOXES, RANDOM = "centres of the annotated boxes", "random points"
STUDY = "random_points"
DATA = ("synthcrowd-sense", "synthcrowd-fdst", "synthcrowd-sha", "synthcrowd-shb", "shanghaitech_a", "shanghaitech_b")
DRAWS = 5


def box_centres(data: str, preset: str = "mini", root: str | Path | None = None) -> pd.DataFrame:
    """The scores of a detector whose boxes are the annotated ones: what the rule "box centre = head" can reach at most.

    Returns:
        As `localization_scores`, on the test images.

    Raises:
        CrowdlocError: the data set has no boxes.
    """
    test = annotated(data, preset) if SOURCES[data].generated else _test_images(data, preset, root)
    return _scores(oracle_predictions(test), test, f"{data}-{preset}")


def annotated(data: str, preset: str = "mini") -> ClipDataset:
    """Test frames of generated data with their annotations, as the code makes them; there are no images behind them."""
    return ClipDataset(generated_frames(data, preset), name=data)


def offsets(data: str, preset: str = "mini") -> pd.Series:
    """Pixels (σ's, 1080p-equivalent for `mini`) from heads to the centres of their boxes on generated test images."""
    frames = annotated(data, preset).frames
    between = [(f.boxes[:, :2] + f.boxes[:, 2:]) / 2 - f.points for f in frames if f.boxes is not None]
    x, y = np.concatenate(between).T * sigma_scale(f"{data}-{preset}")
    distance = np.hypot(x, y)
    return pd.Series({"right": x.mean(), "down": y.mean(), "distance": distance.mean(), "median": np.median(distance)})


def drawn(test: ClipDataset, sizes: Sequence[tuple[int, int]], seed: int) -> list[Prediction]:
    """As many points in every image of (width, height) as it has heads, uniform over it, with random scores."""
    generator, found = np.random.default_rng(seed), []
    for frame, (width, height) in zip(test.frames, sizes, strict=True):
        points = generator.uniform((-0.5, -0.5), (width - 0.5, height - 0.5), (len(frame.points), 2))
        found.append(Prediction(points, np.sort(generator.random(len(points)))[::-1]))
    return found


def make(data: Sequence[str] = DATA, *, draws: int = DRAWS, root: str | Path | None = None) -> pd.DataFrame:
    """Columns data, images, draws, sigma and the six metrics, means over the draws, of the `mini` preset's images."""
    rows = []
    for name in data:
        print(f"{STUDY}: {name}", file=sys.stderr)
        test = _test_images(name, "mini", root)
        sizes = [image_size(frame.path) for frame in test.frames]
        found = [_scores(drawn(test, sizes, seed), test, f"{name}-mini") for seed in range(draws)]
        mean = sum(found[1:], found[0]) / draws
        for sigma, row in mean.iterrows():
            about = {"data": name, "images": len(test), "draws": draws, "sigma": int(str(sigma))}
            rows.append(about | {column: round(float(row[column]), 4) for column in COLUMNS})
    return pd.DataFrame(rows)


def random_points(data: str) -> pd.DataFrame:
    """What is stored of them for one data set, as `localization_scores` has it."""
    rows = read_study(STUDY)
    rows = rows[rows["data"] == data]
    if rows.empty:
        raise CrowdlocError(f"study {STUDY} has no data set {data!r}: make it again")
    return rows.set_index("sigma")[list(COLUMNS)].astype(float)


def _test_images(data: str, preset: str, root: str | Path | None) -> ClipDataset:
    return Experiment(data, preset, "raznet", 0).load("test", root)


def _scores(predictions: Sequence[Prediction], test: ClipDataset, group: str) -> pd.DataFrame:
    pairs = [(p.points, p.scores) for p in predictions if p.points is not None and p.scores is not None]
    return localization_scores(pairs, [frame.points for frame in test.frames], scale=sigma_scale(group))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m crowdloc.studies.yardsticks", description="Draw points anywhere.")
    parser.add_argument("--data-root", help="folder of the real data sets")
    options = parser.parse_args(arguments)
    try:
        print(write_study(STUDY, make(root=options.data_root), {"points": "as many as an image has heads"}))
    except CrowdlocError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()

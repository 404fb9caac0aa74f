"""Time of `localization_scores` against pycocotools, and the adapter that makes pycocotools compute the same.

Run `python -m crowdloc.benchmarks.matching`: a minute or more, nearly all of it in pycocotools.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crowdloc.metrics.localization import COLUMNS, SIGMAS, localization_scores

Images = list[tuple[NDArray[np.float64], NDArray[np.float64]]]


def pycocotools_scores(
    predictions: Images, ground_truth: Sequence[NDArray[np.float64]], sigmas: Sequence[float] = SIGMAS
) -> pd.DataFrame:
    """What `localization_scores` computes, by pycocotools' COCOeval without a limit on detections.

    Area σ² and a key-point constant of 1/2 make its similarity exp(-d² / (2σ²)); for σ < 2 it differs from
    that by the tiny number that pycocotools adds to the area. Ids start at 1, since it takes id 0 for "not
    matched".
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rows = []
    for sigma in sigmas:
        common = {
            "category_id": 1,
            "num_keypoints": 1,
            "area": float(sigma) ** 2,
            "bbox": [0, 0, 1, 1],
            "iscrowd": 0,
        }
        heads = [
            {"image_id": image, "keypoints": [float(x), float(y), 2], **common}
            for image, truth in enumerate(ground_truth, 1)
            for x, y in truth
        ]
        found = [
            {"image_id": image, "keypoints": [float(x), float(y), 2], "score": float(score), **common}
            for image, (points, scores) in enumerate(predictions, 1)
            for (x, y), score in zip(points, scores, strict=True)
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            coco = []
            for annotations in (heads, found):
                index = COCO()
                index.dataset = {
                    "images": [{"id": image} for image in range(1, len(ground_truth) + 1)],
                    "categories": [{"id": 1, "name": "head"}],
                    "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations, 1)],
                }
                index.createIndex()
                coco.append(index)
            evaluation = COCOeval(*coco, iouType="keypoints")
            evaluation.params.kpt_oks_sigmas = np.array([0.5])
            evaluation.params.maxDets = [max([1, *(len(points) for points, _ in predictions)])]
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
            evaluation.evaluate()
            evaluation.accumulate()
        precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
        parts = (precision[0], precision[5], precision, recall[0], recall[5], recall)
        rows.append([np.mean(part[part > -1]) if (part > -1).any() else np.nan for part in parts])
    return pd.DataFrame(rows, columns=list(COLUMNS), index=pd.Index(sigmas, name="sigma"))


def random_crowd(images: int, heads: int, *, seed: int = 0) -> tuple[Images, list[NDArray[np.float64]]]:
    """Frames of 1920 × 1080 with as many detections as heads: jittered heads, some missed, some false."""
    rng = np.random.default_rng(seed)
    predictions, ground_truth = [], []
    for _ in range(images):
        truth = rng.uniform((0, 0), (1920, 1080), (heads, 2))
        found = truth[rng.random(heads) < 0.85]
        found = found + rng.normal(0, 6, found.shape)
        false = rng.uniform((0, 0), (1920, 1080), (heads - len(found), 2))
        points = np.concatenate([found, false])
        predictions.append((points, rng.random(len(points))))
        ground_truth.append(truth)
    return predictions, ground_truth


def main(images: int = 50, heads: int = 200) -> None:
    predictions, ground_truth = random_crowd(images, heads)
    started = time.perf_counter()
    expected = pycocotools_scores(predictions, ground_truth)
    slow = time.perf_counter() - started
    times = []
    for _ in range(7):
        started = time.perf_counter()
        scores = localization_scores(predictions, ground_truth)
        times.append(time.perf_counter() - started)
    fast = float(np.median(times))
    print(f"{images} images of {heads} heads, sigma {', '.join(map(str, SIGMAS))}")
    print(f"pycocotools {slow:.2f} s, crowdloc {fast * 1e3:.1f} ms (median of 7): {slow / fast:.0f}x faster")
    print(f"equal to the last bit: {'yes' if scores.equals(expected) else 'NO'}")


if __name__ == "__main__":
    main()

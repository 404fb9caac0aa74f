"""From generated to real images: RAZNet trained on SynthCrowd, tested on Mall and ShanghaiTech B (design §8).

A network trained here has seen heads of 8 to 20 pixels. Real images are therefore tested twice: as they are, and scaled
to the height of SynthCrowd's mini frames. Neither was chosen by a result. Distances count in pixels of the original.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write, read_json
from crowdloc.core.paths import BUILD, RESULTS
from crowdloc.datasets import load
from crowdloc.datasets.base import ClipDataset
from crowdloc.datasets.images import image_size
from crowdloc.inference.windows import predict
from crowdloc.metrics import counting_errors, sigma_scale
from crowdloc.models import Localizer
from crowdloc.models.decoding import Detections
from crowdloc.models.recipes import get_preset
from crowdloc.results import evidence as ev
from crowdloc.results.experiments import RECIPES, get_experiment
from crowdloc.results.runs import stored_model
from crowdloc.training.loop import new_model, train

DOMAINS = ("sense", "fdst", "sha", "shb")
REAL = ("mall", "shanghaitech_b")
STRIDE = 4  # every fourth test image
MINI_HEIGHT = 288
# SynthCrowd's video domain and the one that stands for ShanghaiTech B thrice, the others once
SEEDS = {"sense": (0, 1, 2), "shb": (0, 1, 2), "fdst": (0,), "sha": (0,), "shanghaitech_b": (0,), "mall": (0,)}


class Resized(ClipDataset):
    """A data set of single images scaled to one height; points stay in pixels of the original."""

    def __init__(self, dataset: ClipDataset, height: int) -> None:
        super().__init__(dataset.frames, name=dataset.name, num_frames=1)
        self.height = height

    def image(self, index: int) -> NDArray[np.uint8]:
        image = super().image(index)
        size = self._width(image.shape[1], image.shape[0]), self.height
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)

    def _width(self, width: int, height: int) -> int:
        return round(width * self.height / height)

    def predict(self, model: Localizer) -> list[Detections]:
        """Detections in pixels of the original images."""
        found = []
        for frame, detections in zip(self.frames, predict(model, self), strict=True):
            width, height = image_size(frame.path)
            scale = np.array([width / self._width(width, height), height / self.height])
            found.append(Detections((detections.points + 0.5) * scale - 0.5, detections.scores))
        return found


def run(domain: str, seed: int, root: str | Path | None = None) -> list[dict[str, Any]]:
    """Train RAZNet on a SynthCrowd domain, or on ShanghaiTech B itself, and test it: one row per test.

    "mall" trains nothing: the stored weights of notebook 20 are tested on the same frames as the others.
    """
    threshold, model = _trained(domain, seed, root)
    rows = []
    for name in REAL:
        test = load(name, root, "test", num_frames=1)
        test = test.subset(range(0, len(test), STRIDE))
        for height in (None, MINI_HEIGHT) if domain in DOMAINS else (None,):
            detections = predict(model, test) if height is None else Resized(test, height).predict(model)
            rows.append(_row(domain, name, height, seed, ev.match(detections, test, scale=1.0), threshold))
    if domain in DOMAINS:
        test = load("synthcrowd", None, "test", domain=domain, num_frames=1)
        found = ev.match(predict(model, test), test, scale=sigma_scale("synthcrowd-mini"))
        rows.append(_row(domain, f"synthcrowd {domain}", None, seed, found, threshold))
    return rows


def _trained(domain: str, seed: int, root: str | Path | None) -> tuple[float, Localizer]:
    """The network, and the counting threshold that is best on validation images of what it was trained on."""
    if domain == "mall":
        experiment = get_experiment(f"mall-mini/raznet/seed{seed}")
        return read_json(RESULTS / experiment.id / "metrics.json")["counting_threshold"], stored_model(experiment)
    chosen = RECIPES["synthcrowd-mini"]
    recipe = replace(
        get_preset("mini"),
        steps=chosen.steps,
        batch_size=chosen.batch_size,
        learning_rate=chosen.learning_rates["raznet"],
    )
    splits = {}
    for split in ("train", "val"):
        generated = {"domain": domain} if domain in DOMAINS else {}
        splits[split] = load(
            "synthcrowd" if generated else domain, None if generated else root, split, num_frames=1, **generated
        )
    folder = BUILD / "transfer" / domain / f"seed{seed}"
    model = train(new_model("raznet", recipe, seed, splits["train"]), splits["train"], recipe, seed=seed, out=folder)
    scale = sigma_scale("synthcrowd-mini") if domain in DOMAINS else 1.0
    return ev.match(predict(model, splits["val"]), splits["val"], scale=scale).best_counting_threshold(), model


def _row(
    trained: str, tested: str, height: int | None, seed: int, found: ev.Evidence, threshold: float
) -> dict[str, Any]:
    counts = found.counts(threshold)
    return (
        {"trained on": trained, "tested on": tested, "height": str(height or "as is"), "seed": seed}
        | {"images": len(found.images), "heads per image": round(float(found.heads.mean()), 1)}
        | {f"mAP σ{sigma}": round(row["mAP"], 3) for sigma, row in found.localization.items()}
        | {
            "AP.50 σ20": round(found.localization["20"]["AP.50"], 3),
            "mAR σ20": round(found.localization["20"]["mAR"], 3),
        }
        | {"MAE": round(counting_errors(counts, found.heads)["MAE"], 1)}
    )


def run_all(root: str | Path | None = None, *, part: tuple[int, int] = (0, 1)) -> Path:
    """Make what is missing, then write `build/studies/transfer.csv`, which is returned; `part` as in `run_study`."""
    jobs = [(domain, seed) for domain, seeds in SEEDS.items() for seed in seeds]
    rows = []
    for index, (domain, seed) in enumerate(jobs):
        done = BUILD / "transfer" / domain / f"seed{seed}" / "rows.json"
        if not done.exists() and index % part[1] == part[0]:
            print(f"transfer: {domain}, seed {seed}", file=sys.stderr)
            made = run(domain, seed, root)
            with atomic_write(done) as temporary:
                temporary.write_text(json.dumps(made))
        if done.exists():
            rows += json.loads(done.read_text())
    path = BUILD / "studies" / "transfer.csv"
    with atomic_write(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, lineterminator="\n")
    return path


def table(path: Path = RESULTS / "studies" / "transfer.csv") -> pd.DataFrame:
    """The stored study, means over seeds, one row per training set, test set and height."""
    if not path.is_file():
        raise CrowdlocError(
            f"{path} not found: restore it from version control, or run `python -m crowdloc.studies.transfer`"
        )
    grouped = pd.read_csv(path, dtype={"height": str}).groupby(["trained on", "tested on", "height"], sort=False)
    means = grouped.mean(numeric_only=True).drop(columns="seed")
    return means.assign(seeds=grouped["seed"].nunique()).reset_index()


def as_text() -> str:
    """The stored study for a notebook: what a network was trained on, tested on, at which height, and its scores."""
    shown = table().drop(columns="heads per image").astype({"images": int})
    digits = {"MAE": "{:.1f}".format}
    return shown.to_string(index=False, formatters=digits, float_format="{:.3f}".format)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m crowdloc.studies.transfer", description=__doc__)
    parser.add_argument("--data-root")
    parser.add_argument("--part", nargs=2, type=int, default=(0, 1), metavar=("I", "N"), help="every N-th training")
    arguments = parser.parse_args()
    print(run_all(arguments.data_root, part=tuple(arguments.part)))


if __name__ == "__main__":
    main()

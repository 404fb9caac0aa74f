"""Networks for one's own footage: train or fine-tune on a folder of annotated frames, evaluate, choose a threshold.

No frame of the split "test" is ever trained or calibrated on. `datasets.own` describes the folder.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import write_json
from crowdloc.core.locking import is_held_for_us, locked
from crowdloc.core.paths import BUILD
from crowdloc.core.provenance import describe as provenance
from crowdloc.datasets.base import ClipDataset
from crowdloc.datasets.own import describe, load_own
from crowdloc.datasets.photos import photo_size
from crowdloc.models.recipes import Recipe, get_preset
from crowdloc.results.evidence import Evidence
from crowdloc.results.networks import METHOD, Network, open_network, preferred
from crowdloc.results.runs import TRAINING, WEIGHTS
from crowdloc.results.scoring import measure, metrics, score
from crowdloc.training.loop import is_main_process, new_model
from crowdloc.training.loop import train as train_model
from crowdloc.training.weights import read_about, rounded, save_weights

DATA = "own"  # the name under which experiments on such folders go
SCRATCH = "scratch"
_CROP = 256  # pixels
_STEPS, _RATE = {True: 300, False: 1600}, {True: 1e-3, False: 4e-3}  # fine-tuning; from scratch
_BATCH = 4


def train(
    folder: str | os.PathLike[str],
    *,
    method: str = METHOD,
    start: str | os.PathLike[str] | Network | None = None,
    steps: int | None = None,
    seed: int = 0,
    photos: bool = False,
    out: Path | None = None,
    progress: bool = True,
    devices: int | str = "auto",
) -> Path:
    """Train a network on the train split of a folder and choose its threshold on the val split; the weights' path.

    An interrupted training goes on where it stopped. The file is complete in itself: `locate` needs nothing else.

    Args:
        start: weights file, id of an experiment or network to go on from, all layers; default: the stored weights of
            the method, if there are any; "scratch": random weights. What fits by name and shape is taken over.
        steps: default 300 from given weights, 1600 from scratch, of four 256×256 crops; a few minutes of two cores.
        out: default `build/own/<name of the folder>/<method>`.

    Raises:
        CrowdlocError: the folder is not as described in `datasets.own`, or `out` holds another training.
    """
    training, validation = (load_own(folder, split, photos=photos) for split in ("train", "val"))
    begun = _start(method, start)
    recipe = _recipe(training, begun, steps)
    facts = {} if begun is None else begun.about["experiment"]
    same = begun is not None and facts["method"] == method
    options, variant = (dict(facts["options"]), facts.get("variant", "")) if same else ({}, "")
    about = _about(training, method, recipe, seed, options, variant, begun)
    target = out or BUILD / DATA / re.sub(r"[^\w.-]", "_", training.name) / method
    lock = target / ".lock"
    if is_held_for_us(lock):  # a further process of this training
        return _train(training, validation, recipe, seed, begun, about, target, progress, devices)
    with locked(lock, f"the training in {target}"):
        if (target / WEIGHTS).is_file() and not _agree(read_about(target / WEIGHTS), about):
            raise CrowdlocError(f"{target} holds another training: choose another folder (--out) or delete it")
        return _train(training, validation, recipe, seed, begun, about, target, progress, devices)


def _train(
    training: ClipDataset,
    validation: ClipDataset,
    recipe: Recipe,
    seed: int,
    begun: Network | None,
    about: dict[str, Any],
    out: Path,
    progress: bool,
    devices: int | str,
) -> Path:
    facts = about["experiment"]
    model = new_model(facts["method"], recipe, seed, training, **facts["options"])
    if begun is not None:
        own = model.state_dict()
        taken = {k: v for k, v in begun.method.state_dict().items() if k in own and own[k].shape == v.shape}
        model.load_state_dict(taken, strict=False)
    words = (
        f"{len(training)} frames, {len(validation)} for validation; {recipe.steps} steps of {recipe.batch_size} clips"
    )
    if progress:
        print(f"{facts['id']}: {words}, from {facts['start'] or 'random weights'}", file=sys.stderr)
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)  # it tells the precision
    started = time.monotonic()
    model = train_model(model, training, recipe, seed=seed, out=out, about=about, progress=progress, devices=devices)
    if not is_main_process():
        return out / WEIGHTS
    model = rounded(model)
    found = measure(model, validation, progress=progress)
    threshold = found.best_counting_threshold() if isinstance(found, Evidence) else None
    save_weights(out / WEIGHTS, model, about=about | {"threshold": threshold})
    facts = about | {"threshold": threshold, "seconds": round(time.monotonic() - started, 1)}
    write_json(out / TRAINING, facts | {"validation": metrics(found, threshold), "provenance": provenance()})
    return out / WEIGHTS


def evaluate(
    folder: str | os.PathLike[str],
    network: Network,
    *,
    split: str | None = None,
    threshold: float | None = None,
    photos: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Metrics of a network on a folder: split, images, heads, localization by σ (pixels of the image), counting, F1.

    Args:
        split: default "test" where the network has seen this folder in training or calibration, else "all".
        threshold: of the score, for counting; default: the network's.
    """
    if split is None:
        split = "test" if _has_seen(network, load_own(folder, photos=photos)) else "all"
    dataset = load_own(folder, split, photos=photos)
    return score(network, dataset, split, threshold=threshold, progress=progress)


def calibrate(
    folder: str | os.PathLike[str],
    network: Network,
    out: Path | None = None,
    *,
    split: str = "trainval",
    photos: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """The score threshold that counts a folder's frames best (smallest MAE): a few annotated frames are enough.

    Args:
        out: a copy of the weights, complete in itself, that counts with it; a file that exists is not replaced.
        split: default: all but the test split.

    Returns:
        images, threshold, MAE with it, `before`: the network's own threshold, `MAE before`, and `out`.
    """
    if out is not None and out.exists():
        raise CrowdlocError(f"{out} exists: choose another name (--out)")
    dataset = load_own(folder, split, photos=photos)
    found = measure(network.method, dataset, progress=progress)
    if not isinstance(found, Evidence):
        raise CrowdlocError(f"{network.id} counts without locating: it has no threshold to choose")
    best, before = found.best_counting_threshold(), network.threshold
    errors = [None if t is None else found.metrics(t)["counting"]["MAE"] for t in (best, before)]
    if out is not None:
        recipe = network.about["experiment"]["recipe"] | {"frozen": False}
        about = {k: v for k, v in network.about.items() if k != "backbone"}
        about |= {"experiment": network.about["experiment"] | {"recipe": recipe}}
        about |= {"threshold": best, "calibrated": describe(dataset)}
        save_weights(out, network.method, about=about)
    return {
        **{"images": len(dataset), "threshold": best, "MAE": errors[0]},
        **{"before": before, "MAE before": errors[1], "out": None if out is None else str(out)},
    }


def _start(method: str, start: str | os.PathLike[str] | Network | None) -> Network | None:
    if start == SCRATCH:
        return None
    if start is None:
        return None if preferred(method) is None else open_network(method=method)
    if isinstance(start, Network):
        return start
    return open_network(start) if Path(start).is_file() else open_network(experiment=os.fspath(start))


def _recipe(training: ClipDataset, begun: Network | None, steps: int | None) -> Recipe:
    """The mini preset's way of training, the size of the network as it begins."""
    if steps is not None and steps < 1:
        raise CrowdlocError(f"steps={steps}: give a whole number of at least 1")
    sizes = [photo_size(frame.path) for frame in training.frames]
    crop = tuple(min(_CROP, *(size[axis] for size in sizes)) for axis in (1, 0))
    fine = begun is not None
    network = {}
    if begun is not None:
        before = begun.about["experiment"]["recipe"]
        network = {name: before[name] for name in ("width", "norm", "network")}
    return get_preset("mini").with_options(
        **network, crop=crop, batch_size=_BATCH, steps=steps or _STEPS[fine], learning_rate=_RATE[fine]
    )


def _about(
    training: ClipDataset,
    method: str,
    recipe: Recipe,
    seed: int,
    options: dict[str, Any],
    variant: str,
    begun: Network | None,
) -> dict[str, Any]:
    """What the weights' file says of itself, in the words of `Experiment.describe`."""
    from crowdloc.models.decoding import SCORE_FLOOR

    own = describe(training)
    experiment = {
        **{"id": f"{DATA}/{own['name']}/{method}/seed{seed}", "data": DATA, "preset": "mini", "method": method},
        **{"variant": variant, "seed": seed, "options": options, "recipe": asdict(recipe), "score_floor": SCORE_FLOOR},
        "start": None if begun is None else begun.id,
    }
    facts = {"experiment": experiment, "own": own, "sigma_scale": 1.0}
    return facts | ({} if begun is None else {"start weights": begun.digest})


def _agree(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    import json

    return {k: before.get(k) for k in now} == json.loads(json.dumps(now))


def _has_seen(network: Network, dataset: ClipDataset) -> bool:
    digest = describe(dataset)["digest"]
    return digest in {network.about.get(key, {}).get("digest") for key in ("own", "calibrated")}

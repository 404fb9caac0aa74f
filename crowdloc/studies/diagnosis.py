"""What GNA hands to the head of a trained GNANet: how sharp its attention is and what its sum is made of."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from crowdloc.attention import module_seed
from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.datasets.files import choose
from crowdloc.models import GNANet, normalise
from crowdloc.results import runs
from crowdloc.results.experiments import Experiment


def attention_inputs(id: str, *, images: int = 8, source: str = "stored") -> tuple[GNANet, dict[str, Tensor]]:
    """A GNANet and what its cross-attention works on, for some validation clips.

    "context" (B, C, H, W) is the query; "keyframe" (B, C, H, W) and "clips" (B, T, C, H, W) are keys and values.

    Args:
        source: "train" takes the network that was trained here, and trains it if there is none; else the stored one.
    """
    model, validation = network(id, source)
    chosen = range(0, len(validation), max(1, len(validation) // images))[:images]
    with torch.inference_mode():
        clips = torch.stack([features(model, validation, index) for index in chosen])
        context = torch.cat([model.scene_context(model.scene(clip[None])) for clip in clips])
    return model, {"context": context, "keyframe": clips[:, model.keyframe], "clips": clips}


def network(id: str, source: str = "stored") -> tuple[GNANet, ClipDataset]:
    """A GNANet with keyframe and temporal attention, and its validation clips; `source` as in `attention_inputs`.

    Raises:
        CrowdlocError: the experiment is another network.
    """
    experiment = Experiment.parse(id)
    choose("source", source, runs.DEPTHS)
    model = runs.load_model(experiment, _trained(experiment) if source == "train" else None)
    if not isinstance(model, GNANet) or model.keyframe_gna is None or model.temporal_gna is None:
        raise CrowdlocError(f"{id} is no GNANet with keyframe and temporal attention: name one that is")
    return model, experiment.load("val")


def _trained(experiment: Experiment) -> Path:
    """Weights that were trained here, now if need be."""
    folder = runs.trained(experiment)
    if not (folder / runs.TRAINING).is_file():
        runs.train(experiment)
    return folder / runs.WEIGHTS


def features(model: GNANet, dataset: ClipDataset, index: int) -> Tensor:
    """Features (T, C, H, W) of the frames around one."""
    frames = np.stack([dataset.image(i) for i in dataset.neighbours(index, model.offsets)])
    return model.encode(normalise(torch.from_numpy(frames)))[0]


def fusion_terms(id: str, *, images: int = 8, source: str = "stored") -> pd.DataFrame:
    """The terms of the sum that enters the head (§IV-B3), over validation clips of a GNANet (see `attention_inputs`).

    Columns: `share of sum` that a term accounts for (its covariance with the sum over the variance of the sum; the
    shares add to 1); `variance`, of which `fine` is the part that a 3×3 mean takes away, both in units of the keyframe
    feature's variance; `fine share` (`fine` over `variance`); and `like a plain average` (correlation of an attention
    output with the average of the same draws without scores).
    """
    model, inputs = attention_inputs(id, images=images, source=source)
    keyframe, clips, context = inputs["keyframe"], inputs["clips"], inputs["context"]
    with torch.inference_mode():
        terms = {"keyframe feature": keyframe}
        plain = {}
        for name, module, key in (
            ("keyframe GNA", model.keyframe_gna, keyframe),
            ("temporal GNA", model.temporal_gna, clips),
        ):
            assert module is not None  # attention_inputs has made sure
            seed = module_seed(model.run_seed, name.split()[0], None)
            terms[name] = module(context, key, key, seed=seed)
            plain[name] = module(torch.zeros_like(context), key, key, seed=seed)  # equal scores
        total = torch.stack(list(terms.values())).sum(dim=0)
    unit = _covariance(keyframe, keyframe)
    rows = {}
    for name, term in (terms | {"sum": total}).items():
        variance, fine = _covariance(term, term), _fine_variance(term)
        rows[name] = {
            "share of sum": _covariance(term, total) / _covariance(total, total),
            "variance": variance / unit,
            "fine": fine / unit,
            "fine share": fine / variance,
            "like a plain average": _correlation(term, plain[name]) if name in plain else math.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(dim=(2, 3), keepdim=True)


def _covariance(a: Tensor, b: Tensor) -> float:
    return float((_centred(a) * _centred(b)).mean())


def _correlation(a: Tensor, b: Tensor) -> float:
    return _covariance(a, b) / math.sqrt(_covariance(a, a) * _covariance(b, b))


def _fine_variance(x: Tensor) -> float:
    smooth = avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return _covariance(x - smooth, x - smooth)

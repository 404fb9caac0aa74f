"""The numbers of a study: a network over images, and a row of its scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from crowdloc.attention import GaussianNeighborAttention
from crowdloc.datasets.base import ClipDataset
from crowdloc.inference.maps import Kept
from crowdloc.inference.windows import predict
from crowdloc.metrics import counting_errors
from crowdloc.models import Method
from crowdloc.results import evidence as ev
from crowdloc.results.evidence import CountEvidence, Evidence
from crowdloc.studies.resized import Resized


def measure(model: Method, dataset: ClipDataset, *, scale: float, maps: Kept | None = None) -> Evidence | CountEvidence:
    """What a network finds in the frames of a data set, against their heads; `scale` as in `localization_scores`."""
    predictions = predict(model, dataset, maps=maps, progress=False)
    if isinstance(dataset, Resized):
        predictions = dataset.in_original_pixels(predictions)
    return ev.measure(predictions, dataset, scale=scale)


def best_threshold(found: Evidence | CountEvidence) -> float | None:
    """The counting threshold that is best on these images; None for methods that count."""
    return found.best_counting_threshold() if isinstance(found, Evidence) else None


def scores(found: Evidence | CountEvidence, threshold: float | None) -> dict[str, float]:
    """mAP and mAR at each σ, AP.50 at σ 20, and the MAE of the counts at a threshold."""
    if isinstance(found, CountEvidence) or threshold is None:
        return {"MAE": round(found.metrics()["counting"]["MAE"], 3) if isinstance(found, CountEvidence) else np.nan}
    located = found.localization
    return (
        {f"{name} σ{sigma}": round(row[name], 4) for name in ("mAP", "mAR") for sigma, row in located.items()}
        | {"AP.50 σ20": round(located["20"]["AP.50"], 4)}
        | {"MAE": round(counting_errors(found.counts(threshold), found.heads)["MAE"], 3)}
    )


def learned(model: Method) -> dict[str, Any]:
    """Gates of the fusion and γ of the attention modules where they are learned, as text; else empty."""
    gate = getattr(getattr(model, "fusion", None), "gate", None)
    gammas = {
        name.removesuffix("_gna"): " ".join(f"{gamma:.2f}" for gamma in module.gamma)
        for name, module in model.named_children()
        if isinstance(module, GaussianNeighborAttention) and module.log_gamma is not None
    }
    return {
        "gates": " ".join(f"{value:+.3f}" for value in gate.tolist()) if gate is not None else "",
        "learned gamma": "; ".join(f"{name} {values}" for name, values in gammas.items()),
    }


def loss_thirds(losses: list[float]) -> dict[str, float]:
    """Mean loss of each third of a training to four digits, "loss a" … "loss c"; NaN for thirds without a step."""
    parts = np.array_split(np.array(losses, dtype=np.float64), 3)
    return {f"loss {n}": float(f"{p.mean():.4g}") if len(p) else np.nan for n, p in zip("abc", parts, strict=True)}

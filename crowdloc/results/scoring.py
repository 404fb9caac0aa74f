"""A network on any annotated frames: its metrics, nothing stored. What tables show is made by `runs.evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.inference.windows import predict
from crowdloc.metrics import sigma_scale
from crowdloc.models import Method
from crowdloc.results import evidence as ev
from crowdloc.results import runs
from crowdloc.results.evidence import CountEvidence, Evidence
from crowdloc.results.experiments import Experiment
from crowdloc.results.networks import Network, open_network

_NAMES = ("AP.50", "AP.75", "mAP", "AR.50", "AR.75", "mAR")


def measure(method: Method, dataset: ClipDataset, *, scale: float = 1.0, progress: bool = True) -> Any:
    """Evidence of every frame of a data set, as `evidence.measure` gives it."""
    return ev.measure(predict(method, dataset, progress=progress), dataset, scale=scale)


def score(
    network: Network,
    dataset: ClipDataset,
    split: str,
    *,
    threshold: float | None = None,
    scale: float = 1.0,
    progress: bool = True,
) -> dict[str, Any]:
    """Metrics on every frame of a data set: images, heads, localization by σ, counting, F1.

    Args:
        split: its name, for people.
        threshold: of the score, for counting; default: the network's.
        scale: as in `metrics.localization_scores`; 1: σ in pixels of the image.
    """
    found = measure(network.method, dataset, scale=scale, progress=progress)
    least = network.threshold if threshold is None else threshold
    return {"data": dataset.name, "split": split, "network": network.id, **metrics(found, least)}


def score_experiment(
    experiment: Experiment,
    split: str,
    *,
    source: str = "weights",
    root: str | Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """`score` of an experiment on every image of a split that is here, not only on those of its stored evaluation.

    Args:
        source: "weights" takes the stored weights, "train" those of the training made here.
    """
    folder = runs.stored(experiment) if source == "weights" else runs.trained(experiment)
    network = open_network(folder / runs.WEIGHTS, experiment=experiment.id)
    dataset = experiment.load(split, root)
    return score(network, dataset, split, scale=sigma_scale(experiment.group), progress=progress)


def metrics(found: Evidence | CountEvidence, threshold: float | None) -> dict[str, Any]:
    """Metrics of evidence; points need a threshold to be counted."""
    if isinstance(found, CountEvidence):
        return found.metrics()
    if threshold is None:
        raise CrowdlocError("the weights hold no threshold: give one, or find it with `crowdloc calibrate`")
    return found.metrics(threshold)


def as_text(found: Mapping[str, Any]) -> str:
    """What `score` returns, for people."""
    counted = f"{found['images']} images, {found['heads']} heads"
    lines = [f"{found['network']} on {found['data']}, split {found['split']}: {counted}"]
    if "localization" in found:
        lines.append(f"{'σ':<8}" + "".join(f"{name:>7}" for name in _NAMES))
        for sigma, row in found["localization"].items():
            lines.append(f"{sigma:<8}" + "".join(f"{row[name]:>7.3f}" for name in _NAMES))
    counting = found["counting"]
    lines.append(f"counting: MAE {counting['MAE']:.2f}, MSE (a root) {counting['MSE']:.2f}")
    if "f1" in found:
        lines[-1] += f", F1 {found['f1']['F1']:.3f} with scores from {found['counting_threshold']:g}"
    return "\n".join(lines)

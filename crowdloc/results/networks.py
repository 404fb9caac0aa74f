"""From a weights file to a network that counts with its own threshold: a file says what it is, nothing is guessed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import digest, read_json
from crowdloc.datasets.catalog import label as data_label
from crowdloc.models import Method
from crowdloc.models.recipes import Recipe
from crowdloc.models.registry import get_entry, label
from crowdloc.results import runs
from crowdloc.results.experiments import SOURCES, Experiment, all_experiments
from crowdloc.training.loop import empty_model
from crowdloc.training.weights import load_weights, read_about

# Which stored weights are taken where none are named: the first of these that are here. On footage that neither knows
# those of generated video are ahead; those of one real camera know that camera (results/studies/foreign.csv).
PREFERRED = ("synthcrowd-sense-mini", "mall-mini")
METHOD = "gnanet"


@dataclass(frozen=True)
class Network:
    """A trained network.

    Attributes:
        threshold: the score from which on a detection is counted; None: none was chosen.
        about: what its file says of it: experiment (method, options, recipe, data, …), threshold, …
        digest: of its file.
    """

    method: Method
    threshold: float | None
    about: Mapping[str, Any]
    path: Path
    digest: str

    @property
    def id(self) -> str:
        return str(self.about["experiment"]["id"])

    @property
    def locates(self) -> bool:
        return "points" in self.method.yields

    def describe(self) -> str:
        """Network, training data and limits in one line."""
        facts = self.about["experiment"]
        name = label(facts["method"], facts.get("variant", ""))
        return f"{name}, {_trained_on(facts, self.about)}"


def open_network(
    weights: str | os.PathLike[str] | None = None, *, experiment: str | None = None, method: str | None = None
) -> Network:
    """The network of a weights file, of an experiment, or of a method: the first preferred weights that are here.

    Args:
        weights: safetensors file; it says what it holds. One that does not needs `experiment`.
        experiment: id; without `weights` those made here, else the stored ones.
        method: where neither is given; by default GNANet.

    Raises:
        CrowdlocError: there are no such weights, they contradict what is asked for, or they do not fit the code.
    """
    if weights is None:
        chosen = Experiment.parse(experiment) if experiment is not None else preferred(method or METHOD)
        if chosen is None:
            raise CrowdlocError(f"no weights of {method or METHOD}: {_known()}, or pass weights=")
        if method is not None and chosen.method != method:
            raise CrowdlocError(f"{chosen.id} is no {method}: leave --method or --experiment away")
        found = runs.find_weights(chosen)
        if found is None:
            raise CrowdlocError(f"no weights of {chosen.id}: {_known()}, or pass weights=")
        return _open(found, read_about(found), chosen)
    path = Path(weights)
    about = read_about(path)
    noted = about.get("experiment", {}).get("id")
    if noted is None and experiment is None:
        raise CrowdlocError(
            f"{path} does not say which network it holds: name it, e.g. --experiment {PREFERRED[0]}/{METHOD}/seed0"
        )
    if noted is not None and experiment is not None and noted != experiment:
        raise CrowdlocError(f"{path} holds weights of {noted}, not of {experiment}: leave --experiment away")
    if noted is not None and method is not None and about["experiment"].get("method") != method:
        raise CrowdlocError(f"{path} holds weights of {noted}, not of {method}: leave --method away")
    return _open(path, about, Experiment.parse(experiment) if noted is None and experiment is not None else None)


def _open(path: Path, about: Mapping[str, Any], named: Experiment | None) -> Network:
    """Built as its file says, however the recipes of today are; as `named` where it says nothing."""
    facts = about.get("experiment", {})
    if "recipe" not in facts:
        named = named or Experiment.parse(facts["id"])
        model = runs.load_model(named, path)
        threshold = about.get("threshold")
        if threshold is None and path.parent == runs.stored(named):
            threshold = read_json(path.parent / runs.METRICS).get("counting_threshold")
        about = {**about, "experiment": named.describe()}
    else:
        try:
            recipe = Recipe(**facts["recipe"])
            model = empty_model(facts["method"], recipe, facts["seed"], **facts["options"])
        except (KeyError, TypeError) as error:
            raise CrowdlocError(f"{path} was written by another version ({error}): train again") from None
        load_weights(path, model, backbone=_backbone(path, about))
        threshold = about.get("threshold")
    return Network(model, None if threshold is None else float(threshold), about, path, digest(path))


def _backbone(path: Path, about: Mapping[str, Any]) -> Path | None:
    """The file of the frozen backbone that a file's network stands on, known by its digest; None: it holds its own."""
    wanted = about.get("backbone")
    if wanted is None:
        return None
    start = about["experiment"].get("start")
    folders = [] if start is None else [f(Experiment.parse(start)) for f in (runs.trained, runs.stored)]
    for candidate in [folder / runs.WEIGHTS for folder in folders]:
        if candidate.is_file() and digest(candidate) == wanted:
            return candidate
    raise CrowdlocError(f"{path} stands on other weights of {start} than are here: train {about['experiment']['id']}")


def preferred(method: str) -> Experiment | None:
    """The experiment whose weights stand for a method; None: none are here."""
    get_entry(method)
    experiments = [Experiment.parse(f"{group}/{method}/seed0") for group in PREFERRED]
    return next((e for e in experiments if runs.find_weights(e) is not None), None)


def _known() -> str:
    ids = [e.id for e in all_experiments() if (runs.stored(e) / runs.WEIGHTS).is_file()]
    return f"choose one of {', '.join(ids)}" if ids else "clone the repository, which holds some"


def _trained_on(facts: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """What a network has seen, and what follows from that for other footage."""
    data, own, tuned = str(facts.get("data", "")), about.get("own"), about.get("calibrated")
    also = "" if tuned is None else f", calibrated on {tuned['images']} images of {tuned['name']}"
    if own is not None:
        return f"trained on {own['images']} images of {own['name']}, {own['heads']} heads{also}"
    if data not in SOURCES:
        return f"trained on unknown data{also}"
    limit = "a single camera: other views are foreign to it" if data in ("mall", "ucsd") else ""
    if SOURCES[data].generated:
        limit = "generated video: expect little of it on yours, and calibrate it or train on your own"
    return f"trained on {data_label(data)}{also}" + (f", {limit}" if limit and not also else "")

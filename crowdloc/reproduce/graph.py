"""What a whole run consists of, and when one of its jobs is out of date.

Planned from the lists of experiments, never from what happens to be stored: a depth decides which of them are made.
Nothing is read but names, code and stored files; of real data sets only the listing.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from crowdloc import datasets
from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import digest, is_temporary
from crowdloc.reproduce import dependencies, notebooks
from crowdloc.results.experiments import SOURCES as DATA
from crowdloc.results.experiments import TABLES, Experiment, all_experiments, experiments_of, with_starts

SOURCES = ("stored", "weights", "train")
SEED = 0  # below "stored" notebooks read one seed, this one unless told otherwise
# Names of files as `results.runs` has them, which takes seconds to import.
METRICS, WEIGHTS, TRAINING, EVALUATION = "metrics.json", "weights.safetensors", "training.json", "evaluation.json"
# Rooms that can change what a training ends in; what follows after it is not trained again for.
_TRAINING = ("attention", "datasets", "models", "training", "core/random_bits.py")
# Seconds of one core, for estimates; of a training for each image of a batch and step.
_SECONDS = {"data": 60.0, "train": 300.0, "evaluate": 25.0, "notebook": 20.0, "report": 10.0, "site": 80.0}
_SECONDS_PER_CLIP = 0.06


@dataclass(frozen=True)
class Plan:
    """One run: its depth, the experiments to make, the notebooks with those that they read, and what is left out."""

    source: str
    root: Path | None
    experiments: tuple[Experiment, ...]
    notebooks: dict[str, tuple[Experiment, ...]]
    left_out: tuple[str, ...]

    def evaluations(self, name: str | None = None) -> list[str]:
        """What a notebook (without a name: the report) waits for, relative to build/."""
        wanted = self.experiments if name is None else self.notebooks[name]
        return [f"evaluations/{self.source}/{e.id}/{EVALUATION}" for e in wanted]

    def minutes(self, cores: int) -> int:
        """Rough time of a run from nothing."""
        jobs = [("notebook", name) for name in self.notebooks]
        jobs += [("evaluate", e.id) for e in self.experiments]
        jobs += [("site", "")] * has_site()
        jobs += [("data", "")] * any(e.source.generated for e in self.experiments)
        if self.source == "train":
            jobs += [("train", e.id) for e in with_starts(self.experiments)]
        return max(1, math.ceil(sum(seconds(*job) for job in jobs) / cores / 60))


def plan(source: str, data_root: str | os.PathLike[str] | None = None) -> Plan:
    """The run of a depth with the data at hand: SynthCrowd always, a real set where the data root has it.

    "stored" makes nothing; "weights" evaluates what tables list and has stored weights; "train" trains and evaluates
    what tables list, one seed of each.
    """
    if source not in SOURCES:
        raise CrowdlocError(f"source {source!r} is unknown: choose {', '.join(SOURCES)}")
    root = paths.require_data_root(data_root).resolve() if paths.data_root(data_root) else None
    listed = dict.fromkeys(e for table in TABLES for e in experiments_of(table))
    wanted = {
        "stored": [],
        "weights": [e for e in listed if _has_weights(e)],
        "train": [e for e in listed if e.seed == SEED],
    }[source]
    absent: dict[str, str] = {}  # data set -> why
    chosen, left_out = {}, []
    for path in notebooks.numbered():
        data = str(notebooks.parameters(path).get("data", "synthcrowd"))
        reason = None if source == "stored" else _absence(data, root, absent)
        if reason is not None:
            left_out.append(f"{path.stem}: {reason}")
        else:
            chosen[path.stem] = path
    for e in wanted:
        if source == "weights" and e.start and e.recipe.frozen and not _has_weights(e.start):
            left_out.append(f"{e.id}: the weights of its backbone, {e.start.id}, are not stored")
            wanted = [other for other in wanted if other != e]
    made = tuple(e for e in wanted if _absence(e.data, root, absent) is None)
    used = {name: tuple(e for e in uses(path).experiments if e in made) for name, path in chosen.items()}
    return Plan(source, root, made, used, tuple(left_out))


@dataclass(frozen=True)
class Uses:
    """What a notebook depends on: modules, folders of results/, experiments."""

    modules: tuple[str, ...]
    folders: tuple[str, ...]
    experiments: tuple[Experiment, ...]


@functools.cache
def uses(path: Path) -> Uses:
    """What a notebook's code imports and names."""
    code = dependencies.code_cells(path)
    modules = dependencies.reached(dependencies.imported(code, path))
    read = dependencies.experiments_used(code, modules)
    return Uses(tuple(sorted(modules)), tuple(dependencies.results_of(modules)), tuple(with_starts(read)))


def state(experiment: Experiment) -> list[str]:
    """What there is of an experiment: "stored", "weights", "made here"."""
    stored, here = paths.RESULTS / experiment.id, paths.BUILD / "experiments" / experiment.id
    found = {"stored": stored / METRICS, "weights": stored / WEIGHTS, "made here": here / TRAINING}
    return [word for word, path in found.items() if path.is_file()]


def generated(id: str) -> list[str]:
    """The generated data that an experiment reads, relative to build/."""
    return ["data/synthcrowd.txt"] if Experiment.parse(id).source.generated else []


def begun(id: str) -> list[str]:
    """The training that a training begins with, relative to build/."""
    start = Experiment.parse(id).start
    return trained(start.id, "train") if start else []


def trained(id: str, source: str) -> list[str]:
    """The training that an evaluation takes its weights from, relative to build/; none but at the depth "train"."""
    return [f"experiments/{id}/{TRAINING}"] if source == "train" else []


def is_text(root: Path | None) -> bool:
    """Whether a data root is there and has a name that a notebook can hold; else its environment variable must do."""
    try:
        return root is not None and bool(str(root).encode())
    except UnicodeEncodeError:  # a name that is not UTF-8
        return False


def seconds(rule: str, id: str = "") -> float:
    """Rough time of a job on one core; without an id that of any."""
    if rule != "train" or not id:
        return _SECONDS.get(rule, 0.0)
    recipe = Experiment.parse(id).recipe
    return recipe.steps * recipe.batch_size * _SECONDS_PER_CLIP


@functools.cache
def data_key() -> str:
    """Changes when SynthCrowd may."""
    return digest(paths.PACKAGE / "datasets" / "synthcrowd")


@functools.cache
def training_key(id: str, root: Path | None) -> str:
    """Changes when a training's weights may: code, what is trained and from where, amount of real data."""
    experiment = Experiment.parse(id)
    code = digest(*(paths.PACKAGE / part for part in _TRAINING))
    start = training_key(experiment.start.id, root) if experiment.start else ""
    return _hash(code, json.dumps(experiment.describe(), sort_keys=True), start, _amount(experiment.data, root))


@functools.cache
def evaluation_key(id: str, source: str, root: Path | None) -> str:
    """Changes when an experiment's numbers may: code, weights (or how they are trained), amount of real data."""
    experiment = Experiment.parse(id)
    if source == "train":
        weights = training_key(id, root)
    else:
        weights = _stored_digest(with_starts([experiment]))
    return _hash(dependencies.code_digest(dependencies.READER), weights, _amount(experiment.data, root))


@functools.cache
def notebook_key(name: str, source: str, root: Path | None, *, experiments: tuple[Experiment, ...] = ()) -> str:
    """Changes when a notebook's outputs may; `experiments` are those of this run that it reads."""
    path = paths.NOTEBOOKS / f"{name}.ipynb"
    used = uses(path)
    code = digest(*dependencies.code_of(used.modules))
    stored = _stored_digest(used.experiments) + digest(*(paths.RESULTS / folder for folder in used.folders))
    made = (evaluation_key(e.id, source, root) for e in experiments)
    return _hash(source, digest(path), code, stored, *made)


def report_key(todo: Plan) -> str:
    """Changes when the report may."""
    code = dependencies.code_digest("crowdloc.results.overview")
    keys = [notebook_key(name, todo.source, todo.root, experiments=used) for name, used in todo.notebooks.items()]
    made = [evaluation_key(e.id, todo.source, todo.root) for e in todo.experiments]
    stored = _stored_digest(all_experiments())
    return _hash(code, stored, *keys, *made)


def has_site() -> bool:
    """Whether a run ends with the site: the pages that it begins with are here, and so is Sphinx."""
    return (paths.ROOT / "docs" / "conf.py").is_file() and importlib.util.find_spec("sphinx") is not None


def site_key(todo: Plan) -> str:
    """Changes when the site may: what is run, the pages, and every docstring."""
    pages = ("docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md")
    return _hash(report_key(todo), digest(paths.PACKAGE, *(paths.ROOT / name for name in pages)))


def _has_weights(experiment: Experiment) -> bool:
    return (paths.RESULTS / experiment.id / WEIGHTS).is_file()


def _absence(data: str, root: Path | None, known: dict[str, str]) -> str | None:
    """Why a data set cannot be used; None where it can. Only folders are looked at."""
    name = DATA[data].dataset if data in DATA else data
    if name.startswith("synthcrowd"):
        return None
    if name not in known:
        try:
            datasets.scan(name, root, "test")
            known[name] = ""
        except CrowdlocError as error:
            known[name] = str(error)
    return known[name] or None


@functools.cache
def _amount(data: str, root: Path | None) -> str:
    """Changes with the files of a real data set, by their names; nothing is read. Empty for generated data."""
    if DATA[data].generated or root is None:
        return ""
    stem = DATA[data].dataset.partition("_")[0]
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and stem in path.name.lower()] or [root]
    hasher = hashlib.sha256()
    for folder in folders:
        names = sorted(os.path.join(where, name) for where, _, files in os.walk(folder) for name in files)
        for name in names:
            if not is_temporary(name):
                hasher.update(os.fsencode(os.path.relpath(name, root)) + b"\0")
    return hasher.hexdigest()[:16]


def _stored_digest(experiments: Iterable[Experiment]) -> str:
    chosen = list(experiments)
    truths = dict.fromkeys(paths.RESULTS / "truth" / f"{e.group}-test.parquet" for e in chosen)
    return digest(*(paths.RESULTS / e.id for e in chosen), *truths)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

"""`check`: whether `results/` is what was put there, and whether its parts say the same as each other and as the code.

First every file is compared with the manifest: one that is missing, additional or changed by a single bit is named.
Then, independently of the manifest, what the files say: every metric is computed again from its evidence; the
description of an experiment must be what the code says of that id; weights must be those that were evaluated; images,
scenes and heads must be those of the split; logs, provenance and tables must be whole.

What is covered: any accident to and any edit of any file below `results/` that does not also rewrite the manifest, and
of an edit that does, all that contradicts another file or the code. What is not: someone who invents detections or
counts, computes the metrics from them, and rewrites the manifest as well, makes a consistent whole. Running the weights
over the images again finds that for the seed whose weights are kept (depth "weights"; with a data root `check` does so
for real data); training again finds it for the others. What only the training knew (log, validation and convergence
values, seconds, machine) is protected by the manifest alone, and the manifest by version control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import digest, read_json
from crowdloc.results import evidence as ev
from crowdloc.results import schemas
from crowdloc.results.comparing import compare_truth, differences, generated_truth
from crowdloc.results.evidence import CountEvidence, Evidence
from crowdloc.results.experiments import Experiment
from crowdloc.results.formats import same_images
from crowdloc.results.manifest import MANIFEST, files_below, read_manifest, sha256
from crowdloc.training.log import LOG

EXACT, AGAIN = 1e-9, 0.005  # tolerances: computed from evidence, predicted again on another machine
_ROOMS = ("paper", "studies", "datasets", "kernels", "figures", ev.TRUTH)
_RESTORE = "restore it from version control"
_T = TypeVar("_T")

Found = tuple[Evidence | None, CountEvidence | None]
Evaluate = Callable[[Experiment, str | Path], Found]


class CheckError(CrowdlocError):
    """What `check` found: `problems`, one line each; the message is all of them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def check(root: str | Path | None = None, *, evaluate: Evaluate | None = None) -> pd.DataFrame:
    """Examine all of `results/`; one row per experiment: `experiment`, `state` (how it was verified).

    Args:
        root: data root. With it stored weights are run over real images again, and flags, heads and metrics compared
            with the stored ones: "verified against annotations" instead of "recomputed from flags".
        evaluate: what to run for that; by default `runs.evaluate`.

    Raises:
        CheckError: naming every problem, with file and key, both values and the tolerance.
    """
    examination = Examination(paths.RESULTS)
    examination.files()
    states = examination.experiments()
    examination.other_files()
    if root is not None:
        for experiment in [e for e in states if not e.source.generated]:
            if again := examination.annotations(experiment, root, evaluate or _evaluate):
                states[experiment] = again
    if examination.problems:
        raise CheckError(examination.problems)
    rows = [{"experiment": experiment.id, "state": state} for experiment, state in states.items()]
    return pd.DataFrame(rows, columns=["experiment", "state"])


def _evaluate(experiment: Experiment, root: str | Path) -> Found:
    from crowdloc.results import runs

    return ev.read_evidence(runs.evaluate(experiment, root=root), experiment)


class Examination:
    """One walk through a folder like `results/`; every problem is noted and the walk goes on."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.problems: list[str] = []
        self._damaged: set[Path] = set()  # changed since they were noted: not to be parsed where that may be dangerous
        self._present = files_below(results)
        self._evidence: dict[Experiment, Found] = {}

    def _try(self, path: Path, function: Callable[..., _T], *arguments: Any) -> _T | None:
        """What a function returns; None where it fails, which is noted."""
        try:
            return function(*arguments)
        except CrowdlocError as error:
            self._note(str(error))
        except (ArithmeticError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
            self._note(f"{path}: {type(error).__name__} ({error}): {_RESTORE}")
        return None

    def _note(self, problem: str) -> None:
        line = " ".join(problem.split())
        if line not in self.problems:
            self.problems.append(line)

    def files(self) -> None:
        """Every file against the manifest."""
        noted = self._try(self.results / MANIFEST, read_manifest, self.results)
        for name, path in self._present.items():
            if path.is_symlink() or not path.is_file():
                self._note(f"{path} is no regular file: {_RESTORE}")
                self._damaged.add(path)
            elif noted is not None and name not in noted:
                self._note(f"{path} is not in {MANIFEST}: delete it; results come in by `crowdloc promote`")
            elif noted is not None and (found := self._try(path, sha256, path)) != noted[name]:
                self._damaged.add(path)
                if found is not None:
                    self._note(f"{path} has SHA-256 {found[:12]}…, {MANIFEST} says {noted[name][:12]}…: {_RESTORE}")
        for name in sorted(set(noted or {}) - set(self._present)):
            self._note(f"{self.results / name} is missing: {_RESTORE}")

    def experiments(self) -> dict[Experiment, str]:
        """Every stored experiment by itself, then against each other; returns how each was verified."""
        folders: dict[str, set[str]] = {}
        for name, path in self._present.items():
            parts = name.split("/")
            if len(parts) == 4 and parts[0] not in _ROOMS:
                folders.setdefault("/".join(parts[:3]), set()).add(parts[3])
            elif len(parts) > 1 and parts[0] not in _ROOMS:
                self._note(f"{path} belongs to no experiment: delete it")
        states = {}
        for id, names in folders.items():
            experiment = self._try(self.results / id, self._parsed, id)
            if experiment is not None:
                self._experiment(experiment, names)
                states[experiment] = f"recomputed from {'points' if experiment.source.generated else 'flags'}"
                if experiment in self._evidence and self._evidence[experiment][0] is None:
                    states[experiment] = "recomputed from counts"
        self._one_split_per_group()
        self._no_copies(states)
        return states

    def _parsed(self, id: str) -> Experiment:
        experiment = Experiment.parse(id)
        if experiment.id != id:
            raise CrowdlocError(f"{self.results / id} is called {experiment.id} by the code: rename it")
        return experiment

    def _experiment(self, experiment: Experiment, names: set[str]) -> None:
        folder = self.results / experiment.id
        wanted = self._try(folder, _files_of, experiment) or names
        for name in sorted(wanted ^ names):
            what = "is missing" if name in wanted else "has no place in this result: delete it, or"
            self._note(f"{folder / name} {what}{': ' if name in wanted else ' '}{_RESTORE}")
        for name, examine in (
            (schemas.EXPERIMENT, self._description),
            (schemas.RUN, self._run),
            (LOG, self._log),
            (schemas.METRICS, self._metrics),
        ):
            if name in names:
                self._try(folder / name, examine, experiment, folder / name)

    def _description(self, experiment: Experiment, path: Path) -> None:
        self._same(path, read_json(path), schemas.as_json(experiment.describe()), "this code says", 0.0)

    def _run(self, experiment: Experiment, path: Path) -> None:
        run = read_json(path)
        schemas.check_run(path, run)
        weights = path.with_name(schemas.WEIGHTS)
        if weights.is_file():
            found = digest(weights)
            if found != run["weights"]:
                self._note(f"{weights} has digest {found}, {path.name} says {run['weights']}: {_RESTORE}")
            self._about(experiment, weights)

    def _about(self, experiment: Experiment, weights: Path) -> None:
        from crowdloc.training.weights import read_about

        if weights not in self._damaged and (about := read_about(weights)):
            said = {"experiment": about.get("experiment")}
            self._same(weights, said, {"experiment": schemas.as_json(experiment.describe())}, "this code says", 0.0)

    def _log(self, experiment: Experiment, path: Path) -> None:
        schemas.check_log(path, experiment.recipe.steps)

    def _metrics(self, experiment: Experiment, path: Path) -> None:
        stored = read_json(path)
        for line in schemas.wrong_numbers(stored, counts=(path.parent / ev.COUNTS).is_file()):
            self._note(f"{path}: {line}: {_RESTORE}")
        needed = ev.evidence_files(path.parent)
        if any(file.name == ev.PREDICTIONS for file in needed):
            needed.append(ev.truth_file(path.parent))
        if self._damaged & set(needed):
            return
        self._evidence[experiment] = ev.read_evidence(path.parent, experiment)
        located, counted = self._evidence[experiment]
        key = "validation_mAP_sigma20" if located is not None else "validation_MAE"
        threshold = stored.get("counting_threshold")
        if located is not None and not isinstance(threshold, float):
            raise CrowdlocError(f"{path}: counting_threshold is {threshold!r}, not a number: {_RESTORE}")
        again = schemas.result_metrics(
            experiment, located, counted, threshold, stored.get(key), stored.get("convergence")
        )
        self._same(path, stored, again, "its evidence says", EXACT)

    def _same(self, path: Path, stored: Any, again: Any, says: str, tolerance: float) -> None:
        for key, value, other in differences(stored, again, tolerance):
            within = f" (tolerance {tolerance:g})" if tolerance else ""
            remedy = _RESTORE if tolerance else f"{_RESTORE}, or train again if the code was meant to change"
            self._note(f"{path}: {key} is {value}, {says} {other}{within}: {remedy}")

    def _one_split_per_group(self) -> None:
        """All experiments of a group were evaluated on the same images: the heads are those of the first one."""
        first: dict[str, tuple[Experiment, Evidence | CountEvidence]] = {}
        for experiment, found in self._evidence.items():
            evidence = found[0] or found[1]
            if evidence is None:
                continue
            other, same = first.setdefault(experiment.group, (experiment, evidence))
            path = self.results / experiment.id
            self._try(path, same_images, path, evidence.images, same.images)
            rows = zip(evidence.images, evidence.scenes, evidence.heads, same.scenes, same.heads, strict=False)
            for image, scene, heads, its_scene, its_heads in rows:
                if (scene, heads) != (its_scene, its_heads):
                    self._note(
                        f"{path}: image {image} has scene {scene!r} and {heads} heads, in {other.id} {its_scene!r} and"
                        f" {its_heads}: restore both from version control"
                    )
        for group in sorted({e.group for e in self._evidence if e.source.generated}):
            experiment = first[group][0]
            truth = ev.truth_file(self.results / experiment.id)
            generated = self._try(truth, generated_truth, experiment)
            if generated is not None and truth.is_file() and truth not in self._damaged:
                self._try(truth, compare_truth, truth, generated)

    def _no_copies(self, experiments: Iterable[Experiment]) -> None:
        """Two trainings never give the same weights or detections: then one is a copy of the other."""
        seen: dict[str, str] = {}
        for experiment in experiments:
            folder = self.results / experiment.id
            for path in (*ev.evidence_files(folder), folder / LOG, folder / schemas.WEIGHTS):
                if path.is_file() and (found := self._try(path, sha256, path)) is not None:
                    if found in seen:
                        self._note(f"{path} is a copy of {seen[found]}: restore both from version control")
                    seen.setdefault(found, str(path))

    def other_files(self) -> None:
        """Tables, JSON and pictures that belong to no experiment are whole; the paper's tables hold numbers."""
        for name, path in self._present.items():
            room = name.partition("/")[0]
            if room not in _ROOMS or path in self._damaged:
                continue
            if path.suffix == ".csv":
                self._try(path, schemas.check_csv, path)
            elif path.suffix == ".json" and (content := self._try(path, read_json, path)) is not None:
                self._try(path, _check_record, path, content)
        if paths.PAPER.parent == self.results:
            from crowdloc import paper

            for number in paper.NUMBERS:
                self._try(paths.PAPER, paper.table, number)
            for read in (paper.claims, paper.errata, paper.suspicious):
                self._try(paths.PAPER, read)

    def annotations(self, experiment: Experiment, root: str | Path, evaluate: Evaluate) -> str | None:
        """Run the weights over the images again and compare; returns how it went, None where there is nothing to do."""
        folder = self.results / experiment.id
        if not (folder / schemas.WEIGHTS).is_file() or experiment not in self._evidence:
            return None
        again = self._try(folder, evaluate, experiment, root)
        if again is None:
            return None
        pairs = zip(self._evidence[experiment], again, strict=True)
        equal, images = 0, 0
        for stored, found in pairs:
            if stored is None or found is None:
                if stored is not found:
                    self._note(f"{folder}: its evidence holds other kinds of results than its method gives: {_RESTORE}")
                continue
            self._try(folder, same_images, folder, stored.images, found.images)
            for image, heads, real in zip(stored.images, stored.heads, found.heads, strict=False):
                if heads != real:
                    self._note(f"{folder}: image {image} has {heads} heads, its annotation {real}: {_RESTORE}")
            if isinstance(stored, Evidence) and isinstance(found, Evidence):
                both = zip(stored.flags, found.flags, strict=False)
                equal, images = sum(a.shape == b.shape and bool((a == b).all()) for a, b in both), len(stored.images)
        path = folder / schemas.METRICS
        metrics = self._try(path, read_json, path) or {}
        numbers = self._try(path, ev.metrics, *again, metrics.get("counting_threshold")) or {}
        own = {key: metrics.get(key) for key in numbers}
        self._same(path, own, numbers, "weights and annotations say", AGAIN)
        return f"verified against annotations (flags of {equal} of {images} images the same)"


def _files_of(experiment: Experiment) -> set[str]:
    """Names of the files that a stored result has."""
    from crowdloc.models.registry import get_entry

    yields = get_entry(experiment.method).load().yields
    names = {schemas.EXPERIMENT, schemas.METRICS, schemas.RUN, LOG}
    if "points" in yields:
        names.add(ev.PREDICTIONS if experiment.source.generated else ev.MATCHES)
    if "count" in yields:
        names.add(ev.COUNTS)
    if experiment.seed == schemas.WEIGHTS_SEED:
        names.add(schemas.WEIGHTS)
    return names


def _check_record(path: Path, content: Mapping[str, Any]) -> None:
    """A study, census or timing has whole provenance; records from before there was one schema are left out."""
    if path.parent.name in ("studies", "datasets", "kernels"):
        record = next((content[key] for key in ("provenance", "metadata", "run") if key in content), None)
        if not isinstance(record, Mapping) or "crowdloc" in record:
            schemas.check_provenance(path, content, measured=path.parent.name == "kernels")

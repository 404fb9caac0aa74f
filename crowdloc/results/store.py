"""The only way into `results/`: what was made in `build/` is examined, copied in one step, and its digests are noted.

experiments  build/experiments/<id>/ and build/evaluations/train/<id>/  ->  results/<id>/
studies      build/studies/<name>.csv, .json (provenance)               ->  results/studies/
censuses     build/datasets/<name>.json                                 ->  results/datasets/
timings      build/kernels/<name>.json                                  ->  results/kernels/
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write, digest, read_json, write_json
from crowdloc.core.locking import locked
from crowdloc.results import evidence as ev
from crowdloc.results.evidence import Evidence
from crowdloc.results.experiments import Experiment
from crowdloc.results.formats import read_truth
from crowdloc.results.manifest import accept
from crowdloc.results.schemas import (
    EXPERIMENT,
    METRICS,
    RUN,
    WEIGHTS,
    WEIGHTS_SEED,
    as_json,
    check_csv,
    check_log,
    check_provenance,
    check_run,
    result_metrics,
    result_run,
    wrong_numbers,
)
from crowdloc.training.log import LOG

TRAINING, EVALUATION = "training.json", "evaluation.json"
STUDIES, CENSUSES, TIMINGS = "studies", "datasets", "kernels"


def promote(name: str, *, source: str = "train") -> Path:
    """Copy a finished result from `build/` into `results/` and note its digests; returns the stored folder or file.

    Args:
        name: an experiment's id, or `studies/<name>`, `datasets/<name>`, `kernels/<name>`.
        source: which evaluation of an experiment, as in `runs.evaluate`.

    Raises:
        CrowdlocError: the result is unfinished, or its parts do not belong together; nothing was changed then.
    """
    results, build = paths.RESULTS, paths.BUILD
    room, _, rest = name.partition("/")
    if room in (STUDIES, CENSUSES, TIMINGS) and not re.fullmatch(r"\w[\w.-]*", rest, re.ASCII):
        raise CrowdlocError(f"{name!r}: {rest!r} is no name: use letters, digits, '.', '_' and '-'")
    with locked(build / ".promote.lock", f"{results}"):
        if room == STUDIES:
            stored = _promote_study(build / STUDIES / rest, results / STUDIES)
        elif room in (CENSUSES, TIMINGS):
            stored = _promote_json(build / room / f"{rest}.json", results / room, measured=room == TIMINGS)
        else:
            stored = _promote_experiment(Experiment.parse(name), build, results, source)
        accept(results, stored)
    return stored[0]


def _promote_experiment(experiment: Experiment, build: Path, results: Path, source: str) -> list[Path]:
    trained, evaluated = build / "experiments" / experiment.id, build / "evaluations" / source / experiment.id
    for path, command in (
        (trained / EXPERIMENT, "train"), (trained / TRAINING, "train"), (trained / LOG, "train"),
        (trained / WEIGHTS, "train"), (evaluated / EVALUATION, "evaluate"),
    ):  # fmt: skip
        if not path.is_file():
            raise CrowdlocError(f"{path} is missing: `crowdloc {command} {experiment.id}` first")
    training, evaluation = read_json(trained / TRAINING), read_json(evaluated / EVALUATION)
    again = f"train and evaluate {experiment.id} again"
    _require(trained / EXPERIMENT, read_json(trained / EXPERIMENT), as_json(experiment.describe()), again)
    weights = digest(trained / WEIGHTS)
    for path, content, key, value in (
        (trained / TRAINING, training, "id", experiment.id),
        (trained / TRAINING, training, "weights", weights),
        (evaluated / EVALUATION, evaluation, "id", experiment.id),
        (evaluated / EVALUATION, evaluation, "weights", weights),
        (evaluated / EVALUATION, evaluation, "evidence", ev.evidence_digest(evaluated)),
        (evaluated / EVALUATION, evaluation, "threshold", training.get("threshold")),
    ):
        _require(path, {key: content.get(key)}, {key: value}, again)
    check_log(trained / LOG, experiment.recipe.steps)
    located, counted = ev.read_evidence(evaluated, experiment)
    if located is not None and experiment.source.generated:
        _same_truth(ev.truth_file(evaluated), ev.truth_file(results / experiment.id))
    metrics = result_metrics(
        experiment, located, counted, training.get("threshold"),
        _validation(training.get("validation"), located), training.get("convergence"),
    )  # fmt: skip
    for line in wrong_numbers(metrics, counts=counted is not None):
        raise CrowdlocError(f"{trained / TRAINING} and {evaluated}: {line}: {again}")
    run = result_run(training.get("history"), training.get("seconds"), weights, evaluation.get("provenance"))
    check_run(trained / TRAINING, run)

    target = results / experiment.id
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a promotion that was killed
    try:
        part.mkdir(parents=True)
        files = [trained / EXPERIMENT, trained / LOG, *ev.evidence_files(evaluated)]
        files += [trained / WEIGHTS] if experiment.seed == WEIGHTS_SEED else []
        for path in files:
            _copy(path, part / path.name)
        write_json(part / METRICS, metrics)
        write_json(part / RUN, run)
        stored = [target]
        if located is not None and experiment.source.generated:
            stored.append(ev.truth_file(target))
            _copy(ev.truth_file(evaluated), ev.truth_file(target))
        _swap(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return stored


def _validation(validation: Any, located: Evidence | None) -> object:
    try:
        return validation["mAP"]["20"] if located is not None else validation["MAE"]
    except (KeyError, TypeError):
        return None


def _require(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], remedy: str) -> None:
    for key in {**wanted, **found}:
        if key not in found or key not in wanted or found[key] != wanted[key]:
            shown = [repr(side[key]) if key in side else "missing" for side in (found, wanted)]
            raise CrowdlocError(f"{path}: {key} is {shown[0]}, this code and these files say {shown[1]}: {remedy}")


def _same_truth(made: Path, stored: Path) -> None:
    if not stored.is_file():
        return
    one, other = read_truth(made), read_truth(stored)
    points = all(a.shape == b.shape and (a == b).all() for a, b in zip(one.points, other.points, strict=False))
    if (one.images, one.scenes) != (other.images, other.scenes) or not points:
        raise CrowdlocError(
            f"{made} differs from {stored}, to which all results of this group belong: evaluate on the same data"
        )


def _promote_study(origin: Path, target: Path) -> list[Path]:
    table, facts = origin.with_name(f"{origin.name}.csv"), origin.with_name(f"{origin.name}.json")
    check_csv(table)
    check_provenance(facts, read_json(facts), measured=False)
    for path in (table, facts):
        _copy(path, target / path.name)
    return [target / table.name, target / facts.name]


def _promote_json(origin: Path, target: Path, *, measured: bool) -> list[Path]:
    content = read_json(origin)
    check_provenance(origin, content, measured=measured)
    if not measured and content.get("name") != origin.stem:
        raise CrowdlocError(f"{origin} is a census of {content.get('name')!r}: measure {origin.stem} again")
    if content.get("broken"):
        raise CrowdlocError(f"{origin}: {content['broken']} files are broken: restore them and measure again")
    _copy(origin, target / origin.name)
    return [target / origin.name]


def _copy(origin: Path, target: Path) -> None:
    with atomic_write(target) as temporary:
        shutil.copyfile(origin, temporary)


def _swap(part: Path, target: Path) -> None:
    """Put a folder in place of another one; for an instant there is neither, which `check` would say."""
    old = part.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(part, target)
    shutil.rmtree(old, ignore_errors=True)


def main(arguments: list[str] | None = None) -> None:
    """Note the digests of files that were edited by hand, such as a README or a printed table."""
    parser = argparse.ArgumentParser(prog="python -m crowdloc.results.store", description=main.__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="file or folder below results/")
    try:
        changed = accept(paths.RESULTS, parser.parse_args(arguments).files)
    except CrowdlocError as error:
        raise SystemExit(f"error: {error}") from None
    print("\n".join(changed) or "nothing changed")


if __name__ == "__main__":
    main()

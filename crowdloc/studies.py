"""Small studies on validation images: which learning rate, and what the sum of attention and feature costs.

Each writes one CSV with a row per training; rows that exist are not trained again, so an interrupted study goes on.
Test images are never touched here.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crowdloc import evidence as ev
from crowdloc.experiments import RECIPES, Experiment
from crowdloc.inference import predict
from crowdloc.metrics import counting_errors, sigma_scale
from crowdloc.paths import BUILD, RESULTS, atomic_write
from crowdloc.training import LOG, new_model, read_log, train

LEARNING_RATES = (5e-4, 1e-3, 2e-3, 4e-3)
_KEYS = ("group", "model", "options", "learning_rate", "steps", "seed")


def learning_rate_runs(group: str) -> Iterator[dict[str, Any]]:
    """Four rates per architecture, one seed, half of the final steps."""
    for model in RECIPES[group].learning_rates:
        for rate in LEARNING_RATES:
            yield {
                "model": model,
                "learning_rate": rate,
                "steps": RECIPES[group].steps // 2,
                "seed": 100,
                "options": {},
            }


def fusion_runs(group: str) -> Iterator[dict[str, Any]]:
    """How attention joins the feature: not at all (RAZNet), the paper's sum, a learned factor, a convolution."""
    chosen = RECIPES[group]
    for model, options in (
        ("raznet", {}),
        ("frame-stack", {}),
        ("s-gnanet", {"fusion": "sum"}),
        ("s-gnanet", {"fusion": "gated"}),
        ("gnanet", {"fusion": "sum"}),
        ("gnanet", {"fusion": "gated"}),
        ("gnanet", {"fusion": "concat"}),
    ):
        rate = chosen.learning_rates.get(model, chosen.learning_rates["gnanet"])
        yield {"model": model, "learning_rate": rate, "steps": chosen.steps, "seed": 100, "options": options}


STUDIES = {"learning_rate": learning_rate_runs, "fusion": fusion_runs}


def run_study(name: str, group: str, *, root: str | Path | None = None, models: set[str] | None = None) -> Path:
    """Train what is missing of a study and append it to `build/studies/<name>_<group>.csv`, which is returned."""
    path = BUILD / "studies" / f"{name}_{group}.csv"
    for run in STUDIES[name](group):
        if models and run["model"] not in models:
            continue
        key = {"group": group} | run
        rows = read_study(path) if path.exists() else []
        if any(all(row[k] == str(key[k]) for k in _KEYS) for row in rows):
            continue
        rows.append({k: str(v) for k, v in (key | _validate(name, group, run, root)).items()})
        with atomic_write(path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(
                file, fieldnames=list(dict.fromkeys(k for row in rows for k in row)), lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(rows)
    return path


def read_study(path: str | Path) -> list[dict[str, str]]:
    """Rows of a study; a bare name is looked up in `results/studies/`."""
    path = Path(path) if Path(path).suffix else RESULTS / "studies" / f"{path}.csv"
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _validate(name: str, group: str, run: Mapping[str, Any], root: str | Path | None) -> dict[str, Any]:
    data, preset = group.rsplit("-", 1)
    experiment = Experiment(run["model"], data, preset, run["seed"], run["options"])
    recipe = replace(experiment.recipe, steps=run["steps"], learning_rate=run["learning_rate"])
    label = "-".join([run["model"], *map(str, run["options"].values()), f"{run['learning_rate']:g}", str(run["steps"])])
    out = BUILD / "studies" / name / group / label
    print(f"study {name} {group}: {label}", file=sys.stderr)
    model = new_model(experiment.model, recipe, experiment.seed, **experiment.options)
    model = train(model, experiment.load("train", root), recipe, seed=experiment.seed, out=out)
    validation = experiment.load("val", root)
    found = ev.match(predict(model, validation), validation, scale=sigma_scale(group))
    counts = found.counts(found.best_counting_threshold())
    losses = [row["loss"] for row in read_log(out / LOG)]
    thirds = {f"loss_third_{i + 1}": f"{np.mean(part):.5f}" for i, part in enumerate(np.array_split(losses, 3))}
    gates = getattr(getattr(model, "fusion", None), "gate", None)
    return (
        {f"mAP_sigma{sigma}": round(row["mAP"], 4) for sigma, row in found.localization.items()}
        | {f"mAR_sigma{sigma}": round(row["mAR"], 4) for sigma, row in found.localization.items()}
        | {"MAE": round(counting_errors(counts, found.heads)["MAE"], 3)}
        | thirds
        | {"gates": " ".join(f"{g:+.3f}" for g in gates.tolist()) if gates is not None else ""}
    )


def main() -> None:
    """`python -m crowdloc.studies NAME GROUP`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(STUDIES))
    parser.add_argument("group", choices=sorted(RECIPES))
    parser.add_argument("--data-root")
    parser.add_argument("--models", nargs="+")
    arguments = parser.parse_args()
    models = set(arguments.models) if arguments.models else None
    print(run_study(arguments.name, arguments.group, root=arguments.data_root, models=models))


if __name__ == "__main__":
    main()

"""Small studies on validation images: learning rates, what neighbouring frames give, how attention joins, learned γ.

Each writes one CSV with a row per training; what was trained is not trained again, so an interrupted study goes on.
Test images are never touched here.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from crowdloc.attention import GaussianNeighborAttention
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write, read_json, write_json
from crowdloc.core.paths import BUILD, RESULTS
from crowdloc.inference.windows import predict
from crowdloc.metrics import counting_errors, sigma_scale
from crowdloc.results import evidence as ev
from crowdloc.results.experiments import RECIPES, Experiment
from crowdloc.training.loop import LOG, new_model, read_log, train

LEARNING_RATES = (1e-3, 2e-3, 4e-3, 8e-3)


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


def difficulty_runs(group: str) -> Iterator[dict[str, Any]]:
    """What sets SynthCrowd's difficulty, on scenes used for nothing else: RAZNet, and the control with all frames."""
    for model in ("raznet", "frame-stack"):
        yield _run(model, 4e-3, RECIPES[group].steps)


def fusion_runs(group: str) -> Iterator[dict[str, Any]]:
    """How attention joins the feature of one image: not at all (RAZNet), the paper's sum, a learned factor."""
    for model, options in (
        ("raznet", {}),
        ("s-gnanet", {"fusion": "sum"}),
        ("s-gnanet", {"fusion": "gated"}),
    ):
        yield _run(model, RECIPES[group].learning_rates["gnanet"], RECIPES[group].steps // 2, options)


def control_runs(group: str) -> Iterator[dict[str, Any]]:
    """Do neighbouring frames carry information? The difficulty study with three seeds and three times the steps."""
    for model in ("raznet", "frame-stack"):
        for seed in (100, 101, 102):
            yield _run(model, 4e-3, 3 * RECIPES[group].steps, seed=seed)


def longer_runs(group: str) -> Iterator[dict[str, Any]]:
    """GNANet with as many steps as the control, on the same scenes: what the short trainings of the tables hide."""
    for seed in (100, 101, 102):
        yield _run("gnanet", 4e-3, 3 * RECIPES[group].steps, seed=seed)


def gamma_runs(group: str) -> Iterator[dict[str, Any]]:
    """GNANet with draws, with their limit, and with the limit and learned γ from two starts (notebook 19)."""
    limit = {"sampling": "limit"}
    for options in (
        {},
        limit,
        limit | {"learn_gamma": True},
        limit | {"learn_gamma": True, "gamma": [1.0, 1.5, 2.0]},
    ):
        for seed in (100, 101):
            yield _run("gnanet", RECIPES[group].learning_rates["gnanet"], RECIPES[group].steps, options, seed=seed)


def _run(
    model: str, rate: float, steps: int, options: Mapping[str, Any] = MappingProxyType({}), *, seed: int = 100
) -> dict[str, Any]:
    return {"model": model, "learning_rate": rate, "steps": steps, "seed": seed, "options": dict(options)}


STUDIES = {
    "difficulty": difficulty_runs,
    "learning_rate": learning_rate_runs,
    "fusion": fusion_runs,
    "control": control_runs,
    "longer": longer_runs,
    "gamma": gamma_runs,
}
# The splits that are neither trained on nor tested: "dev" belongs to the questions about SynthCrowd itself.
SPLITS = {"difficulty": "dev", "control": "dev", "longer": "dev"}


def run_study(name: str, group: str, *, root: str | Path | None = None, part: tuple[int, int] = (0, 1)) -> Path:
    """Train what is missing of a study, then write `build/studies/<name>_<group>.csv`, which is returned.

    Every training keeps its row in a file of its own, so several processes may share the work: `part` (i, n) takes
    every n-th training from the i-th on.
    """
    folder = BUILD / "studies" / name / group
    rows = []
    for index, run in enumerate(STUDIES[name](group)):
        row = folder / _label(run) / "row.json"
        if not row.exists() and index % part[1] == part[0]:
            measured = (
                {"group": group} | run | _validate(folder / _label(run), group, run, root, SPLITS.get(name, "val"))
            )
            write_json(row, measured)
        if row.exists():
            rows.append(read_json(row))
    path = BUILD / "studies" / f"{name}_{group}.csv"
    with atomic_write(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, lineterminator="\n")
    return path


def read_study(name: str) -> pd.DataFrame:
    """A stored study, e.g. "fusion_mall-mini"."""
    path = RESULTS / "studies" / f"{name}.csv"
    if not path.is_file():
        raise CrowdlocError(
            f"{path} not found: restore it from version control, or run `python -m crowdloc.studies.validation`"
        )
    return pd.read_csv(path, keep_default_na=False)


def as_text(name: str) -> str:
    """A stored study as plain text, one line per training."""
    frame = read_study(name).drop(columns=["group", "seed"])
    return frame.to_string(index=False)


def seeds_text(name: str) -> str:
    """A stored study with several seeds: mean ± standard deviation over the seeds of each row, as plain text."""
    frame = read_study(name)
    grouped = frame.groupby(["model", "options", "steps"], sort=False)
    table = pd.DataFrame({"seeds": grouped.size()})
    for column in ("mAP σ5", "mAP σ20", "mAP σ40", "mAR σ20", "MAE"):
        digits = 2 if column == "MAE" else 3
        mean, deviation = grouped[column].mean(), grouped[column].std()
        table[column] = [f"{m:.{digits}f} ± {d:.{digits}f}" for m, d in zip(mean, deviation, strict=True)]
    return table.reset_index().to_string(index=False)


def learned_gamma(name: str) -> pd.DataFrame:
    """Tidy: module, start and learned γ (sorted, mean over seeds and lowest and highest seed) of a stored study."""
    rows = []
    for _, run in read_study(name).iterrows():
        start = ast.literal_eval(run["options"]).get("gamma", [3.0, 5.0, 10.0])
        for part in filter(None, run["learned gamma"].split("; ")):
            module, *values = part.split(" ")
            for before, after in zip(sorted(start), sorted(map(float, values)), strict=True):
                rows.append(
                    {
                        "module": module,
                        "start": " ".join(f"{gamma:g}" for gamma in start),
                        "γ before": before,
                        "γ": after,
                    }
                )
    grouped = pd.DataFrame(rows).groupby(["start", "module", "γ before"], sort=False)["γ"]
    return grouped.agg(mean="mean", lowest="min", highest="max").reset_index()


def _label(run: Mapping[str, Any]) -> str:
    options = (str(value).replace(", ", "_").strip("()[]") for value in run["options"].values())
    parts = [run["model"], *options, f"{run['learning_rate']:g}", run["steps"], f"seed{run['seed']}"]
    return "-".join(map(str, parts))


def _validate(out: Path, group: str, run: Mapping[str, Any], root: str | Path | None, split: str) -> dict[str, Any]:
    data, preset = group.rsplit("-", 1)
    experiment = Experiment(run["model"], data, preset, run["seed"], run["options"])
    recipe = replace(experiment.recipe, steps=run["steps"], learning_rate=run["learning_rate"])
    print(f"{out.parent.parent.name} {group}: {out.name}", file=sys.stderr)
    training = experiment.load("train", root)
    model = new_model(experiment.model, recipe, experiment.seed, training, **experiment.options)
    model = train(model, training, recipe, seed=experiment.seed, out=out)
    validation = experiment.load(split, root)
    found = ev.match(predict(model, validation), validation, scale=sigma_scale(group))
    counts = found.counts(found.best_counting_threshold())
    losses = [row["loss"] for row in read_log(out / LOG)]
    gates = getattr(getattr(model, "fusion", None), "gate", None)
    learned = {
        name.removesuffix("_gna"): " ".join(f"{gamma:.2f}" for gamma in module.gamma)
        for name, module in model.named_children()
        if isinstance(module, GaussianNeighborAttention) and module.log_gamma is not None
    }
    return (
        {f"mAP σ{sigma}": round(row["mAP"], 3) for sigma, row in found.localization.items()}
        | {"mAR σ20": round(found.localization["20"]["mAR"], 3)}
        | {"MAE": round(counting_errors(counts, found.heads)["MAE"], 2)}
        | {
            f"loss {n}": round(float(np.mean(part)), 4)
            for n, part in zip("abc", np.array_split(losses, 3), strict=True)
        }
        | {"gates": " ".join(f"{g:+.3f}" for g in gates.tolist()) if gates is not None else ""}
        | {"learned gamma": "; ".join(f"{name} {gammas}" for name, gammas in learned.items())}
    )


def main() -> None:
    """`python -m crowdloc.studies.validation NAME GROUP`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(STUDIES))
    parser.add_argument("group", choices=sorted(RECIPES))
    parser.add_argument("--data-root")
    parser.add_argument(
        "--part", nargs=2, type=int, default=(0, 1), metavar=("I", "N"), help="every N-th from the I-th"
    )
    arguments = parser.parse_args()
    print(run_study(arguments.name, arguments.group, root=arguments.data_root, part=tuple(arguments.part)))


if __name__ == "__main__":
    main()

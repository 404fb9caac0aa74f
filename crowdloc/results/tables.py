"""Numbers side by side: what the paper prints, what is stored here, what this run computed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crowdloc import paper
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import digest, read_json
from crowdloc.core.paths import BUILD, NOTEBOOKS, RESULTS
from crowdloc.inference.windows import predict
from crowdloc.metrics import COLUMNS, SIGMAS, sigma_scale
from crowdloc.results import runs
from crowdloc.results.evidence import Evidence, read_evidence
from crowdloc.results.experiments import RECIPES, Experiment, all_experiments, get_experiment
from crowdloc.training.loop import LOG

DEPTHS = ("stored", "weights", "train")
NOT_MEASURED = "not measured"
# Stored evidence gives exact metrics; another processor may move single detections; another training is another draw.
TOLERANCE = {"stored": 1e-9, "weights": 0.005, "train": 0.05}

LABELS = {"raznet": "RAZNet", "gnanet": "GNANet"}
# Rows of the paper's localization tables and the model that stands for each; the others are not measured yet.
_ROWS = {"II": {"RAZNet": "raznet", "GNANet": "gnanet"}}


def measured(
    experiments: Sequence[Experiment], *, source: str = "stored", root: str | Path | None = None, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Metrics by experiment id at the wanted depth.

    "stored" computes them again from the stored evidence of every seed; "weights" runs the stored weights of `seed`
    over the images again; "train" trains `seed` again first. What a batch run has already made in `build/` is used.
    """
    if source not in DEPTHS:
        raise CrowdlocError(f"source {source!r} is unknown: choose one of {', '.join(DEPTHS)}")
    if source == "stored":
        return {e.id: runs.recomputed_metrics(e) for e in experiments if runs.is_stored(e)}
    found = {}
    for experiment in experiments:
        if experiment.seed != seed:
            continue
        if source == "weights":
            found[experiment.id] = _evaluation(experiment, root)
        else:
            folder = BUILD / "experiments" / experiment.id
            if not (folder / runs.METRICS).is_file():
                runs.train(experiment, root=root)
            found[experiment.id] = runs.recomputed_metrics(experiment, folder)
    return found


def _evaluation(experiment: Experiment, root: str | Path | None) -> dict[str, Any]:
    path = BUILD / "evaluations" / f"{experiment.id}.json"
    if path.is_file():
        made = read_json(path)
        if made.get("weights") == digest(RESULTS / experiment.id / runs.WEIGHTS):
            return made
    return runs.evaluate_stored_weights(experiment, root=root)


def compare(
    table: str,
    *,
    data: str = "synthcrowd",
    preset: str = "mini",
    source: str = "stored",
    root: str | Path | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per cell of a localization table: paper | stored | this run | difference | verdict.

    `stored` and `this run` are means over all stored seeds when `source` is "stored", else those of `seed`; their
    difference is what the verdict judges. The paper's number was measured on other data and is shown, not judged.
    """
    printed = paper.table(table)
    models = {row: _ROWS[table].get(row) for row in printed["row"].unique()}
    ours = _measured_cells(data, preset, models, source=source, root=root, seed=seed)
    shown = printed.rename(columns={"row": "method", "value": "paper"})[["method", "sigma", "metric", "paper"]]
    cells = shown.astype({"sigma": int}).merge(ours, on=["method", "sigma", "metric"], how="left")
    return cells.fillna({"verdict": NOT_MEASURED})


def compare_group(
    data: str, preset: str, *, source: str = "stored", root: str | Path | None = None, seed: int = 0
) -> pd.DataFrame:
    """`compare` for a group of experiments that no table of the paper corresponds to: the paper's column is empty."""
    models = {LABELS[model]: model for model in RECIPES[f"{data}-{preset}"].learning_rates}
    cells = _measured_cells(data, preset, models, source=source, root=root, seed=seed)
    cells.insert(3, "paper", np.nan)
    return cells


def _measured_cells(data: str, preset: str, models: Mapping[str, str | None], **depth: Any) -> pd.DataFrame:
    chosen = {method: _stored(data, preset, model) for method, model in models.items() if model}
    now = measured([e for group in chosen.values() for e in group], **depth)
    rows = []
    for method, experiments in chosen.items():
        group = [e for e in experiments if e.id in now]
        for sigma, metric in itertools.product(SIGMAS, COLUMNS):
            stored = _mean([runs.stored_metrics(e) for e in group], sigma, metric)
            this = _mean([now[e.id] for e in group], sigma, metric)
            rows.append(
                {"method": method, "sigma": sigma, "metric": metric, "stored": stored, "this run": this}
                | {"difference": this - stored, "verdict": verdict(this - stored, depth["source"])}
            )
    return pd.DataFrame(rows, columns=["method", "sigma", "metric", "stored", "this run", "difference", "verdict"])


def as_text(cells: pd.DataFrame) -> str:
    """`compare` as plain text: per method and σ a line of what the paper prints and, where measured, lines of ours."""
    lines = []
    for (method, sigma), group in cells.groupby(["method", "sigma"], sort=False):
        rows = group.set_index("metric")
        for kind in ("paper", "stored", "this run"):
            values = rows[kind].reindex(list(COLUMNS))
            if values.isna().all():
                continue
            lines.append({"method": method, "σ": sigma, "numbers": kind} | values.map("{:.3f}".format).to_dict())
        if rows["this run"].isna().all():
            lines.append({"method": method, "σ": sigma, "numbers": NOT_MEASURED} | dict.fromkeys(COLUMNS, "·"))
    return pd.DataFrame(lines).to_string(index=False)


def summary(cells: pd.DataFrame, source: str) -> str:
    """How many cells agree with what is stored, and which do not."""
    done = cells[cells["verdict"] != NOT_MEASURED]
    good = int((done["verdict"] == "reproduced").sum())
    text = f"{good}/{len(done)} measured cells agree with the stored values within {TOLERANCE[source]:g}"
    text += f"; {len(cells) - len(done)} cells not measured"
    for row in done[done["verdict"] != "reproduced"].itertuples(index=False):
        text += f"\n  differs: {row.method} σ {row.sigma} {row.metric}: {row.difference:+.4f}"
    return text


def verdict(difference: float, source: str) -> str:
    """ "reproduced" within the depth's tolerance, else "differs"; "not measured" without a number."""
    if np.isnan(difference):
        return NOT_MEASURED
    return "reproduced" if abs(difference) <= TOLERANCE[source] else "differs"


def _mean(metrics: Sequence[dict[str, Any]], sigma: int, metric: str) -> float:
    values = [m["localization"][str(sigma)][metric] for m in metrics]
    return float(np.mean(values)) if values else float("nan")


def seeds_table(data: str, preset: str, models: Sequence[str]) -> pd.DataFrame:
    """Stored metrics of a group, mean and standard deviation over seeds: index (model, sigma), columns of Table II."""
    rows = []
    for model in models:
        stored = [runs.stored_metrics(e) for e in _stored(data, preset, model)]
        for sigma in SIGMAS:
            values = pd.DataFrame([m["localization"][str(sigma)] for m in stored], columns=list(COLUMNS))
            row = {(c, "mean"): values[c].mean() for c in COLUMNS} | {(c, "std"): values[c].std() for c in COLUMNS}
            rows.append({("model", ""): model, ("sigma", ""): sigma} | row)
    return pd.DataFrame(rows).set_index([("model", ""), ("sigma", "")]).rename_axis(["model", "sigma"])


def counting_table(data: str, preset: str, models: Sequence[str]) -> pd.DataFrame:
    """Counting errors, F1 at the counting threshold and detections per head: one row per model and seed."""
    rows = []
    for model in models:
        for experiment in _stored(data, preset, model):
            metrics = runs.stored_metrics(experiment)
            rows.append(
                {"model": model, "seed": experiment.seed, **metrics["counting"], "F1": metrics["f1"]["F1"]}
                | {"threshold": metrics["counting_threshold"], "detections per head": metrics["detections_per_head"]}
                | {"train AP.50": metrics["convergence"]["train_AP50_sigma20"]}
            )
    return pd.DataFrame(rows)


def evidence_of(data: str, preset: str, model: str) -> list[Evidence]:
    """Stored evidence of every seed."""
    return [read_evidence(RESULTS / e.id, scale=sigma_scale(e.group)) for e in _stored(data, preset, model)]


def _stored(data: str, preset: str, model: str) -> list[Experiment]:
    chosen = [e for e in all_experiments() if (e.data, e.preset, e.model) == (data, preset, model)]
    return [e for e in chosen if runs.is_stored(e)]


def training_logs(data: str, preset: str, models: Sequence[str]) -> dict[str, list[pd.DataFrame]]:
    """Stored training logs by model, one frame per seed."""
    return {m: [pd.read_csv(RESULTS / e.id / LOG) for e in _stored(data, preset, m)] for m in models}


def counted(data: str, preset: str, models: Sequence[str]) -> dict[str, tuple[Evidence, float]]:
    """Evidence and counting threshold of every model's first stored seed, as `figures.counts` takes them."""
    found = {model: _stored(data, preset, model)[:1] for model in models}
    return {
        model: (read_evidence(RESULTS / e.id, scale=sigma_scale(e.group)), runs.stored_metrics(e)["counting_threshold"])
        for model, first in found.items()
        for e in first
    }


def examples(id: str, *, count: int = 4) -> dict[str, Any]:
    """Validation frames of generated data with heads and counted predictions, as `figures.predictions` takes them."""
    experiment = get_experiment(id)
    if not experiment.source.generated:
        raise CrowdlocError(f"{experiment.data} is a real data set: its frames are not to be shown in stored pictures")
    validation = experiment.load("val")
    some = validation.subset(range(0, len(validation), len(validation) // count)[:count])
    threshold = runs.stored_metrics(experiment)["counting_threshold"]
    found = predict(runs.stored_model(experiment), some, progress=False)
    return {
        "images": [some.image(i) for i in range(count)],
        "heads": [frame.points for frame in some.frames],
        "found": [points[scores >= threshold] for points, scores in found],
        "titles": [
            f"{frame.scene}: {len(frame.points)} heads, {(scores >= threshold).sum()} counted"
            for frame, (_, scores) in zip(some.frames, found, strict=True)
        ],
    }


def check(root: str | Path | None = None) -> pd.DataFrame:
    """Compute every stored metric again from its evidence; a value that disagrees is an error that names it.

    With a data root the match flags of real data are computed again too, from the stored weights and the annotations.
    """
    rows = []
    for experiment in all_experiments():
        if not runs.is_stored(experiment):
            continue
        path = RESULTS / experiment.id / runs.METRICS
        _same(path, runs.stored_metrics(experiment), runs.recomputed_metrics(experiment), TOLERANCE["stored"])
        how = "recomputed from points" if experiment.source.generated else "recomputed from flags"
        if root is not None and not experiment.source.generated and (path.parent / runs.WEIGHTS).is_file():
            again = runs.evaluate_stored_weights(experiment, root=root)
            _same(path, runs.stored_metrics(experiment), again, TOLERANCE["weights"])
            how = "verified against annotations"
        rows.append({"experiment": experiment.id, "state": how})
    return pd.DataFrame(rows, columns=["experiment", "state"])


def _same(path: Path, stored: Any, again: Any, tolerance: float, key: str = "") -> None:
    if isinstance(again, dict):
        for name, value in again.items():
            if name == "weights":
                continue
            if not isinstance(stored, dict) or name not in stored:
                raise CrowdlocError(f"{path}: {key}{name} is missing: restore the file from version control")
            _same(path, stored[name], value, tolerance, f"{key}{name}.")
        return
    scale = max(1.0, abs(again))  # counting errors are in heads
    if not isinstance(stored, int | float) or abs(stored - again) > tolerance * scale:
        raise CrowdlocError(
            f"{path}: {key.rstrip('.')} is {stored}, its evidence says {again:.6g}: restore both from version control"
        )


def report() -> str:
    """The summary of a batch run: every measured cell of mAP at each σ, and where the executed notebooks are."""
    lines = []
    for experiment in all_experiments():
        path = BUILD / "evaluations" / f"{experiment.id}.json"
        if path.is_file() and runs.is_stored(experiment):
            lines.extend(_summary_rows(experiment, LABELS[experiment.model], read_json(path)))
    table = pd.DataFrame(lines)
    made = sorted((BUILD / "notebooks").glob("*.ipynb"))
    where = "\n".join(f"  {_relative(path)}" for path in made) or "  none yet"
    shown = table.to_string(index=False, float_format="{:.3f}".format, na_rep="–") if lines else "nothing evaluated"
    return f"{shown}\n\nexecuted notebooks:\n{where}"


def _summary_rows(experiment: Experiment, row: str, made: dict[str, Any]) -> list[dict[str, Any]]:
    stored, rows = runs.stored_metrics(experiment), []
    printed = paper.table("II").set_index(["row", "sigma", "metric"])["value"]
    for sigma in SIGMAS:
        before, now = (m["localization"][str(sigma)]["mAP"] for m in (stored, made))
        published = float(printed[row, sigma, "mAP"]) if experiment.data == "synthcrowd" else float("nan")
        rows.append(
            {"result": experiment.id, "metric": f"mAP σ={sigma}", "paper": published, "stored": before}
            | {"this run": now, "difference": now - before, "verdict": verdict(now - before, "weights")}
        )
    before, now = (m["counting"]["MAE"] for m in (stored, made))
    rows.append(
        {"result": experiment.id, "metric": "MAE", "paper": float("nan"), "stored": before, "this run": now}
        | {"difference": now - before, "verdict": verdict((now - before) / max(before, 1.0), "weights")}
    )
    return rows


def _relative(path: Path) -> str:
    try:
        return path.relative_to(NOTEBOOKS.parent).as_posix()
    except ValueError:
        return str(path)

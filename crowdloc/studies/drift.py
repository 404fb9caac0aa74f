"""Do later frames of a film get harder, and does a threshold of its beginning last? Mall by parts (notebook 20).

`python -m crowdloc.studies.drift --data-root FOLDER` writes `build/studies/drift_mall.csv`, a line per network and part
of 100 frames: the validation frames 701-800, on which thresholds are chosen, and every part of the test frames that is
here. Parts whose frames are not here have only their number of heads, which the annotation file gives for all 2,000.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.paths import require_data_root
from crowdloc.datasets.files import find_folder
from crowdloc.datasets.matlab import load_mat, variable
from crowdloc.metrics import counting_errors, sigma_scale
from crowdloc.results import evidence as ev
from crowdloc.results import runs
from crowdloc.results.evidence import Evidence
from crowdloc.results.experiments import Experiment, experiments_of
from crowdloc.studies import scoring
from crowdloc.studies.stored import read_study, write_study

STUDY = "drift_mall"
PART = 100  # frames
CHOSEN_ON = "701-800"
_GRID = np.arange(5, 96) / 100  # the thresholds that are tried
_AS_GOOD = 0.1  # heads: thresholds whose MAE is that close to the least cannot be told apart on 100 frames


def parts(found: Evidence, size: int = PART) -> Iterator[tuple[str, Evidence]]:
    """Evidence of consecutive parts of a film, each under "first-last", the numbers of its frames."""
    numbers = [int(image.rpartition("_")[2]) for image in found.images]
    for first in range(0, len(numbers), size):
        some = slice(first, first + size)
        name = f"{numbers[some][0]}-{numbers[some][-1]}"
        yield (
            name,
            replace(
                found,
                images=found.images[some],
                scenes=found.scenes[some],
                heads=found.heads[some],
                scores=found.scores[some],
                flags=found.flags[some],
            ),
        )


def line(found: Evidence, threshold: float) -> dict[str, Any]:
    """A part's heads per frame, mAP, and how it is counted: with `threshold` and with the one that is best here.

    `too many` is the mean of count less heads; `lowest` and `highest` bound the thresholds whose MAE is within 0.1 of
    the least.
    """
    metrics = found.metrics(threshold)
    errors = np.array([counting_errors(found.counts(t), found.heads)["MAE"] for t in _GRID])
    as_good = _GRID[errors <= errors.min() + _AS_GOOD]
    return {
        "frames": len(found.images),
        "heads": round(float(found.heads.mean()), 2),
        "mAP σ20": round(metrics["localization"]["20"]["mAP"], 4),
        "precision": round(metrics["f1"]["precision"], 4),
        "recall": round(metrics["f1"]["recall"], 4),
        "threshold": threshold,
        "MAE": round(metrics["counting"]["MAE"], 3),
        "too many": round(float((found.counts(threshold) - found.heads).mean()), 3),
        "best": found.best_counting_threshold(),
        "MAE best": round(float(errors.min()), 3),
        "lowest": float(as_good.min()),
        "highest": float(as_good.max()),
    }


def measure(experiment: Experiment, root: str | Path | None = None) -> list[dict[str, Any]]:
    """A line per part of the validation and of the test frames that are here, of an experiment whose weights are."""
    threshold = runs.read(experiment)
    if threshold is None or threshold.threshold is None:
        raise CrowdlocError(f"{experiment.id} has no stored result with a threshold: promote it first")
    facts = {"name": experiment.name, "seed": experiment.seed}
    found = [_evidence(experiment, split, root) for split in ("val", "test")]
    return [
        facts | {"part": name} | line(part, threshold.threshold) for evidence in found for name, part in parts(evidence)
    ]


def _evidence(experiment: Experiment, split: str, root: str | Path | None) -> Evidence:
    """The stored evidence where it covers the split as it is here; else the network is run over it."""
    dataset = experiment.load(split, root)
    if split == "test":
        stored, _ = ev.read_evidence(runs.stored(experiment), experiment)
        if stored is not None and stored.images == [frame.id for frame in dataset.frames]:
            return stored
    path = runs.find_weights(experiment)
    if path is None:
        raise CrowdlocError(f"no weights of {experiment.id}: `crowdloc train {experiment.id}` first")
    model = runs.load_model(experiment, path)
    maps = runs.kept_maps(experiment, model, dataset, progress=False)
    found = scoring.measure(model, dataset, scale=sigma_scale(experiment.group), maps=maps)
    assert isinstance(found, Evidence)
    return found


def heads(root: str | Path | None = None) -> list[dict[str, Any]]:
    """A line per part of all 2,000 frames, whether they are here or not: heads per frame by the official file."""
    folder = find_folder(require_data_root(root), ("mall", "mall_dataset", "Mall"), ("mall_gt.mat",), "mall")
    path = folder / "mall_gt.mat"
    counts = np.ravel(variable(load_mat(path), path, "count")).astype(float)
    return [
        {
            "name": "",
            "part": f"{first + 1}-{first + PART}",
            "heads": round(float(counts[first : first + PART].mean()), 2),
        }
        for first in range(0, len(counts), PART)
    ]


def make(root: str | Path | None = None) -> pd.DataFrame:
    """The table of the study."""
    lines = heads(root)
    for experiment in experiments_of("Mall"):
        lines += measure(experiment, root)
    return pd.DataFrame(lines)


def by_part(table: pd.DataFrame | None = None) -> pd.DataFrame:
    """Means over networks and seeds, one row per part from frame 701 on; where its frames are not here, NaN.

    `networks` counts those (of `of`) whose best threshold here lies below the one that was chosen.
    """
    table = _read() if table is None else table
    measured = table[table["name"] != ""]
    columns = ["mAP σ20", "precision", "recall", "MAE", "too many", "MAE best"]
    rows = measured.groupby("part", sort=False)[columns].mean()
    rows["lower"] = (measured["best"] < measured["threshold"]).groupby(measured["part"]).sum()
    rows["of"] = measured.groupby("part").size()
    everything = table[table["name"] == ""].set_index("part")["heads"]
    last = everything.index[[int(part.partition("-")[0]) > 700 for part in everything.index]]
    return pd.DataFrame({"heads": everything[last]}).join(rows)


def by_network(table: pd.DataFrame | None = None) -> pd.DataFrame:
    """Thresholds by network, means over seeds: chosen on 701-800, as good there, best on all parts of the test."""
    table = _read() if table is None else table
    measured = table[table["name"] != ""]
    chosen = measured[measured["part"] == CHOSEN_ON].set_index(["name", "seed"])
    tested = measured[measured["part"] != CHOSEN_ON].groupby(["name", "seed"])
    rows = pd.DataFrame({
        "chosen": chosen["threshold"], "as good from": chosen["lowest"], "to": chosen["highest"],
        "best later, lowest": tested["best"].min(), "highest": tested["best"].max(),
        "MAE": tested["MAE"].mean(), "MAE best": tested["MAE best"].mean(), "too many": tested["too many"].mean(),
    })  # fmt: skip
    return rows.groupby(level="name", sort=False).mean()


def with_fullness(table: pd.DataFrame | None = None) -> float:
    """Correlation, over the parts that are here, of the heads per frame with the error of the count."""
    rows = by_part(table).dropna(subset=["too many"])
    return float(np.corrcoef(rows["heads"], rows["too many"])[0, 1])


def parts_text() -> str:
    """`by_part` for a notebook."""
    table = by_part()
    shown = {"heads": 1, "mAP σ20": 3, "precision": 3, "recall": 3, "MAE": 2, "too many": 2, "MAE best": 2}
    text = pd.DataFrame({name: _printed(table[name], digits) for name, digits in shown.items()}, index=table.index)
    counted = [
        f"{low:.0f} of {of:.0f}" if of == of else "-" for low, of in zip(table["lower"], table["of"], strict=True)
    ]
    text["best is lower"] = counted
    return text.rename_axis("frames").reset_index().to_string(index=False)


def networks_text() -> str:
    """`by_network` for a notebook."""
    return by_network().round(2).rename_axis("network").reset_index().to_string(index=False)


def _printed(values: pd.Series, digits: int) -> list[str]:
    return [f"{value:.{digits}f}" if value == value else "-" for value in values]


def _read() -> pd.DataFrame:
    table = read_study(STUDY)
    numbers = [column for column in table.columns if column not in ("name", "part")]
    return table.assign(**{column: pd.to_numeric(table[column]) for column in numbers})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m crowdloc.studies.drift", description="Make the study.")
    parser.add_argument("--data-root", help="folder of the real data sets (default: CROWDLOC_DATA)")
    try:
        root = parser.parse_args(arguments).data_root
        print(write_study(STUDY, make(root), {"part": PART, "as good": _AS_GOOD}))
    except CrowdlocError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()

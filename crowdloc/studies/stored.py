"""Tables of studies: written to `build/studies/`, read from `results/studies/`, and shown as plain text."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write, write_json
from crowdloc.core.paths import RESULTS
from crowdloc.core.provenance import describe as provenance

_SHOWN = ("mAP σ5", "mAP σ20", "mAP σ40", "mAR σ20", "MAE")


def write_study(name: str, table: pd.DataFrame, facts: Mapping[str, Any]) -> Path:
    """Write a table and, beside it, what else is to be said of it and its provenance; returns the table's path."""
    path = paths.BUILD / "studies" / f"{name}.csv"
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    write_json(path.with_suffix(".json"), {"study": name, **facts, "provenance": provenance()})
    return path


def read_study(name: str) -> pd.DataFrame:
    """A stored study, e.g. "fusion_mall-mini"; what is empty there is an empty text.

    Raises:
        CrowdlocError: it is not stored.
    """
    path = RESULTS / "studies" / f"{name}.csv"
    if not path.is_file():
        raise CrowdlocError(f"{path} not found: restore it from version control, or make and promote the study")
    return pd.read_csv(path, keep_default_na=False)


def as_text(name: str) -> str:
    """A stored study as plain text, one line per training."""
    return read_study(name).drop(columns=["group", "seed"], errors="ignore").to_string(index=False)


def seeds_text(name: str, by: Sequence[str] = ("model", "options", "steps"), only: Sequence[str] | None = None) -> str:
    """A stored study with several seeds: mean ± standard deviation over the seeds of each row, as plain text.

    Args:
        by: the columns that tell rows apart ("method" and "differs" in studies of `runner`); "name" is a label
            without rate and seed, such as a method with its variant or a stage.
        only: values of the first of these columns; None is all.
    """
    rows = read_study(name)
    if "name" in by:
        rows["name"] = _names(rows)
    if only is not None:
        rows = rows[rows[by[0]].isin(only)]
    grouped = rows.groupby(list(by), sort=False)
    table = pd.DataFrame({"seeds": grouped.size()})
    for column in _SHOWN:
        values = pd.to_numeric(rows[column])  # empty for methods that only count
        if values.isna().all() and len(rows):
            continue
        digits = 2 if column == "MAE" else 3
        of_row = values.groupby([rows[key] for key in by], sort=False)
        mean, deviation = of_row.mean(), of_row.std()
        table[column] = [
            f"{m:.{digits}f} ± {d:.{digits}f}" if d == d else f"{m:.{digits}f}" if m == m else ""  # one seed has none
            for m, d in zip(mean, deviation, strict=True)
        ]
    return table.reset_index().to_string(index=False)


def pairs_text(name: str, pairs: Mapping[str, tuple[str, str]], column: str = "mAP σ20") -> str:
    """Differences between rows of the same seed in a stored study of `runner`, one line per pair, one column per seed.

    Args:
        pairs: by what a line is called, the two names (as in `seeds_text`): first minus second.
    """
    rows = read_study(name)
    values = pd.to_numeric(rows[column]).groupby([_names(rows), rows["seed"]]).first().unstack("seed")
    table = pd.DataFrame({title: values.loc[first] - values.loc[second] for title, (first, second) in pairs.items()}).T
    return table.rename(columns="seed {}".format).rename_axis(columns=column).to_string(float_format="{:+.3f}".format)


def _names(rows: pd.DataFrame) -> pd.Series:
    """Labels without rate and seed, such as a method with its variant or a stage."""
    return rows["label"].str.replace(r"(-[\d.e-]+)?-seed\d+$", "", regex=True)


def learned_gamma(name: str) -> pd.DataFrame:
    """Tidy: module, start and learned γ (sorted, mean over seeds and lowest and highest seed) of a stored study."""
    rows = []
    for _, run in read_study(name).iterrows():
        start = ast.literal_eval(run["options"]).get("gamma", [3.0, 5.0, 10.0])
        for part in filter(None, run["learned gamma"].split("; ")):
            module, *values = part.split(" ")
            for before, after in zip(sorted(start), sorted(map(float, values)), strict=True):
                where = {"start": " ".join(f"{gamma:g}" for gamma in start), "module": module}
                rows.append(where | {"γ before": before, "γ": after})
    grouped = pd.DataFrame(rows).groupby(["start", "module", "γ before"], sort=False)["γ"]
    return grouped.agg(mean="mean", lowest="min", highest="max").reset_index()


def transfer_table(name: str = "transfer") -> pd.DataFrame:
    """What a network was trained on, tested on, at which height, and its scores: means over seeds."""
    rows = read_study(name).rename(columns={"data": "trained on"})  # the column's name in studies of `runner`
    grouped = rows.groupby(["trained on", "tested on", "height"], sort=False)
    means = grouped.mean(numeric_only=True).drop(columns="seed")
    return means.assign(seeds=grouped["seed"].nunique()).reset_index()


def transfer_text(trained_on: Sequence[str], name: str = "transfer") -> str:
    """`transfer_table` for a notebook: real sets, tested by networks of `trained_on` and by those of the set itself."""
    shown = ["trained on", "tested on", "height", "images", "mAP σ5", "mAP σ20", "mAP σ40", "AP.50 σ20", "mAR σ20",
             "MAE", "seeds"]  # fmt: skip
    digits = {"MAE": "{:.1f}".format}
    table = transfer_table(name)[shown].astype({"images": int})
    real = ~table["tested on"].str.startswith("synthcrowd")
    wanted = table["trained on"].isin(trained_on) | (table["trained on"] == table["tested on"])
    table = table[real & wanted].sort_values("tested on", kind="stable")
    return table.to_string(index=False, formatters=digits, float_format="{:.3f}".format)

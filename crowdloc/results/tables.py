"""A table of experiments at one depth, and its cells: paper, stored, this run.

A notebook reads its table once, `read_table(...)`, and asks that for everything else, so that every number, verdict and
picture has the depth that `source` names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crowdloc import paper
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import read_json
from crowdloc.metrics import COLUMNS, SIGMAS
from crowdloc.models.recipes import get_preset
from crowdloc.models.registry import METHODS, label
from crowdloc.results import runs
from crowdloc.results.experiments import TABLES, Experiment, experiments_of
from crowdloc.results.runs import Run

NOT_MEASURED, NOT_STORED, REPRODUCED, DIFFERS = "not measured", "not stored", "reproduced", "differs"
YARDSTICK = "yardstick"
# Stored evidence gives exact metrics; another processor may move single detections; another training is another draw.
TOLERANCE = {"stored": 1e-9, "weights": 0.005, "train": 0.05}
Place = tuple[str, int | None, str]  # row, σ, metric
# Data sets of the paper's tables, by the data of experiments that stand for them or are them.
PRINTED = {
    "synthcrowd-sense": "SenseCrowd", "sensecrowd": "SenseCrowd", "synthcrowd-fdst": "FDST", "fdst": "FDST",
    "synthcrowd-sha": "ShanghaiTech A", "shanghaitech_a": "ShanghaiTech A",
    "synthcrowd-shb": "ShanghaiTech B", "shanghaitech_b": "ShanghaiTech B",
}  # fmt: skip


class Table(dict[str, list[Run]]):
    """Runs by name ("gnanet" or "gnanet.gamma5"), in the order in which the table lists them.

    An empty list: no result at this depth. Deeper than "stored" a list holds the run of one seed.

    Attributes:
        number, data, preset, source, seed: what was asked for.
        experiments: by name those that were asked for, at the depth "stored" all seeds, else one.
    """

    def __init__(
        self, number: str, data: str, preset: str, source: str, seed: int, experiments: Mapping[str, list[Experiment]]
    ) -> None:
        super().__init__({name: [] for name in experiments})
        self.number, self.data, self.preset, self.source, self.seed = number, data, preset, source, seed
        self.experiments = experiments


def read_table(
    number: str,
    data: str | None = None,
    preset: str = "mini",
    source: str = "stored",
    root: str | Path | None = None,
    seed: int = 0,
) -> Table:
    """The experiments of a table on one data set, read at a depth; what was made in `build/` before is used.

    Args:
        number: "II" … "XII", or "Mall".
        data: one of the table's data sets, e.g. "synthcrowd-sense"; None is the first.
        source: "stored" reads the evidence of every seed, "weights" runs the stored weights of `seed` over the test
            images, "train" trains `seed` first.
        root: folder of the real data sets.

    Raises:
        CrowdlocError: a word or number that is not understood, and what can be asked for instead.
    """
    if source not in runs.DEPTHS:
        raise CrowdlocError(f"source {source!r} is unknown: choose one of {', '.join(runs.DEPTHS)}")
    if number not in TABLES:
        raise CrowdlocError(f"no experiments are listed for table {number!r}: choose one of {', '.join(TABLES)}")
    get_preset(preset)
    sets = list(dict.fromkeys(listed.data for listed in TABLES[number]))
    data = data or sets[0]
    if data not in sets:
        raise CrowdlocError(f"table {number} has no experiments on {data!r}: choose one of {', '.join(sets)}")
    listed = experiments_of(number, preset, data)
    seeds = sorted({e.seed for e in listed})
    if seed not in seeds:
        raise CrowdlocError(f"table {number} on {data} has no seed {seed}: choose one of {', '.join(map(str, seeds))}")
    chosen: dict[str, list[Experiment]] = {e.name: [] for e in listed}
    for experiment in listed:
        if source == "stored" or experiment.seed == seed:
            chosen[experiment.name].append(experiment)
    table = Table(number, data, preset, source, seed, chosen)
    for run in runs.read_all([e for group in chosen.values() for e in group], source, root, seed):
        table[run.experiment.name].append(run)
    if source == "weights" and not any(table.values()) and any(map(runs.is_stored, listed)):
        kept = sorted({e.seed for e in listed if (runs.stored(e) / runs.WEIGHTS).is_file()})
        choice = f"choose seed {' or '.join(map(str, kept))}" if kept else "read source 'stored'"
        raise CrowdlocError(f"no weights of seed {seed} are stored: {choice}, or source 'train'")
    return table


def read_tables(
    number: str,
    data: str | None = None,
    preset: str = "mini",
    source: str = "stored",
    root: str | Path | None = None,
    seed: int = 0,
) -> dict[str, Table]:
    """A table on each of its data sets, by their names: `data` at the depth `source`, the others as they are stored."""
    chosen = read_table(number, data, preset, source, root, seed)
    found = others(chosen) | {chosen.data: chosen}
    return {listed.data: found[listed.data] for listed in TABLES[number]}


def others(table: Table) -> dict[str, Table]:
    """A table on its other data sets, by their names; always from stored evidence, all seeds."""
    sets = dict.fromkeys(listed.data for listed in TABLES[table.number])
    return {data: read_table(table.number, data, table.preset) for data in sets if data != table.data}


def compare(
    table: str | Table,
    data: str | None = None,
    preset: str = "mini",
    source: str = "stored",
    root: str | Path | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per cell of a table, its rows of the paper first, then methods that the paper's table does not have.

    `stored` and `this run` are means over the seeds that were read: all of them at the depth "stored" (once as written
    down, once computed now from the evidence), else one. `difference` is this run minus stored, and `verdict` says
    whether it lies within the depth's tolerance. The paper's number was measured on other data: shown, not judged.

    Args:
        table: a table that was read, or its number; then the other arguments are those of `read_table`.

    Returns:
        Columns method, sigma (Int64), metric, paper, stored, this run, deviation (over seeds), seeds, difference,
        verdict. `attrs` hold number, data, preset, source.
    """
    found = table if isinstance(table, Table) else read_table(table, data, preset, source, root, seed)
    printed = _printed(found)
    places = list(dict.fromkeys((sigma, metric) for _, sigma, metric in printed)) or _places(found.number)
    rows = []
    for method, name in _rows(found, printed):
        before = [
            read_json(runs.stored(e) / runs.METRICS) for e in found.experiments.get(name, ()) if runs.is_stored(e)
        ]
        now = [run.metrics for run in found.get(name, ())]
        for sigma, metric in places:
            values = _values(now, sigma, metric)
            stored, this = _mean(_values(before, sigma, metric)), _mean(values)
            rows.append(
                {"method": method, "sigma": sigma, "metric": metric}
                | {"paper": printed.get((method, sigma, metric), np.nan), "stored": stored, "this run": this}
                | {"deviation": values.std(ddof=1) if len(values) > 1 else np.nan, "seeds": len(values)}
                | {"difference": this - stored, "verdict": verdict(this, stored, found.source)}
            )
    cells = pd.DataFrame(rows).astype({"sigma": "Int64"})
    cells.attrs = {key: getattr(found, key) for key in ("number", "data", "preset", "source")}
    return cells


def with_yardsticks(cells: pd.DataFrame, yardsticks: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`compare`, and below it rows of what is no method, e.g. the centres of annotated boxes: it gets no verdict.

    Args:
        yardsticks: by name, each as `metrics.localization_scores` returns it.
    """
    rows = [
        {"method": name, "sigma": sigma, "metric": metric, "this run": value, "seeds": 0, "verdict": YARDSTICK}
        for name, scores in yardsticks.items()
        for sigma, row in scores.iterrows()
        for metric, value in row.items()
    ]
    found = pd.DataFrame([*cells.to_dict("records"), *rows], columns=cells.columns).astype(cells.dtypes)
    found.attrs = cells.attrs
    return found


def verdict(this: float, stored: float, source: str) -> str:
    """ "reproduced" within the depth's tolerance (relative above 1), else "differs"; or which of the two is missing."""
    if np.isnan(this):
        return NOT_MEASURED
    if np.isnan(stored):
        return NOT_STORED
    return REPRODUCED if abs(this - stored) <= TOLERANCE[source] * max(1.0, abs(stored)) else DIFFERS


def summary(cells: pd.DataFrame) -> str:
    """How many cells of `compare` agree with what is stored, which do not, and how many are not measured."""
    done = cells[cells["verdict"].isin((REPRODUCED, DIFFERS))]
    good = int((done["verdict"] == REPRODUCED).sum())
    text = f"{good}/{len(done)} measured cells agree with the stored values within {TOLERANCE[cells.attrs['source']]:g}"
    if cells.attrs["source"] != "stored" and len(done):
        text += f"; the largest difference is {done['difference'].abs().max():.4f}"
    for state in (NOT_STORED, NOT_MEASURED):
        if number := int((cells["verdict"] == state).sum()):
            text += f"; {number} cells {state}"
    for row in done[done["verdict"] == DIFFERS].itertuples(index=False):
        place = row.metric if pd.isna(row.sigma) else f"{row.metric} at σ {row.sigma}"
        text += f"\n  differs: {row.method}, {place}: {row.difference:+.4f}"
    return text


def _printed(table: Table) -> dict[Place, float]:
    """The paper's numbers on the data set that the table's data stands for."""
    if table.number not in paper.NUMBERS:
        return {}
    cells = paper.table(table.number)
    cells = cells[cells["dataset"] == PRINTED.get(table.data)]
    return {
        (row.row, None if pd.isna(row.sigma) else int(row.sigma), row.metric): row.value for row in cells.itertuples()
    }


def _places(number: str) -> list[tuple[int | None, str]]:
    """σ and metrics of data that the paper's table does not have: all of localization, or what the table counts by."""
    cells = paper.table(number) if number in paper.NUMBERS else None
    if cells is not None and cells["sigma"].isna().all():
        return [(None, str(metric)) for metric in dict.fromkeys(cells["metric"])]
    return [(sigma, metric) for sigma in SIGMAS for metric in COLUMNS]


def _rows(table: Table, printed: Mapping[Place, float]) -> Iterator[tuple[str, str]]:
    """(row, name of the runs or ""): the paper's rows, then what is measured besides."""
    stands_for = {row: name for name in table for row in paper_rows(table.number, name)}
    named = list(dict.fromkeys(row for row, _, _ in printed))
    yield from ((row, stands_for.get(row, "")) for row in named)
    shown = {stands_for.get(row) for row in named}
    for name in table:
        if name not in shown:
            alike = paper_rows(table.number, name)  # data that the paper's table does not have
            title = alike[0] if alike and not named else shown_name(name)
            yield (name if title in named else title), name


def paper_rows(number: str, name: str) -> list[str]:
    """The rows of a table of the paper that runs called "gnanet" or "gnanet.gamma5" stand for, by the registry."""
    method, _, variant = name.partition(".")
    return [row for row, wanted in METHODS[method].rows.get(number, {}).items() if wanted == variant]


def shown_name(name: str) -> str:
    """Label of "gnanet" or "gnanet.gamma5"."""
    method, _, variant = name.partition(".")
    return label(method, variant)


def _values(metrics: Sequence[Mapping[str, Any]], sigma: int | None, metric: str) -> NDArray[np.float64]:
    """A metric of every seed that has it."""
    parts = [m.get("counting", {}) if sigma is None else m.get("localization", {}).get(str(sigma), {}) for m in metrics]
    return np.array([part[metric] for part in parts if metric in part], dtype=np.float64)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")

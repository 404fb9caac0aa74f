"""The summary of a batch run: the main numbers of every table, and where the executed notebooks are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from crowdloc.core import paths
from crowdloc.datasets.catalog import label
from crowdloc.results.experiments import SOURCES, TABLES
from crowdloc.results.tables import NOT_MEASURED, compare, read_table, summary

_METRICS = ("mAP", "MAE")


def report(source: str = "stored", root: str | Path | None = None, seed: int = 0) -> str:
    """Every measured mAP and MAE of the tables at the depth of the run, and how all cells agree with what is stored.

    Tables of real data are "not measured" at the deeper depths where there is no data root.
    """
    parts, frames = [], []
    for number, listed in TABLES.items():
        for data in dict.fromkeys(one.data for one in listed):
            place = f"{number}, {label(data)}"
            if source != "stored" and not SOURCES[data].generated and paths.data_root(root) is None:
                parts.append(f"{place}: {NOT_MEASURED} (no data root)")
                continue
            cells = compare(read_table(number, data, source=source, root=root, seed=seed))
            parts.append(f"{place}: {summary(cells)}")
            shown = cells[cells["metric"].isin(_METRICS) & cells["this run"].notna()].assign(table=place)
            frames.append(shown)
    # Neither failed ones nor what a killed process left, whose name begins with a dot.
    made = sorted(p for p in (paths.BUILD / "notebooks").glob("[0-9]*.ipynb") if not p.name.endswith(".failed.ipynb"))
    where = "\n".join(f"  {_relative(path)}" for path in made) or "  none yet"
    return "\n\n".join([_text(frames), "\n".join(parts), f"executed notebooks:\n{where}"])


def _text(frames: list[pd.DataFrame]) -> str:
    table = pd.concat(frames) if frames else pd.DataFrame()
    if table.empty:
        return NOT_MEASURED
    table["metric"] = [m if pd.isna(s) else f"{m} σ {s}" for m, s in zip(table["metric"], table["sigma"], strict=True)]
    columns = ["table", "method", "metric", "paper", "stored", "this run", "difference", "verdict"]
    return table[columns].to_string(index=False, float_format="{:.3f}".format, na_rep="–")


def _relative(path: Path) -> str:
    try:
        return path.relative_to(paths.ROOT).as_posix()
    except ValueError:
        return str(path)

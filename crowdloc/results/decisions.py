"""Verdicts on claims that no cell of a table decides, and numbers of tables that come from studies, not evidence.

What is here is computed from stored timings and studies; a claim without an entry is not measured. An entry gives its
verdict, where it was found, and what it says in a few words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from crowdloc.core.files import read_json
from crowdloc.paper import Cell
from crowdloc.results.verdicts import FAILS, HOLDS, NOT_MEASURED, combined

_TIMINGS = "kernels/attention_cpu.json"
_DRAWS, _SPEED = "studies/draws_synthcrowd-sense-mini.csv", "studies/speed_synthcrowd-sense-mini.csv"
_APPENDIX = "studies/appendix_{}-mini.csv"
_FINDINGS = ("studies/headsize_{}-mini.csv", "studies/ablations_{}-mini.csv")  # claim, asked, verdict, numbers
_APPENDIX_CLAIMS = {
    "error-bound": "bound holds",
    "similarity-distance": "similarity falls",
    "gna-smaller-error": "GNA errs less",
}
_NETWORK = 0  # the one trained network of those studies: its numbers are those of one seed
_FROM = 36 * 64  # cells from which on times are no longer overhead
_NEAR = 0.25  # how far a fitted exponent may be from 1 or 2 to be called that


class Decision(NamedTuple):
    """A verdict and the file that it comes from, relative to `results/` (a test: to the repository)."""

    verdict: str
    source: str
    words: str = ""


def without_data(results: Path) -> dict[str, Decision]:
    """Verdicts on claims about the operator itself, from the files below `results` (a folder like `results/`)."""
    found = {"differentiable": Decision(HOLDS, "tests/attention/test_derivatives.py", "numerical gradients agree")}
    if (results / _TIMINGS).is_file():
        timings = read_json(results / _TIMINGS)
        for claim, decide in _BY_TIMINGS.items():
            verdict, words = decide(timings)
            found[claim] = Decision(verdict, _TIMINGS, words)
    return found


def on_data(results: Path, data: Iterable[str]) -> dict[str, Decision]:
    """Verdicts of stored studies on claims that no table has a cell for, from the first data set that has one.

    Appendix A's claims, on the maps of one trained network (`crowdloc.studies.appendix_study`): every kind of map has
    to agree; intervals are over clips. Claims on head sizes (`crowdloc.studies.headsize`) and on points and γ
    (`crowdloc.studies.ablation_claims`), with the verdicts of those studies.
    """
    found: dict[str, Decision] = {}
    for name in reversed(list(data)):  # so that the first has the last word
        found |= _of_appendix(results, _APPENDIX.format(name))
        for study in _FINDINGS:
            found |= _findings(results, study.format(name))
    return found


def _of_appendix(results: Path, source: str) -> dict[str, Decision]:
    if not (results / source).is_file():
        return {}
    table = pd.read_csv(results / source, dtype=str, keep_default_na=False)
    found = {}
    for claim, column in _APPENDIX_CLAIMS.items():
        by_kind = ", ".join(f"{kind} {word}" for kind, word in zip(table["maps"], table[column], strict=True))
        found[claim] = Decision(combined(set(table[column])), source, f"one network; {by_kind}")
    return found


def _findings(results: Path, source: str) -> dict[str, Decision]:
    if not (results / source).is_file():
        return {}
    table = pd.read_csv(results / source, dtype=str, keep_default_na=False)
    return {
        row["claim"]: Decision(row["verdict"], source, f"{row['asked']}: {row['numbers']}")
        for row in table.to_dict("records")
        if row["verdict"] != NOT_MEASURED
    }


def from_studies(results: Path) -> dict[Cell, Mapping[int, float]]:
    """Cells of Table X that stored studies of one trained network give, by that network's seed."""
    found: dict[Cell, Mapping[int, float]] = {}
    if (results / _DRAWS).is_file():
        table = pd.read_csv(results / _DRAWS)
        for samplings, group in table[table["sampling"] == "independent"].groupby("S"):
            for metric in ("mAP", "mAR"):
                values = group.get(f"{metric} σ20")
                if values is not None:
                    found[_cell(samplings, metric)] = {_NETWORK: float(values.mean())}
                    found[_cell(samplings, f"{metric} deviation")] = {_NETWORK: float(values.std())}
    if (results / _SPEED).is_file():
        table = pd.read_csv(results / _SPEED)
        table = table[(table["sampling"] == "independent") & (table["what"] == "end to end")]
        for row in table.to_dict("records"):
            found[_cell(row["S"], "FPS")] = {_NETWORK: float(row["frames per second"])}
    return found


def _cell(samplings: Any, metric: str) -> Cell:
    return Cell("X", "SenseCrowd", f"{int(samplings)}", 20, metric)


def _exponent(timings: Mapping[str, Any], method: str, key: str) -> tuple[float, int]:
    """Slope of log time (median) or log memory against log of the number of map cells, and the number of sizes."""
    points = [
        (row["height"] * row["width"], row["ms"][1] if key == "ms" else row[key])
        for row in timings["sizes"]
        if row["method"] == method and not row["left_out"] and row["height"] * row["width"] >= _FROM
    ]
    if len(points) < 3:
        return math.nan, len(points)
    cells, cost = np.log(np.array(points, dtype=float)).T
    return float(np.polyfit(cells, cost, 1)[0]), len(points)


def _quadratic(timings: Mapping[str, Any]) -> tuple[str, str]:
    return _grows(timings, "full", 2, "; measured on a fused kernel, which keeps no matrix of scores")


def _linear(timings: Mapping[str, Any]) -> tuple[str, str]:
    return _grows(timings, "GNA, numba", 1)


def _grows(timings: Mapping[str, Any], method: str, power: int, note: str = "") -> tuple[str, str]:
    """Whether both time and memory grow with this power of the number of map cells N."""
    time, sizes = _exponent(timings, method, "ms")
    memory, _ = _exponent(timings, method, "extra_mib")
    if math.isnan(time):
        return NOT_MEASURED, ""
    verdict = HOLDS if max(abs(time - power), abs(memory - power)) <= _NEAR else FAILS
    return verdict, f"time grows as N^{time:.2f}, memory as N^{memory:.2f} ({sizes} sizes{note})"


_BY_TIMINGS: dict[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "full-attention-quadratic": _quadratic,
    "linear-cost": _linear,
}

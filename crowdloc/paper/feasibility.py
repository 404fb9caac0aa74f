"""Which printed cells of one method can be right together: a linear programme over everything they are means of.

Behind the (up to) 18 cells of a method stand AP and AR at ten thresholds and three σ: 60 numbers in all. If one set of
detections gave them, then whatever the detections were

- AP and AR never fall when the radius grows within which a detection counts, σ·sqrt(-2 ln t) (`crowdloc.metrics`);
- AP is at most (100 AR + 1) / 101: precision is at most 1, and beyond the recall reached it is 0;
- a cell is one of these numbers, or the mean of ten of them, to half a unit of its last digit.

All of this is linear, so it also holds for means over repeated tests or trainings. If no 60 numbers exist, some cell is
not what the method measured, or its cells do not come from the same detections; which, the rules cannot say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linprog

from crowdloc.core.errors import CrowdlocError
from crowdloc.paper.inconsistencies import THRESHOLDS
from crowdloc.paper.tables import COLUMNS, NUMBERS, Cell, table

Key = tuple[int, str]  # σ and metric of a cell of one method
Cells = frozenset[Key]
HALF = 0.0005  # of a unit of the last printed digit
_POSSIBLE = 1e-6  # all cells together may miss their intervals by this: the solver's tolerance
_MOST = 5  # cells that an explanation may call wrong
_COLUMNS = ["table", "dataset", "row", "together", "changes", "cell", "printed", "low", "high", "excess"]


def impossible(numbers: tuple[str, ...] = NUMBERS) -> pd.DataFrame:
    """Cells of the printed tables that cannot be right together, beyond rounding; see `explained`."""
    return explained(pd.concat([table(number) for number in numbers]))


def explained(tidy: pd.DataFrame) -> pd.DataFrame:
    """The smallest explanations of every method whose cells contradict each other.

    Args:
        tidy: localization scores, columns as of `table`; rows of other metrics are ignored.

    Returns:
        A row per cell of an explanation: `table, dataset, row`, `together` (cells that contradict each other: drop any
        one and the rest of them is possible), `changes` (number of the explanation; its cells suffice, no fewer do),
        `cell` ("AR.75 σ 40"), what is `printed`, the `low` and `high` that all cells outside the explanation allow,
        and the `excess` of the printed number (from the nearer end of its rounding).
    """
    found = []
    for (number, dataset, row), values in methods(tidy).items():
        conflicts, explanations = explain(values)
        together = "; ".join(spelled(c) for c in conflicts)
        for place, cells in enumerate(explanations, 1):
            for key in ordered(cells):
                low, high = allowed(values, key, without=cells)
                excess = max(values[key] - HALF - high, low - values[key] - HALF)
                at = (number, dataset, row, together, place, _name(key), values[key])
                found.append((*at, low, high, excess))
    return pd.DataFrame(found, columns=_COLUMNS)


def methods(tidy: pd.DataFrame) -> dict[tuple[str, str, str], dict[Key, float]]:
    """Localization scores by (table, data set, row) and cell."""
    found: dict[tuple[str, str, str], dict[Key, float]] = {}
    for r in tidy[tidy["metric"].isin(COLUMNS)].itertuples():
        found.setdefault((r.table, r.dataset, r.row), {})[int(r.sigma), r.metric] = float(r.value)
    return found


def explain(values: Mapping[Key, float]) -> tuple[list[Cells], list[Cells]]:
    """Contradictory groups of cells, and all smallest sets of cells without which the rest is possible.

    Every group is minimal, and every set meets each group (Reiter's hitting sets, breadth first). Both are empty for
    cells that are possible as they are.

    Raises:
        CrowdlocError: more than five cells would have to change.
    """
    conflicts: list[Cells] = []
    explanations: list[Cells] = []
    queue, seen = deque([Cells()]), {Cells()}
    while queue:
        removed = queue.popleft()
        if explanations and len(removed) > len(explanations[0]):
            break
        conflict = next((c for c in conflicts if not c & removed), None) or _conflict(values, removed)
        if conflict is None:
            explanations.append(removed)
            continue
        if conflict not in conflicts:
            conflicts.append(conflict)
        if len(removed) == _MOST:
            raise CrowdlocError(f"more than {_MOST} cells of one method contradict the others: is the table damaged?")
        for key in ordered(conflict):
            if (more := removed | {key}) not in seen:
                seen.add(more)
                queue.append(more)
    return conflicts, [e for e in explanations if e]


def possible(values: Mapping[Key, float], without: Collection[Key] = ()) -> bool:
    """Whether some detections may have these scores, those of `without` left aside."""
    return _misses(values, without)[0] <= _POSSIBLE


def allowed(values: Mapping[Key, float], cell: Key, without: Collection[Key] = ()) -> tuple[float, float]:
    """Lowest and highest value of a cell that the others allow, those of `without` and itself left aside."""
    return extremes(values, {cell: 1.0}, {*without, cell})


def extremes(
    values: Mapping[Key, float], weights: Mapping[Key, float], without: Collection[Key] = ()
) -> tuple[float, float]:
    """Lowest and highest weighted sum of cells, where all cells but those of `without` are as printed.

    Raises:
        CrowdlocError: the cells that remain contradict each other.
    """
    sigmas = _sigmas(values)
    rows = np.array([_row(key, sigmas) for key in weights])
    objective = np.array(list(weights.values())) @ rows
    above, limits = _system(values, without, sigmas)
    ends = []
    for sign in (1.0, -1.0):
        found = linprog(sign * objective, A_ub=above, b_ub=limits, bounds=(0.0, 1.0), method="highs")
        if not found.success:
            raise CrowdlocError("the cells contradict each other: leave more of them aside")
        ends.append(sign * float(found.fun))
    return ends[0], ends[1]


def ordered(keys: Iterable[Key]) -> list[Key]:
    """By σ, then as the columns of a table."""
    return sorted(keys, key=lambda key: (key[0], COLUMNS.index(key[1])))


def spelled(keys: Iterable[Key]) -> str:
    """ "AR.50 σ 20, AR.50 σ 40"."""
    return ", ".join(_name(key) for key in ordered(keys))


@cache
def disputed() -> frozenset[Cell]:
    """All printed cells that take part in a smallest explanation of a contradiction."""
    found = impossible()
    keys = (cell.rpartition(" σ ") for cell in found["cell"])
    return frozenset(
        Cell(r.table, r.dataset, r.row, int(sigma), metric)
        for r, (metric, _, sigma) in zip(found.itertuples(), keys, strict=True)
    )


def _name(key: Key) -> str:
    return f"{key[1]} σ {key[0]}"


def _conflict(values: Mapping[Key, float], without: Collection[Key]) -> Cells | None:
    """A group of cells that contradict each other while any fewer of them do not; None: the cells are possible."""
    missed, group = _misses(values, without)
    if missed <= _POSSIBLE:
        return None
    for key in ordered(group):
        if not possible({k: values[k] for k in group if k != key}):
            group = group - {key}
    return group


def _misses(values: Mapping[Key, float], without: Collection[Key]) -> tuple[float, Cells]:
    """By how much all cells together must miss their rounding intervals, and the cells to which that is due."""
    keys = [key for key in values if key not in without]
    if not keys:
        return 0.0, Cells()
    sigmas = _sigmas(values)
    above, limits = _system(values, without, sigmas)
    columns, fixed = above.shape[1], len(above) - 2 * len(keys)
    # A variable per cell says by how much its two inequalities may be missed; their sum is made small.
    slack = np.zeros((len(above), len(keys)))
    slack[fixed:, :] = -np.repeat(np.eye(len(keys)), 2, axis=0)
    cost = np.r_[np.zeros(columns), np.ones(len(keys))]
    found = linprog(
        cost, A_ub=np.hstack([above, slack]), b_ub=limits, bounds=[(0, 1)] * columns + [(0, None)] * len(keys),
        method="highs",
    )  # fmt: skip
    # The multipliers are a proof of infeasibility: cells whose inequalities have none play no part in it.
    used = np.abs(found.ineqlin.marginals[fixed:]).reshape(len(keys), 2).max(axis=1) > 1e-9
    return float(found.fun), Cells(key for key, part in zip(keys, used, strict=True) if part)


def _system(
    values: Mapping[Key, float], without: Collection[Key], sigmas: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A x ≤ b: the rules, then two rows for every printed cell."""
    rules, limits = _rules(sigmas)
    rows = [np.array([_row(key, sigmas) for key in values if key not in without]).reshape(-1, rules.shape[1])]
    printed = np.array([value for key, value in values.items() if key not in without])
    both = np.repeat(rows[0], 2, axis=0)
    both[1::2] *= -1
    ends = np.repeat(printed, 2)
    ends[1::2] *= -1
    return np.vstack([rules, both]), np.r_[limits, ends + HALF]


@cache
def _rules(sigmas: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A x ≤ b for x = (AP, AR), each (σ, threshold) flattened: monotone in the radius, AP bounded by AR."""
    radii = np.array([sigma * np.sqrt(-2 * np.log(t)) for sigma in sigmas for t in THRESHOLDS])
    order, n = np.argsort(radii), len(radii)
    chain = np.zeros((n - 1, n))
    chain[np.arange(n - 1), order[:-1]], chain[np.arange(n - 1), order[1:]] = 1, -1
    none = np.zeros_like(chain)
    ceiling = np.hstack([np.eye(n), -100 / 101 * np.eye(n)])
    rows = np.vstack([np.hstack([chain, none]), np.hstack([none, chain]), ceiling])
    return rows, np.r_[np.zeros(2 * (n - 1)), np.full(n, 1 / 101)]


@cache
def _row(key: Key, sigmas: tuple[int, ...]) -> NDArray[np.float64]:
    """The cell as a linear function of x."""
    sigma, metric = key
    weights = np.full(len(THRESHOLDS), 1 / len(THRESHOLDS))
    if not metric.startswith("m"):
        weights = np.isclose(THRESHOLDS, float(metric[2:])).astype(float)
    row = np.zeros((2, len(sigmas), len(THRESHOLDS)))
    row[int("AR" in metric), sigmas.index(sigma)] = weights
    return row.ravel()


def _sigmas(values: Mapping[Key, float]) -> tuple[int, ...]:
    return tuple(sorted({sigma for sigma, _ in values}))

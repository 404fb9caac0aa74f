"""Slips that would explain a contradiction in print, and what each would do to the claims.

Nobody but the authors can say what was measured. What can be said is which ordinary slips of the pen, undone, make a
method's cells possible (`crowdloc.paper.feasibility`): two columns or two rows exchanged, two digits exchanged, one
digit wrong. A claim may hang on which of them it was; `open_claims` asks what is decided whatever the right cells are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations, product

import pandas as pd

from crowdloc.paper.feasibility import (
    HALF,
    Cells,
    Key,
    allowed,
    disputed,
    explain,
    extremes,
    methods,
    ordered,
    possible,
)
from crowdloc.paper.predicates import Contrast, check_claims, combined, contrasts, judged
from crowdloc.paper.tables import COLUMNS, NUMBERS, Cell, cells, table

SWAP, DIGITS, DIGIT, ROW_DIGIT = "columns exchanged", "digits exchanged", "one digit", "the same digit in a row"
ROWS = "rows exchanged"
_KINDS = (COLUMNS[:3], COLUMNS[3:])
_NEARLY = 1e-7  # of the solver
Method = tuple[str, str, str]
Changes = dict[Key, float]


def repairs(numbers: tuple[str, ...] = NUMBERS) -> pd.DataFrame:
    """Every simple slip that explains a contradictory method of the printed tables.

    Returns:
        `table, dataset, row`, `slip` (its kind), `changes` ("AR.50 σ 20: .868 → .889; …") and `effects`: claims whose
        verdict on print would be another ("scene-modeling-both: partly → yes"), empty where none changes.
    """
    rows = []
    for (number, dataset, row), values in methods(pd.concat([table(n) for n in numbers])).items():
        for slip, changed in undone(values):
            where = {Cell(number, dataset, row, *key): value for key, value in changed.items()}
            words = "; ".join(f"{m} σ {s}: {_text(values[s, m])} → {_text(changed[s, m])}" for s, m in ordered(changed))
            rows.append((number, dataset, row, slip, words, effects(where)))
    return pd.DataFrame(rows, columns=["table", "dataset", "row", "slip", "changes", "effects"])


def undone(values: Mapping[Key, float]) -> list[tuple[str, Changes]]:
    """Simple slips without which a method's cells are possible: kind, and the new values of the cells that change.

    Exchanged columns or rows come first: they invent no digit. Wrong digits are looked for only in the cells of the
    smallest explanations, one in each; where three cells or more would have to be wrong, the same step in a whole row.
    """
    conflicts, explanations = explain(values)
    if not conflicts:
        return []
    found = [(slip, changed) for slip, changed in _exchanged(values) if possible({**values, **changed})]
    if len(explanations[0]) > 2:
        return found + [(ROW_DIGIT, changed) for changed in _row_digits(values) if possible({**values, **changed})]
    return found + [slip for explanation in explanations for slip in _misprinted(values, explanation)]


def open_claims() -> pd.DataFrame:
    """`check_claims` where disputed cells are open: only what holds whatever their right values are counts as decided.

    Every cell of a smallest explanation may have any value that the undisputed cells of its method allow. A claim that
    needs none of them keeps its verdict.

    Returns:
        `id`, `holds_in_print`, `disputed` (comparisons that need a disputed cell), `holds_whatever`.
    """
    numbers, open_, rows = cells(), disputed(), []
    for row in check_claims().to_dict("records"):
        parts = by_claim().get(row["id"], [])
        touched = [part for part in parts if any(cell in open_ for _, cell in part.terms)]
        words = [_whatever(part) if part in touched else judged(part, numbers) for part in parts]
        rows.append((row["id"], row["holds_in_print"], len(touched), combined(words)))
    return pd.DataFrame(rows, columns=["id", "holds_in_print", "disputed", "holds_whatever"])


def effects(changed: Mapping[Cell, float]) -> str:
    """The claims whose verdict on print would change with these cells: "scene-modeling-both: partly → yes; …"."""
    numbers, found = {**cells(), **changed}, []
    for claim, parts in by_claim().items():
        if any(cell in changed for part in parts for _, cell in part.terms):
            before, after = (combined([judged(part, side) for part in parts]) for side in (cells(), numbers))
            found += [f"{claim}: {before} → {after}"] if before != after else []
    return "; ".join(found)


@cache
def by_claim() -> dict[str, list[Contrast]]:
    """The comparisons of every claim that has some, in the order of the paper."""
    found: dict[str, list[Contrast]] = {}
    for part in contrasts():
        found.setdefault(part.claim, []).append(part)
    return found


def _whatever(part: Contrast) -> str:
    low, high = part.constant, part.constant
    by_method: dict[Method, dict[Key, float]] = {}
    for weight, cell in part.terms:
        assert cell.sigma is not None
        group = by_method.setdefault(cell[:3], {})
        key = cell.sigma, cell.metric
        group[key] = group.get(key, 0.0) + weight
    for method, weights in by_method.items():
        ends = _ends(method, tuple(weights.items()))
        low, high = low + ends[0], high + ends[1]
    least, most = part.limits
    if high <= least + _NEARLY or low >= most - _NEARLY:
        return "failed"
    return "held" if low >= least - _NEARLY and high <= most + _NEARLY else "undecidable"


@cache
def _ends(method: Method, weights: tuple[tuple[Key, float], ...]) -> tuple[float, float]:
    values = {(c.sigma, c.metric): v for c, v in cells().items() if c[:3] == method and c.sigma and c.metric in COLUMNS}
    return extremes(values, dict(weights), {(c.sigma, c.metric) for c in disputed() if c[:3] == method and c.sigma})


def _exchanged(values: Mapping[Key, float]) -> Iterator[tuple[str, Changes]]:
    """Two columns of one σ, or the rows of two σ, of AP or of AR."""
    sigmas = sorted({sigma for sigma, _ in values})
    for sigma, kind in product(sigmas, _KINDS):
        for one, other in combinations(kind, 2):
            yield SWAP, {(sigma, one): values[sigma, other], (sigma, other): values[sigma, one]}
    for (one_sigma, other_sigma), kind in product(combinations(sigmas, 2), _KINDS):
        pairs = ((one_sigma, other_sigma), (other_sigma, one_sigma))
        yield ROWS, {(to, metric): values[source, metric] for to, source in pairs for metric in kind}


def _misprinted(values: Mapping[Key, float], explanation: Cells) -> Iterator[tuple[str, Changes]]:
    """Slips in the digits of the cells of an explanation, one slip in each."""
    keys, choices = ordered(explanation), []
    for key in keys:
        low, high = allowed(values, key, without=explanation)
        choices.append([(s, v) for s, v in _misprints(values[key]) if low - HALF - 1e-9 <= v <= high + HALF + 1e-9])
    for slips in product(*choices):
        changed = {key: value for key, (_, value) in zip(keys, slips, strict=True)}
        if len(keys) == 1 or possible({**values, **changed}):
            yield DIGITS if {kind for kind, _ in slips} == {DIGITS} else DIGIT, changed


def _misprints(value: float) -> Iterator[tuple[str, float]]:
    """Numbers of three decimals from which one exchange of neighbouring digits, or one wrong digit, makes `value`."""
    text = f"{round(value * 1000):03d}"
    for place in (0, 1):
        if text[place] != text[place + 1]:
            yield DIGITS, int(text[:place] + text[place + 1] + text[place] + text[place + 2 :]) / 1000
    for place, digit in product(range(3), "0123456789"):
        if digit != text[place]:
            yield DIGIT, int(text[:place] + digit + text[place + 1 :]) / 1000


def _row_digits(values: Mapping[Key, float]) -> Iterator[Changes]:
    """The same step in the tenths or hundredths of all three cells of one σ, AP or AR."""
    for sigma, kind, unit, steps in product(sorted({s for s, _ in values}), _KINDS, (0.01, 0.1), range(-9, 10)):
        changed = {(sigma, metric): round(values[sigma, metric] + steps * unit, 3) for metric in kind}
        higher = [
            (math.floor(v / unit / 10 + 1e-9), math.floor(values[k] / unit / 10 + 1e-9)) for k, v in changed.items()
        ]
        if steps and all(before == after for before, after in higher):  # no other digit changes
            yield changed


def _text(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")

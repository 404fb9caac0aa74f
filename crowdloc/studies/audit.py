"""The audit of the printed numbers as text: what notebook 17 prints. The rules are in `crowdloc.paper`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from crowdloc import paper
from crowdloc.paper import coherence, repairs

_WIDE = 72  # characters of a quotation


def contradictions(impossible: pd.DataFrame) -> pd.DataFrame:
    """A row per contradictory method: every smallest explanation, each cell with what is printed and allowed.

    Args:
        impossible: of `crowdloc.paper.feasibility`.
    """
    rows = []
    for (number, row), group in impossible.groupby(["table", "row"], sort=False):
        explanations = []
        for _, cells in group.groupby("changes", sort=False):
            words = [f"{r.cell} {_text(r.printed)} ({_range(r.low, r.high)})" for r in cells.itertuples()]
            explanations.append(" and ".join(words))
        for place, explanation in enumerate(explanations):
            first = (number, row) if place == 0 else ("", "")
            rows.append((*first, "or" if place else "", explanation))
    return pd.DataFrame(rows, columns=["table", "row", "", "printed (the other cells allow)"])


def slips(found: pd.DataFrame) -> pd.DataFrame:
    """A row per method and set of cells that a slip may have changed: its kinds, and the ways to undo it.

    Args:
        found: of `crowdloc.paper.repairs`.
    """
    rows = [
        (number, row, ", ".join(dict.fromkeys(group["slip"])), _undone(group))
        for (number, row, _), group in _by_cells(found)
    ]
    return pd.DataFrame(rows, columns=["table", "row", "slip", "undone"])


def deciding(found: pd.DataFrame) -> pd.DataFrame:
    """A row per claim that undoing a slip would decide otherwise, with its answers before and after.

    Args:
        found: of `crowdloc.paper.repairs`.
    """
    claims, rows = paper.claims().set_index("id")["predicate"], []
    for (number, row, _), group in _by_cells(found):
        effects = Counter(effect for way in group["effects"] for effect in way.split("; ") if effect)
        for effect, ways in effects.items():
            claim, _, answers = effect.partition(": ")
            times = "" if len(group) == 1 else f"{ways} of {len(group)} ways"
            rows.append((number, row, _undone(group), answers, times, claims[claim]))
    return pd.DataFrame(rows, columns=["table", "row", "undone", "answer", "in", "claim"])


def _by_cells(found: pd.DataFrame) -> Iterable[tuple[tuple[str, str, tuple[str, ...]], pd.DataFrame]]:
    cells = [tuple(change.partition(" →")[0] for change in changes.split("; ")) for changes in found["changes"]]
    return found.assign(cells=cells).groupby(["table", "row", "cells"], sort=False)


def _undone(group: pd.DataFrame) -> str:
    """ "AR.75 σ 40: .855 → .875, .885, .895"; where several cells change: "AR.50 AR.75 σ 20: .868 .889 → .889 .868"."""
    ways = [[re.split(r" (?=σ)|: | → ", change) for change in changes.split("; ")] for changes in group["changes"]]
    if len(ways[0]) == 1:
        metric, sigma, before, _ = ways[0][0]
        return f"{metric} {sigma}: {before} → {', '.join(way[0][3] for way in ways)}"
    parts = []
    for sigma in dict.fromkeys(sigma for _, sigma, _, _ in ways[0]):
        metrics, _, before, after = zip(*(change for change in ways[0] if change[1] == sigma), strict=True)
        parts.append(f"{' '.join(metrics)} {sigma}: {' '.join(before)} → {' '.join(after)}")
    return "; ".join(parts) + (f" (one of {len(ways)} ways)" if len(ways) > 1 else "")


def hanging() -> pd.DataFrame:
    """Claims whose answer in print hangs on cells that cannot be right: id, claim, in print, whatever they are."""
    found = repairs.open_claims().merge(paper.claims()[["id", "predicate"]], on="id")
    found = found[found["holds_in_print"] != found["holds_whatever"]]
    names = {"predicate": "claim", "holds_in_print": "in print", "holds_whatever": "whatever the cells are"}
    return found[["predicate", "holds_in_print", "holds_whatever"]].rename(columns=names)


def answers() -> pd.DataFrame:
    """How many claims of the text the printed numbers bear out, before and after disputed cells are opened."""
    found = repairs.open_claims()
    columns = {"in print": "holds_in_print", "whatever disputed cells are": "holds_whatever"}
    order = ["yes", "partly", "no", "undecidable", "not printed"]
    counts = {name: found[column].value_counts() for name, column in columns.items()}
    return pd.DataFrame(counts).reindex(order).fillna(0).astype(int).rename_axis("answer")


def nearly() -> pd.DataFrame:
    """Sentences that a single cell or two stand against: a row per cell, with the section and the text in its first."""
    found = coherence.text_against_tables()
    found = found[(found["failed"] + found["undecidable"] <= 2) & (found["parts"] > 2)]
    rows = []
    for claim in found.itertuples():
        quote = claim.quote if len(claim.quote) <= _WIDE else claim.quote[: _WIDE - 1] + "…"
        first = (claim.section, quote, f"{claim.failed + claim.undecidable} of {claim.parts}")
        for place, cell in enumerate(claim.exceptions.split("; ")):
            rows.append((*(first if place == 0 else ("", "", "")), cell.replace(" SenseCrowd", "")))
    return pd.DataFrame(rows, columns=["section", "the text", "against", "which"])


def as_text(table: pd.DataFrame, digits: int = 3) -> str:
    """A table with texts flush left and numbers flush right; a missing number is a dash."""
    columns = []
    for name in table.columns:
        values, kind = table[name], table[name].dtype.kind
        cells = [f"{v:.{digits}f}" if kind == "f" and v == v else "–" if v != v else str(v) for v in values]
        width = max(map(len, [str(name), *cells]))
        columns.append([cell.rjust(width) if kind in "iuf" else cell.ljust(width) for cell in [str(name), *cells]])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _text(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _range(low: float, high: float) -> str:
    """What is allowed, to four digits: the printed numbers have three, and some miss it by less than one."""
    return f"{low:.4f}–{high:.4f}".replace("0.", ".")

"""The claims of the paper's text about one table, with the verdicts of that table's runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from crowdloc import paper
from crowdloc.results.runs import Run
from crowdloc.results.tables import PRINTED, Table, paper_rows
from crowdloc.results.verdicts import Row, verdicts

# Mall stands for SenseCrowd where real video is asked about: the other set of street video with heads in every frame.
_STANDS_FOR = PRINTED | {"mall": "SenseCrowd"}


def rows_of(*tables: Table) -> dict[Row, list[Run]]:
    """The runs that stand for rows of the paper's tables, as `verdicts` takes them."""
    return {
        Row(table.number, _STANDS_FOR[table.data], row): group
        for table in tables
        for name, group in table.items()
        for row in paper_rows(table.number, name)
        if group
    }


def claim_verdicts(table: Table, *others: Table) -> pd.DataFrame:
    """Every claim on this table that it decides alone, or together with the others.

    Columns id, claim, parts held, verdict, after Holm (these claims together).
    """
    ledger, given = paper.claims(), {table.number, *(other.number for other in others)}
    asked = [table.number in numbers.split() and given.issuperset(numbers.split()) for numbers in ledger["table"]]
    found = verdicts(rows_of(table, *others), claims=ledger.loc[asked, "id"].tolist())
    held = [f"{part.held}/{part.parts}" for part in found.itertuples()]
    shown = {"id": found["id"], "claim": found["predicate"], "held": held, "verdict": found["verdict"]}
    return pd.DataFrame(shown | {"after Holm": found["after_holm"]})


def claims_as_text(table: Table, *others: Table) -> str:
    """`claim_verdicts`, a line per claim; the verdict after Holm's correction stands behind where it differs."""
    found = claim_verdicts(table, *others)
    words = _words(found)
    width = max((len(word) for word in words), default=0)
    lines = zip(words, found["held"], found["claim"], strict=True)
    return "\n".join(f"{word:{width}}  {held:>6} parts hold  {claim}" for word, held, claim in lines)


def claims_beside(sides: Mapping[str, Sequence[Table]]) -> str:
    """The same on several kinds of data: a paragraph per claim, with a line for each; Holm's correction is within it.

    Args:
        sides: what the data are called -> the table, and those that are needed beside it.
    """
    claims: dict[str, dict[str, None]] = {}  # each line once: the text makes some claims twice
    width = max(map(len, sides), default=0)
    for name, tables in sides.items():
        found = claim_verdicts(*tables)
        for word, row in zip(_words(found), found.itertuples(), strict=True):
            claims.setdefault(str(row.claim), {})[f"    {name:{width}}  {row.held:>6} parts hold: {word}"] = None
    return "\n".join("\n".join([claim, *lines]) for claim, lines in claims.items())


def steps_beside(sides: Mapping[str, pd.DataFrame]) -> str:
    """Tables of `steps` below one another, each under what it is called."""
    return "\n\n".join(f"{name}\n{rows.to_string(index=False)}" for name, rows in sides.items())


def _words(found: pd.DataFrame) -> list[str]:
    """Verdicts, with those after Holm behind where they differ."""
    return [
        word if word == corrected else f"{word} (after Holm: {corrected})"
        for word, corrected in zip(found["verdict"], found["after Holm"], strict=True)
    ]

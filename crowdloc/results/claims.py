"""The claims of the paper's text about one table, with the verdicts of that table's runs."""

from __future__ import annotations

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
    words = [
        row.verdict if row.verdict == row.corrected else f"{row.verdict} (after Holm: {row.corrected})"
        for row in found.rename(columns={"after Holm": "corrected"}).itertuples()
    ]
    width = max((len(word) for word in words), default=0)
    lines = zip(words, found["held"], found["claim"], strict=True)
    return "\n".join(f"{word:{width}}  {held:>6} parts hold  {claim}" for word, held, claim in lines)

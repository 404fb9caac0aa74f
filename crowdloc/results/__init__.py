"""Experiments and what is stored of them: identity, evidence, tables, verdicts.

The names that notebooks use are imported when they are asked for: the package itself is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crowdloc.results.claims import claim_verdicts, claims_as_text, claims_beside, steps_beside
    from crowdloc.results.layout import as_text, styled
    from crowdloc.results.marking import examples, examples_by_method
    from crowdloc.results.overview import report
    from crowdloc.results.seeds import counting_table, seeds_table, training_table
    from crowdloc.results.tables import Table, compare, read_table, read_tables, summary, with_yardsticks
    from crowdloc.results.verdicts import pair_verdicts, steps

_WHERE = {
    "tables": ("Table", "compare", "read_table", "read_tables", "summary", "with_yardsticks"),
    "seeds": ("counting_table", "seeds_table", "training_table"),
    "claims": ("claim_verdicts", "claims_as_text", "claims_beside", "steps_beside"),
    "verdicts": ("pair_verdicts", "steps"),
    "layout": ("as_text", "styled"),
    "marking": ("examples", "examples_by_method"),
    "overview": ("report",),
}

__all__ = [
    "Table",
    "as_text",
    "claim_verdicts",
    "claims_as_text",
    "claims_beside",
    "compare",
    "counting_table",
    "examples",
    "examples_by_method",
    "pair_verdicts",
    "read_table",
    "read_tables",
    "report",
    "seeds_table",
    "steps",
    "steps_beside",
    "styled",
    "summary",
    "training_table",
    "with_yardsticks",
]


def __getattr__(name: str) -> Any:
    for module, names in _WHERE.items():
        if name in names:
            globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

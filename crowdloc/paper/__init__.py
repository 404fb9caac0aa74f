"""What the paper printed: its twelve tables, the cells that cannot be right, and the claims of its text."""

from __future__ import annotations

from crowdloc.paper.inconsistencies import audit, errata, suspicious
from crowdloc.paper.predicates import EMPHATIC, SIMILAR, Contrast, check_claims, claims, contrasts
from crowdloc.paper.tables import NUMBERS, Cell, cells, table, title

__all__ = [
    "EMPHATIC",
    "NUMBERS",
    "SIMILAR",
    "Cell",
    "Contrast",
    "audit",
    "cells",
    "check_claims",
    "claims",
    "contrasts",
    "errata",
    "suspicious",
    "table",
    "title",
]

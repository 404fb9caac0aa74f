"""Verdicts on points: from tables made by hand. (What decides on γ and head sizes is tested with head sizes.)"""

from __future__ import annotations

import pandas as pd
import pytest

from crowdloc.results import read_table
from crowdloc.results.verdicts import FAILS, HOLDS, NOT_MEASURED, ONE_SEED
from crowdloc.studies import ablation_claims as a


def points(deviations):
    """By P two tests at each S whose mAP lies this far from .7; with S = 1 the other way round."""
    rows = []
    for p, away in deviations.items():
        for samplings, by in ((3, away), (1, 1 - away)):
            rows += [
                {"P": str(p), "S": str(samplings), "mAP σ20": 0.7 + k * by, "mAR σ20": 0.9 + k * by} for k in (-1, 1)
            ]
    return pd.DataFrame(rows)


def test_deviations_of_one_network_decide_nothing_but_are_told():
    found = a.stable(points({8: 0.03, 16: 0.02, 32: 0.01}))
    assert (found.claim, found.verdict) == ("more-points-stable", ONE_SEED)
    assert (
        "with 8, 16, 32 points of mAP σ20 0.0424, 0.0283, 0.0141 and" in found.numbers and "they do on" in found.numbers
    )
    assert "they do not on" in a.stable(points({8: 0.03, 16: 0.01, 32: 0.02})).numbers


@pytest.mark.parametrize(("memory", "word"), [((1, 2, 3), HOLDS), ((1, 2, 2), FAILS)])
def test_what_is_gathered_decides_on_cost(memory, word):
    eager = [{"backend": "eager", "P": p, "ms": p, "extra MiB": m} for p, m in zip((8, 16, 32), memory, strict=True)]
    fused = [{"backend": "fused kernel", "P": p, "ms": p / 10, "extra MiB": 5} for p in (8, 16, 32)]
    found = a.costly(pd.DataFrame(fused + eager[::-1]).astype(str))
    assert found.verdict == word
    assert found.numbers.startswith(
        "from 8 to 32 points fused kernel 0.8 to 3.2 ms, fused kernel 5.0 to 5.0 MiB, eager"
    )


def test_head_sizes_need_both_networks():
    table = read_table("XII")
    for name in table:
        table[name].clear()
    assert a.fits_heads(table).verdict == NOT_MEASURED

"""Variance and bias of draws, by hand where that is possible."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from crowdloc.studies import randomness
from crowdloc.studies.neighborhoods import white_map


def test_equal_scores_have_the_variance_of_a_mean_and_no_bias():
    """With q = 0 the output is a plain mean of P values: variance σ²/P, and its expectation is the limit."""
    key = white_map(4, 24, 30)
    table = randomness.spread(torch.zeros_like(key), key, gamma=2.0, points=(4, 16, 64), seeds=48)
    rows = table[table["sampling"] == "independent"].set_index("P")
    assert randomness.slope(table, "independent") == pytest.approx(-1, abs=0.02)
    # nearly independent values: each draw varies by almost the map's variance, less what the limit itself varies
    assert 85 < rows.loc[4, "variance"] * 4 < 100
    assert abs(rows["bias²"]).max() < 0.05 * rows["variance"].min()


def test_samplings_divide_the_variance_and_leave_the_bias():
    key = 3 * white_map(8, 20, 20, seed=1)  # sharp scores, hence bias
    table = randomness.spread(key, key, gamma=3.0, points=(4,), samples=(1, 4), seeds=48)
    one, four = table[table["sampling"] == "independent"].to_dict("records")
    assert one["variance"] / four["variance"] == pytest.approx(4, rel=0.05)
    assert one["bias²"] > 1 and one["bias²"] == pytest.approx(four["bias²"], rel=0.1)


def test_gains_and_slope_by_hand():
    rows = [("independent", p, 8.0 / p, 1.0 / p**2) for p in (1, 2, 4)] + [
        ("qmc", p, 8.0 / p**2, 0.0) for p in (1, 2, 4)
    ]
    table = pd.DataFrame(rows, columns=["sampling", "P", "variance", "bias²"]).assign(S=1)
    assert randomness.gains(table, "P")["times less"].tolist() == [1, 2, 4]
    assert randomness.slope(table, "qmc") == pytest.approx(-2)
    assert randomness.slope(table, "independent", "bias²") == pytest.approx(-2)
    text = randomness.as_text({"by hand": table})
    assert text.startswith("by hand") and "independent draws P^-1.00, low-discrepancy draws P^-2.00" in text


def test_gain_by_map_is_the_ratio_of_variances():
    key = white_map(2, 9, 9)
    found = randomness.gain_by_map({"white": (key, key)}, gamma=(2.0,), seeds=4)
    rows = randomness.spread(key, key, gamma=(2.0,), seeds=4).set_index("sampling")["variance"]
    assert found["white"] == pytest.approx(rows["independent"] / rows["qmc"])

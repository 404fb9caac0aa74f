"""Who is ahead: by hand, signs of errors, one seed decides nothing, reversals are those of the reference's verdict."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from crowdloc.studies import orders

PAIR = (("gnanet", "raznet"),)


def scores(*cells):
    """Cells: choice, metric, scores of gnanet by seed, of raznet by seed."""
    rows = [
        (choice, "", metric, method, seed, value)
        for choice, metric, first, second in cells
        for method, values in (("gnanet", first), ("raznet", second))
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["choice", "value", "metric", "method", "seed", "score"])


def test_advantage_by_hand_and_by_a_paired_test():
    first, second = [0.52, 0.55, 0.53], [0.50, 0.51, 0.52]
    row = orders.advantages(scores(("reference", "mAP", first, second)), PAIR).iloc[0]
    middle = np.mean(first + second)
    assert row["advantage"] == pytest.approx(100 * (0.02 + 0.04 + 0.01) / 3 / middle)
    interval = ttest_rel(first, second).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((100 * interval.low / middle, 100 * interval.high / middle))
    assert row["verdict"] == orders.OPEN and row["low"] < 0 < row["advantage"]
    assert (row["score of first"], row["score of second"]) == pytest.approx((np.mean(first), np.mean(second)))


def test_less_error_is_ahead():
    low, high = [2.0, 2.1, 2.2], [3.0, 3.1, 3.2]
    found = orders.advantages(scores(("counts", "MAE", low, high), ("reference", "mAP", low, high)), PAIR)
    assert dict(zip(found["metric"], found["verdict"], strict=True)) == {"MAE": orders.AHEAD, "mAP": orders.BEHIND}


def test_one_seed_and_equal_scores_leave_it_open():
    found = orders.advantages(scores(("reference", "mAP", [0.9], [0.1]), ("σ", "mAP", [0.9], [0.9])), PAIR)
    assert found["verdict"].tolist() == [orders.OPEN] * 2 and found["high"].tolist() == [math.inf] * 2
    equal = orders.advantages(scores(("reference", "mAP", [0.5, 0.6], [0.5, 0.6])), PAIR)
    assert equal["verdict"].tolist() == [orders.OPEN] and equal["advantage"].tolist() == [0]
    nothing = orders.advantages(scores(("reference", "mAP", [0.0, 0.0], [0.0, 0.0])), PAIR)
    assert nothing["verdict"].tolist() == [orders.OPEN]


def test_seeds_are_paired():
    given = scores(("reference", "mAP", [0.1, 0.5, 0.9], [0.09, 0.49, 0.889]))
    found = orders.advantages(given, PAIR)
    assert found["verdict"].tolist() == [orders.AHEAD]
    pd.testing.assert_frame_equal(orders.advantages(given.sample(frac=1, random_state=0), PAIR), found)


def test_pairs_that_were_not_measured_are_left_out():
    assert len(orders.advantages(scores(("reference", "mAP", [1, 1], [0, 0])))) == 1


def test_flips_reverse_what_the_reference_decides():
    better, worse = [0.9, 0.91, 0.9], [0.5, 0.5, 0.51]
    found = orders.advantages(
        scores(
            ("reference", "mAP", better, worse),
            ("reference", "mAR", worse, [0.51, 0.49, 0.5]),  # open
            ("σ", "mAP", worse, better),
            ("σ", "mAR", worse, better),
            ("optimal", "F1", worse, better),  # no reference of its own: mAP's
            ("optimal", "precision", better, worse),
            ("counts", "MAE", worse, better),
        ),
        PAIR,
    )
    flipped = found[orders.flips(found)]
    assert list(zip(flipped["choice"], flipped["metric"], strict=True)) == [("σ", "mAP"), ("optimal", "F1")]
    table = orders.shares(found)
    assert table.index.tolist()[0] == ("GNANet against RAZNet", "mAP")
    assert table.loc[("GNANet against RAZNet", "mAP"), ["ahead", "open", "behind"]].tolist() == [1, 0, 1]
    text = orders.as_text(flipped)
    assert "GNANet RAZNet" in text and "0.5033" in text


def test_means_as_text():
    given = scores(("reference", "mAP", [0.9, 0.8], [0.5, 0.6]), ("σ", "mAR", [0.7], [0.1]), ("σ", "mAP", [0.3], [0.2]))
    text = orders.means_text(given, ("mAP",))
    assert "GNANet" in text and "0.8500" in text and "0.5500" in text and "mAR" not in text
    assert text.index("reference") < text.index("σ")

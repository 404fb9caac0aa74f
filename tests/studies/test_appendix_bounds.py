"""Sharper bounds than Appendix A's: each holds on whatever hypothesis makes, and each is met by a case by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crowdloc.studies import appendix_bounds
from crowdloc.studies.appendix_maps import weigh
from crowdloc.studies.neighborhoods import smooth_map


@st.composite
def draws(draw):
    """Scores (3, n), how often each of n cells was drawn, and values (n, C)."""
    cells, channels = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    scores = draw(hnp.arrays(np.float64, (3, cells), elements=st.floats(-20, 20)))
    values = draw(hnp.arrays(np.float64, (cells, channels), elements=st.floats(-10, 10)))
    counts = draw(hnp.arrays(np.int64, (3, cells), elements=st.integers(0, 4)))
    counts[np.arange(3), draw(hnp.arrays(int, 3, elements=st.integers(0, cells - 1)))] += 1
    return torch.from_numpy(scores), torch.from_numpy(counts), torch.from_numpy(values)


def no_larger(a, b):
    assert (np.asarray(a) <= np.asarray(b) * (1 + 1e-9) + 1e-9).all(), (a, b)


finite = st.integers(2, 8).flatmap(lambda n: hnp.arrays(np.float64, (2, n), elements=st.floats(-30, 30)))


@settings(max_examples=300, deadline=None)
@given(finite)
def test_softmax_is_half_lipschitz_in_the_2_norm(pair):
    scores, others = torch.from_numpy(pair)
    ratio = appendix_bounds.lipschitz_ratio(scores, others).item()
    assert not ratio > 0.5 + 1e-9 or (scores - others).norm() < 1e-6  # differences of nearly equal numbers round
    # the reason: the largest eigenvalue of its derivative is at most ½
    p = scores.softmax(0)
    derivative = torch.diag(p) - torch.outer(p, p)
    assert torch.linalg.eigvalsh(derivative)[-1].item() <= 0.5 + 1e-14
    # which the sums of its rows show, by Gershgorin
    torch.testing.assert_close(derivative.abs().sum(-1), 2 * p * (1 - p), atol=1e-14, rtol=0)
    assert (2 * p * (1 - p) <= 0.5).all()


def test_one_half_is_the_best_constant():
    near = torch.tensor([[1e-4, -1e-4]], dtype=torch.float64)
    assert appendix_bounds.lipschitz_ratio(near, -near).item() == pytest.approx(0.5, abs=1e-6)


@settings(max_examples=200, deadline=None)
@given(draws())
def test_missed_mass_is_the_error_of_distinct_cells_exactly(problem):
    rows = appendix_bounds.bounds(*problem)
    np.testing.assert_allclose(rows["distinct"], rows["identity"], atol=1e-9)
    no_larger(rows["identity"], rows["mass"])


@settings(max_examples=200, deadline=None)
@given(draws())
def test_total_variation_bounds_the_error_of_a_multiset(problem):
    scores, counts, values = problem
    rows = appendix_bounds.bounds(scores, counts, values)
    no_larger(rows["drawn"], rows["variation"])
    no_larger(rows["mu"], rows["tv"])
    # they agree where no drawn cell gets less than its full weight, and so always for distinct cells
    a, b = weigh(scores), weigh(scores, counts)
    enough = ((b >= a) | (counts == 0)).all(-1).numpy()
    np.testing.assert_allclose(rows["mu"][enough], rows["tv"][enough], atol=1e-12)
    once = appendix_bounds.bounds(scores, (counts > 0).long(), values)
    np.testing.assert_allclose(once["mu"], once["tv"], atol=1e-12)
    np.testing.assert_allclose(once["distinct"], once["drawn"], atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(draws())
def test_the_error_of_a_multiset_is_a_gap_times_the_total_variation(problem):
    """FA − SA = TV(a, b) (m₊ − m₋), means of the values with the positive and the negative part of a − b."""
    scores, counts, values = problem
    a, b = weigh(scores), weigh(scores, counts)
    tv = appendix_bounds.total_variation(a, b)
    more, less = (a - b).clamp(min=0), (b - a).clamp(min=0)
    torch.testing.assert_close(more.sum(-1), tv, atol=1e-12, rtol=0)
    torch.testing.assert_close(less.sum(-1), tv, atol=1e-12, rtol=0)
    apart = tv > 1e-6  # below, a mean of what is left is a mean of rounding errors
    gap = more[apart] / tv[apart, None] @ values - less[apart] / tv[apart, None] @ values
    torch.testing.assert_close(((a - b) @ values)[apart], tv[apart, None] * gap, atol=1e-9, rtol=0)
    no_larger(gap.norm(dim=-1), appendix_bounds.diameter(values))


@settings(max_examples=200, deadline=None)
@given(draws())
def test_full_attention_is_a_mean_of_what_is_seen_and_what_is_missed(problem):
    """FA = (1 − μ) m_in + μ m_out, and SA of distinct cells is m_in."""
    scores, counts, values = problem
    chosen = counts > 0
    mu = appendix_bounds.missed_mass(scores, chosen)[:, None]
    inside, outside = weigh(scores, chosen) @ values, weigh(scores, ~chosen) @ values
    outside = torch.where(chosen.all(-1, keepdim=True), 0.0, outside)  # no cells, no mean
    torch.testing.assert_close(weigh(scores) @ values, (1 - mu) * inside + mu * outside, atol=1e-9, rtol=0)


def test_bounds_by_hand():
    """Scores log 1, log 2, log 3 of three cells, the first two seen, values 0, 0 and 6: μ = ½, error ½·6 = 3."""
    scores = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64).log()
    row = appendix_bounds.bounds(scores, torch.tensor([[1, 1, 0]]), torch.tensor([[0.0], [0.0], [6.0]]).double()).loc[0]
    assert row[["mu", "tv", "distinct", "identity", "mass", "drawn", "variation"]].tolist() == pytest.approx(
        [0.5, 0.5, 3, 3, 3, 3, 3]
    )


def test_examples_are_what_they_are_said_to_be():
    table = appendix_bounds.examples()
    n, seen = 2304, 32
    expected = [(n - seen) / n, 0, 0.75, 1 / 6, 1 / 6]
    np.testing.assert_allclose(table["error"], expected, atol=1e-12)
    tight = ((n - seen) / n) ** 0.5
    np.testing.assert_allclose(table["value"], [tight, tight, 0, 0, 1 / 6], atol=1e-12)
    assert table["holds"].tolist() == ["yes", "yes", "no", "no", "yes"]


def test_ratios_of_bounds_to_errors():
    field = torch.cat([smooth_map(4, 6, 7, seed=s) for s in (0, 1)])
    rows = appendix_bounds.compare({"smooth": (field, field)}, gamma=2.0, points=6, every=5)
    table = appendix_bounds.ratios(rows).loc["smooth"]
    assert list(table.index) == list(appendix_bounds.RATIOS)
    np.testing.assert_allclose(table.loc["μ·gap, distinct"], 1)
    assert (table["tightest"] >= 1 - 1e-9).all() and (table["tightest"] <= table["median"]).all()
    ratio = rows["variation"] / rows["drawn"]
    assert table.loc["TV·diam(V), draws"].tolist() == [ratio.min(), ratio.median(), ratio.max()]

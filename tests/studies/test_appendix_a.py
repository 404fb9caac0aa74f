"""Every inequality of Appendix A, on problems that hypothesis makes, against the printed matrices and by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crowdloc.studies import appendix_a
from crowdloc.studies.appendix_maps import weigh
from crowdloc.studies.neighborhoods import smooth_map, white_map


@st.composite
def problems(draw):
    """Scores (3, n), a set of at least one cell for each of the three queries, values (n, C)."""
    cells, channels = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    scores = draw(hnp.arrays(np.float64, (3, cells), elements=st.floats(-20, 20)))
    values = draw(hnp.arrays(np.float64, (cells, channels), elements=st.floats(-10, 10)))
    chosen = draw(hnp.arrays(bool, (3, cells)))
    chosen[np.arange(3), draw(hnp.arrays(int, 3, elements=st.integers(0, cells - 1)))] = True
    return torch.from_numpy(scores), torch.from_numpy(chosen), torch.from_numpy(values)


def no_larger(a, b):
    assert (np.asarray(a) <= np.asarray(b) * (1 + 1e-9) + 1e-9).all(), (a, b)


@settings(max_examples=200, deadline=None)
@given(problems(), st.sampled_from(appendix_a.NORMS))
def test_every_step_of_the_derivation(problem, norm):
    rows = appendix_a.derivation(*problem, norm)
    for smaller, larger in zip(appendix_a.STEPS[:-1], appendix_a.STEPS[1:], strict=True):
        no_larger(rows[smaller], rows[larger])


@settings(max_examples=200, deadline=None)
@given(problems())
def test_weights_are_never_farther_apart_than_the_root_of_2(problem):
    """What the Lipschitz step gives away: it replaces this distance by one of scores, which has no limit."""
    scores, chosen, _ = problem
    no_larger((weigh(scores) - appendix_a.zeroed(scores, chosen)).norm(dim=-1), math.sqrt(2))


@settings(max_examples=200, deadline=None)
@given(problems())
def test_the_spectral_norm_is_the_smaller_one(problem):
    _, chosen, values = problem
    spectral, frobenius = (appendix_a.matrix_norms(values, chosen, norm) for norm in appendix_a.NORMS)
    no_larger(spectral, frobenius)
    no_larger(frobenius, spectral * math.sqrt(min(values.shape)))
    # no norm that bounds products could be smaller: a row of the matrix is a product with a unit vector
    no_larger(torch.where(chosen, values.norm(dim=-1), 0.0).amax(-1), spectral)


@settings(max_examples=100, deadline=None)
@given(problems())
def test_no_error_exceeds_the_largest_distance_of_two_values(problem):
    scores, chosen, values = problem
    rows = appendix_a.derivation(scores, chosen, values)
    no_larger(rows["eq. 2"], appendix_a.diameter(values))
    no_larger(rows["error"], appendix_a.diameter(torch.cat([values, 0 * values[:1]])))


@settings(max_examples=100, deadline=None)
@given(problems())
def test_zeroed_keys_scale_the_output_of_eq_2(problem):
    """SA of eq. 9 = α · SA of eq. 2, with α = Σ_P exp(s) / (Σ_P exp(s) + n − |P|)."""
    scores, chosen, values = problem
    alpha = appendix_a.kept_weight(scores, chosen)
    printed = torch.where(chosen, appendix_a.zeroed(scores, chosen), 0.0) @ values
    torch.testing.assert_close(printed, alpha[:, None] * (weigh(scores, chosen) @ values))
    kept = torch.where(chosen, scores.exp(), 0.0).sum(-1)
    torch.testing.assert_close(alpha, kept / (kept + (~chosen).sum(-1)))
    assert torch.equal(alpha < 1 - 1e-12, ~chosen.all(-1))  # it shrinks, unless all cells are chosen


@pytest.mark.parametrize(("norm", "order"), [("spectral", 2), ("Frobenius", "fro")])
def test_the_terms_are_those_of_the_printed_matrices(norm, order):
    """Eq. 6 to 12 written out for one query, zeros and all."""
    rng = np.random.default_rng(0)
    q, K, V = rng.normal(size=5), rng.normal(size=(9, 5)), rng.normal(size=(9, 5))
    P = [1, 4, 5]
    K1, V1 = np.zeros_like(K), np.zeros_like(V)
    K1[P], V1[P] = K[P], V[P]
    K2, V2 = K - K1, V - V1

    def SM(x):
        return np.exp(x) / np.exp(x).sum()

    FA, SA, C = SM(q @ K.T) @ V, SM(q @ K1.T) @ V1, np.linalg.norm(SM(q @ K.T))
    scores, chosen = torch.from_numpy(q @ K.T)[None], torch.tensor([[i in P for i in range(9)]])
    row = appendix_a.derivation(scores, chosen, torch.from_numpy(V), norm).loc[0]
    size = [np.linalg.norm(M, order) for M in (V1, V2)]
    apart = SM(q @ K.T) - SM(q @ K1.T)
    assert row["error"] == pytest.approx(np.linalg.norm(FA - SA))
    assert row["triangle"] == pytest.approx(np.linalg.norm(apart @ V1) + np.linalg.norm(SM(q @ K.T) @ V2))
    assert row["product"] == pytest.approx(np.linalg.norm(apart) * size[0] + C * size[1])
    assert [row["‖qK₂ᵀ‖"], row["‖V₁‖"]] == pytest.approx([np.linalg.norm(q @ K2.T), size[0]])
    assert row["halved"] == pytest.approx(np.linalg.norm(q @ K2.T) / 2 * size[0] + C * size[1])
    assert row["bound"] == pytest.approx(np.linalg.norm(q @ K2.T) * size[0] + C * size[1])
    inside = SM(q @ K[P].T) @ V[P]
    assert row["eq. 2"] == pytest.approx(np.linalg.norm(FA - inside))


def test_a_norm_that_is_none():
    with pytest.raises(ValueError, match="spectral, Frobenius, not 'nuclear'"):
        appendix_a.matrix_norms(torch.ones(2, 1), torch.tensor([[True, False]]), "nuclear")


def test_all_cells_chosen_leave_no_error_and_no_bound():
    scores, values = torch.randn(2, 6).double(), torch.randn(6, 3).double()
    rows = appendix_a.derivation(scores, torch.ones(2, 6, dtype=torch.bool), values)
    np.testing.assert_allclose(rows[["error", "bound", "eq. 2"]], 0, atol=1e-12)
    np.testing.assert_allclose(rows["kept"], 1)


def test_diameter_by_hand():
    assert appendix_a.diameter(torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])) == pytest.approx(5)


def maps_of_two_kinds():
    return {
        "white": (white_map(4, 6, 7),) * 2,
        "smooth": (torch.cat([smooth_map(4, 6, 7, seed=s) for s in (0, 1)]),) * 2,
    }


def test_walk_and_its_tables():
    maps = maps_of_two_kinds()
    rows = appendix_a.walk({"smooth": maps["smooth"]}, gamma=2.0, points=6, every=5)
    assert len(rows) == 2 * 9 and rows["map"].unique().tolist() == [0, 1]
    table = appendix_a.steps_table(rows)
    assert table.loc["smooth", "violations"] == 0 and table.loc["smooth", "queries"] == 18
    assert table.loc["smooth", "bound"] == rows["bound"].median()
    loose = appendix_a.looseness(rows).loc["smooth"]
    assert loose["first term (%)"] == pytest.approx(100 * (rows["‖qK₂ᵀ‖"] * rows["‖V₁‖"] / rows["bound"]).median())
    assert 1 <= loose["tightest"] <= loose["median"] <= loose["loosest"] == (rows["bound"] / rows["error"]).max()
    both = appendix_a.two_sparse_attentions(rows).loc["smooth"]
    assert both.tolist() == [rows[name].median() for name in ("error", "eq. 2", "kept")]


def test_a_broken_step_is_counted():
    good = {"error": 1.0, "triangle": 2.0, "product": 3.0, "halved": 4.0, "bound": 5.0, "diameter": 9.0, "kind": "a"}
    rows = pd.DataFrame([good, good | {"kind": "b", "product": 1.5}, good | {"kind": "b"}])
    table = appendix_a.steps_table(rows)
    assert table["violations"].to_dict() == {"a": 0, "b": 1} and table["queries"].to_dict() == {"a": 1, "b": 2}


def test_sets_of_equal_size_are_compared():
    table = appendix_a.preferred(maps_of_two_kinds(), gamma=2.0, points=6, every=5)
    assert table.shape == (8, 5) and table.index.names == ["kind", "cells"]
    assert all(math.isfinite(value) for value in table.to_numpy().ravel())
    # zeroed keys want the largest weights most: what they miss is least
    errors = table["error, eq. 9"].unstack()
    assert (errors["largest weights"] < errors["random"]).all()

"""Errors against P: what converges to full attention and what does not; verdicts and crossovers by hand."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

matplotlib.use("agg")

from crowdloc.figures import appendix as figures
from crowdloc.studies import appendix_a, appendix_bounds, appendix_similarity
from crowdloc.studies import appendix_errors as study
from crowdloc.studies.neighborhoods import smooth_map

FIELD = torch.cat([smooth_map(6, 9, 10, seed=seed) for seed in range(3)])


@pytest.fixture(scope="module")
def errors():
    return study.expected_errors({"smooth": (FIELD, FIELD)}, (4, 32, 90, 1024, 4096), gamma=1.5, every=7)


def means(errors, cells):
    return errors[errors["cells"] == cells].groupby("P")["error"].mean()


def test_random_draws_converge_to_full_attention_and_gaussian_ones_to_their_limit(errors):
    gaussian, uniform, limit = (means(errors, name) for name in (study.GAUSSIAN, study.RANDOM, study.LIMIT))
    assert limit.nunique() == 1
    assert gaussian[4] < uniform[4]
    assert gaussian[4096] == pytest.approx(limit[4096], rel=0.05) and uniform[4096] < 0.25 * limit[4096]
    assert study.falls_like(errors, study.RANDOM)["smooth"] == pytest.approx(-0.5, abs=0.1)
    assert study.falls_like(errors, study.GAUSSIAN)["smooth"] > -0.1
    assert 4 < study.crossovers(errors).loc["smooth", "P*"] < 1024


def test_sets_of_all_cells_are_full_attention(errors):
    for name in (study.NEAREST, study.LARGEST):
        found = means(errors, name)
        assert found[90] == pytest.approx(0, abs=1e-12) and found[4] > found[32] > 0.01


def test_an_error_of_1_is_the_spread_of_the_values():
    """One point and no scores: what is drawn is a random cell's value, full attention is the mean of all."""
    key = torch.cat([smooth_map(6, 30, 40, seed=seed) for seed in range(2)])
    found = study.expected_errors({"none": (0 * key, key)}, (1,), every=100)
    uniform = found[found["cells"] == study.RANDOM]["error"]
    distance = (key - key.mean(dim=(2, 3), keepdim=True)).norm(dim=1)
    expected = distance.mean(dim=(1, 2)) / distance.square().mean(dim=(1, 2)).sqrt()
    assert uniform.tolist() == pytest.approx(expected.tolist(), rel=0.03)


def test_as_many_softmaxes_for_both(errors):
    found = study.at_equal_points({"smooth": (FIELD, FIELD)}, gammas=(1.0, 2.0, 4.0), points=4, draws=1)
    assert list(found.columns) == list(errors.columns) and found["cells"].unique().tolist() == ["Gaussian", "random"]
    single = means(errors, study.RANDOM)[4]
    assert found[found["cells"] == study.RANDOM]["error"].mean() < 0.9 * single  # three sets average out
    one, two, both = (
        study.at_equal_points({"smooth": (FIELD, FIELD)}, points=4, draws=draws, seed=seed)["error"].to_numpy()
        for draws, seed in ((1, 0), (1, 1), (2, 0))
    )
    np.testing.assert_allclose(both, (one + two) / 2)
    assert one.mean() != two.mean()


def by_hand(differences, kind="a", number=32):
    return pd.DataFrame(
        [
            {"kind": kind, "cells": cells, "P": number, "map": i, "error": 1 + d * (cells == study.GAUSSIAN)}
            for i, d in enumerate(differences)
            for cells in (study.GAUSSIAN, study.RANDOM)
        ]
    )


def test_a_claim_is_decided_by_its_interval():
    errors = pd.concat([by_hand([-0.1, -0.12, -0.11], "z"), by_hand([0.1, 0.12, 0.11], "a"), by_hand([-0.1, 0.2], "m")])
    table = study.claim(errors)
    assert table["verdict"].to_dict() == {"z": "holds", "a": "does not hold", "m": "inconclusive"}
    assert table.loc["z", "Gaussian − random"] == pytest.approx(-0.11)
    assert table.loc["z", "low"] < -0.12 and -0.11 < table.loc["z", "high"] < 0


def test_claims_by_foci():
    table = study.by_foci({"b": (FIELD, FIELD), "a": (FIELD, FIELD)}, ((1.0,), (1.0, 2.0)), points=4)
    assert list(table.index) == [("b", "1"), ("b", "1 2"), ("a", "1"), ("a", "1 2")]
    row, equal = table.loc[("a", "1 2")], study.at_equal_points({"a": (FIELD, FIELD)}, gammas=(1.0, 2.0), points=4)
    assert row["difference"] == pytest.approx(row[study.GAUSSIAN] - row[study.RANDOM])
    assert row[study.RANDOM] == pytest.approx(equal[equal["cells"] == study.RANDOM]["error"].mean())
    assert row["verdict"] == study.claim(equal).loc["a", "verdict"]


def test_crossing_by_hand():
    assert study.crossing([1, 4], [1, 1], [2, 0.5]) == pytest.approx(2)  # halfway in the logarithms
    assert study.crossing([1, 4, 16, 64], [1, 1, 1, 1], [2, 0.5, 2, 0.5]) == pytest.approx(32)  # the last one counts
    assert study.crossing([1, 4], [1, 1], [0.5, 0.5]) == 0
    assert study.crossing([1, 4], [1, 1], [0.5, 2]) == math.inf


def test_tables_of_errors():
    errors = by_hand([0.0, 0.0])
    assert study.error_table(errors, 32).to_dict("index") == {"a": {"Gaussian": "1.00 ± 0.00", "random": "1.00 ± 0.00"}}
    assert study.bands(errors)[["error", "low", "high"]].to_numpy() == pytest.approx(np.ones((2, 3)))


def test_pictures_show_every_kind(errors):
    maps = {"one": (FIELD, FIELD), "two": (FIELD, FIELD)}
    with matplotlib.rc_context():
        walked = appendix_a.walk(maps, gamma=1.5, points=6, every=7)
        (ax,) = figures.steps(walked, {step: step for step in appendix_a.STEPS}).axes
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two"]
        rows = appendix_bounds.compare(maps, gamma=1.5, points=6, every=7)
        panels = figures.bounds(rows, appendix_bounds.RATIOS).axes
        assert [ax.get_title() for ax in panels] == ["one", "two"]
        assert len(panels[0].collections) == 4 and len(panels[0].collections[0].get_offsets()) == 2 * 13
        curves = figures.similarity(appendix_similarity.similarity(maps, reach=8), [["one"], ["two"]]).axes
        assert [len(ax.lines[0].get_xdata()) for ax in curves] == [8, 8]  # without the query's own cell
        crossover = study.crossovers(errors)["P*"]
        (ax,) = figures.errors(study.bands(errors), crossover).axes
        assert f"P* = {crossover['smooth']:.0f} " in [text.get_text() for text in ax.texts]
        assert len(ax.lines) == 6  # five choices of cells and the crossover
        four = pd.concat([study.bands(errors).assign(kind=kind) for kind in "abcd"])
        panels = figures.errors(four, pd.Series(0, index=list("abcd")), deep=2).axes
        assert [ax.get_title() for ax in panels] == ["a", "c", "b", "d"]  # columns one after the other
        assert [ax.get_xlabel() for ax in panels] == ["", "", "points P", "points P"]
    figures.plt.close("all")

"""Scores, draws and sets of cells of notebook 16 are those of the package's own attention."""

from __future__ import annotations

import math

import pytest
import torch

from crowdloc.attention import full_attention, gaussian_limit_attention, gaussian_neighbor_attention, random_attention
from crowdloc.attention.limit import log_mass
from crowdloc.studies import appendix_maps as maps
from crowdloc.studies.neighborhoods import white_map

QUERY, KEY = (white_map(4, 5, 6, seed=seed).double() for seed in (1, 2))


def attended(counts: torch.Tensor | None) -> torch.Tensor:
    weights = maps.weigh(maps.score_rows(QUERY[0], KEY[0]), counts)
    return (weights @ maps.value_rows(KEY[0])).T.reshape(QUERY.shape)


def test_counts_of_draws_give_the_attention_of_the_package():
    gaussian = gaussian_neighbor_attention(QUERY, KEY, KEY, gamma=2.0, num_points=40, seed=3)
    torch.testing.assert_close(attended(maps.drawn("independent", (5, 6), gamma=2.0, points=40, seed=3)), gaussian)
    uniform = random_attention(QUERY, KEY, KEY, num_points=40, seed=3)
    torch.testing.assert_close(attended(maps.drawn("random", (5, 6), points=40, seed=3)), uniform)


def test_no_counts_are_full_attention_and_masses_its_gaussian_limit():
    torch.testing.assert_close(attended(None), full_attention(QUERY, KEY, KEY))
    my, mx = (log_mass(torch.tensor(2.0, dtype=torch.float64), n, "clamp").exp() for n in (5, 6))
    torch.testing.assert_close(attended(torch.kron(my, mx)), gaussian_limit_attention(QUERY, KEY, KEY, gamma=2.0))


def test_every_ninth_query():
    rows = maps.score_rows(QUERY[0], KEY[0])
    assert rows.shape == (30, 30) and rows.dtype == torch.float64
    torch.testing.assert_close(maps.score_rows(QUERY[0], KEY[0], 9), rows[::9])
    assert rows[7, 4].item() == pytest.approx((QUERY[0, :, 1, 1] @ KEY[0, :, 0, 4]).item() / math.sqrt(4))


def test_distances_and_ranks_by_hand():
    # cells of a 2×3 map:  0 1 2
    #                      3 4 5
    assert maps.distances((2, 3))[0].tolist() == [0, 1, 4, 1, 2, 5]
    assert maps.nearness((2, 3))[0].tolist() == [0, 1, 4, 2, 3, 5]
    assert maps.nearness((2, 3), every=4)[1].tolist() == [4, 1, 5, 2, 0, 3]  # around cell 4: 4, 1, 3, 5, 0, 2


def test_generated_maps_have_the_shape_of_the_trained_ones(monkeypatch):
    context, keyframe = torch.rand(2, 3, 6, 7), torch.rand(2, 3, 6, 7)
    inputs = {"context": context, "keyframe": keyframe}
    monkeypatch.setattr(maps.diagnosis, "attention_inputs", lambda id, images, source: (None, inputs))
    found = maps.kinds_of_maps("any", number=2)
    assert list(found) == ["white noise", "smooth field", "backbone", "GNANet"]
    assert all(query.shape == key.shape == (2, 3, 6, 7) for query, key in found.values())
    assert found["GNANet"] == (context, keyframe) and found["backbone"] == (keyframe, keyframe)
    white = found["white noise"][0]
    assert not torch.equal(white[0], white[1])
    assert torch.equal(maps.kinds_of_maps("any", number=2, seed=1)["white noise"][0][0], white[1])

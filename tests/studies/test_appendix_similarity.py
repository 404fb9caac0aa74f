"""Similarity against distance, where the answer is known: rising, falling, and none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from crowdloc.studies import appendix_similarity as study
from crowdloc.studies.neighborhoods import smooth_map, white_map


def many(kind, number=4):
    return torch.cat([kind(8, 12, 14, seed=seed) for seed in range(number)])


def test_interval_is_students():
    values = [1.0, 2.0, 4.0, 5.0]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert study.interval(values) == pytest.approx((3.0, low, high))


def test_smooth_fields_lose_similarity_with_distance_and_noise_has_none():
    white, smooth = many(white_map), many(smooth_map)
    table = study.correlations({"white": (white, white), "smooth": (smooth, smooth)}, near=3, every=5)
    assert table.loc["smooth", "high"] < 0 and table.loc["smooth", ["Spearman", "cosine"]].max() < 0
    assert abs(table.loc["white", "correlation"]) < 0.05
    assert table.loc["smooth", "weight within 3"] > 1.5 > table.loc["white", "weight within 3"]


def test_correlation_by_hand():
    """A row of three cells with features (1, 0), (2, 1), (0, 4): products 2 and 4 at distance 1, 0 at distance 2."""
    row = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 4.0]])[None, :, None]  # (1, C, 1, W)
    maps = torch.cat([row, row])
    found = study.correlations({"row": (maps, maps)}, every=1).loc["row", "correlation"]
    assert found == pytest.approx(np.corrcoef([2, 4, 0], [1, 1, 2])[0, 1])


def test_equal_scores_spread_the_weight_evenly():
    key = many(white_map)
    table = study.correlations({"none": (key * 1e-6, key)}, near=3, every=5)
    assert table.loc["none", "weight within 3"] == pytest.approx(1, abs=1e-4)


def test_similarity_by_distance_by_hand():
    row = torch.tensor([1.0, 2.0, 4.0])[None, None, None]
    rows = study.similarity({"row": (row, row)}, reach=2, every=1)
    scores = np.array([1, 2, 4, 2, 4, 8, 4, 8, 16.0])
    standard = (np.array([(1 + 4 + 16) / 3, (2 + 2 + 8 + 8) / 4, 4]) - scores.mean()) / scores.std(ddof=1)
    assert rows["distance"].tolist() == [0, 1, 2]
    assert rows["similarity"].tolist() == pytest.approx(standard.tolist())

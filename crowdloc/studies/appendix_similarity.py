"""Is similarity lower between cells that are farther apart, as Appendix A says of features? (notebook 16)"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy import stats

from crowdloc.metrics.statistics import Resampled, estimate
from crowdloc.studies.appendix_maps import EVERY, Maps, distances, score_rows, size_of, weigh


def interval(values: ArrayLike) -> tuple[float, float, float]:
    """Mean over maps with the ends of its 95 % t interval."""
    found = np.asarray(values, dtype=np.float64)
    mean = estimate([Resampled(found, np.empty((len(found), 0)), 0)])
    return (mean.value, *mean.interval())


def similarity(maps: Maps, *, reach: int = 40, every: int = EVERY) -> pd.DataFrame:
    """Mean score q·k/√C by distance: standard deviations of all scores of the map above their mean.

    One row per kind, map and rounded distance in cells, from 0, the query's own cell, to `reach` or as
    far as the map goes.
    """
    rows = []
    for kind, (queries, keys) in maps.items():
        bins = distances(size_of(queries), every).double().sqrt().round().long().flatten()
        for index, (query, key) in enumerate(zip(queries, keys, strict=True)):
            scores = score_rows(query, key, every).flatten()
            standard = (scores - scores.mean()) / scores.std()
            mean = (torch.bincount(bins, weights=standard) / torch.bincount(bins).clamp(min=1))[: reach + 1].numpy()
            rows.append(pd.DataFrame({"kind": kind, "map": index, "distance": range(len(mean)), "similarity": mean}))
    return pd.concat(rows, ignore_index=True)


def correlations(maps: Maps, *, near: int = 10, every: int = EVERY) -> pd.DataFrame:
    """By kind, means over maps: correlation of score and distance over pairs of different cells, and where weight lies.

    Pearson's correlation with its 95 % interval; Spearman's; Pearson's of the cosine; and how much more of full
    attention's weight on other cells lies at most `near` away than if it were spread evenly (1 means: no more).
    """
    table = {}
    for kind, (queries, keys) in maps.items():
        squared = distances(size_of(queries), every)
        other, close = squared > 0, (squared > 0) & (squared <= near**2)
        distance = squared[other].double().sqrt().numpy()
        found = []
        for query, key in zip(queries, keys, strict=True):
            scores = score_rows(query, key, every)
            cosine = score_rows(query / query.norm(dim=0), key / key.norm(dim=0), every)[other].numpy()
            weights = weigh(scores, other)
            share = weights[close].sum() / len(weights) / (close.sum(-1) / other.sum(-1)).mean()
            dot = scores[other].numpy()
            rank = stats.spearmanr(dot, distance).statistic
            found.append((np.corrcoef(dot, distance)[0, 1], rank, np.corrcoef(cosine, distance)[0, 1], float(share)))
        pearson, spearman, cosines, shares = np.transpose(found)
        mean, low, high = interval(pearson)
        table[kind] = {
            "correlation": mean,
            "low": low,
            "high": high,
            "Spearman": spearman.mean(),
            "cosine": cosines.mean(),
            f"weight within {near}": shares.mean(),
        }
    return pd.DataFrame.from_dict(table, orient="index")

"""Density maps: what networks that count learn. A head is a Gaussian of mass 1, the map's sum is the number of heads.

The maps are made at the stride of the network's output: a cell holds the integral of the Gaussians over its pixels, so
nothing is resized (published code blurs at full size and resizes by cubic interpolation, which changes the sum).
What lies outside of the image is put back by dividing each head's Gaussian by its mass inside: a head on the border
counts as 1 too, as do heads on the same pixel (published code marks pixels, where duplicates vanish).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.special import ndtr

Floats = NDArray[np.float64]

BETA = 0.3  # MCNN: standard deviation = BETA x mean distance to the nearest heads
NEIGHBOURS = 3
SMALLEST, LARGEST = 1.0, 15.0  # pixels; CSRNet's authors take 15 for every head where crowds are sparse


def density_map(
    points: Floats, size: tuple[int, int], *, stride: int = 1, sigma: float | Floats | None = None
) -> NDArray[np.float32]:
    """Heads per cell, (ceil(h / stride), ceil(w / stride)), of points (n, 2) in an image (h, w).

    Every head inside the image adds exactly 1 to the sum, one outside adds nothing.

    Args:
        sigma: standard deviation in pixels, one for all heads or one for each; None: `adaptive_sigmas`.
    """
    height, width = size
    rows, columns = cells(size, stride)
    sigmas = adaptive_sigmas(points) if sigma is None else np.broadcast_to(np.float64(sigma), len(points))
    if not (sigmas > 0).all():
        raise ValueError(f"sigma must be positive, got {sigmas.min()}")
    inside = is_inside(points, size)
    x, y = points[inside].T
    down = _shares(y, sigmas[inside], _edges(rows, stride, height))  # (n, rows)
    across = _shares(x, sigmas[inside], _edges(columns, stride, width))  # (n, columns)
    return (down.T @ across).astype(np.float32)


def adaptive_sigmas(
    points: Floats,
    *,
    beta: float = BETA,
    neighbours: int = NEIGHBOURS,
    smallest: float = SMALLEST,
    largest: float = LARGEST,
) -> Floats:
    """Geometry-adaptive standard deviations (n,) in pixels: `beta` times the mean distance to the nearest heads.

    With fewer other heads than `neighbours` the mean is over those that exist; a single head has `largest`. The limits
    keep heads on one spot from having no width and lonely ones from covering the image: published code has no upper
    limit and gets infinite widths for 2 and 3 heads.
    """
    distances = neighbour_distances(points, neighbours=neighbours)
    return np.clip(np.where(np.isnan(distances), largest, beta * distances), smallest, largest)


def neighbour_distances(points: Floats, *, neighbours: int = NEIGHBOURS) -> Floats:
    """Mean distance (n,) of each head to its nearest others, as many as there are up to `neighbours`; NaN if alone."""
    number = min(neighbours, len(points) - 1)
    if number < 1:
        return np.full(len(points), np.nan)
    distances, _ = KDTree(points).query(points, k=number + 1)  # rising; the first is 0, to the head itself
    return distances[:, 1:].mean(axis=1)


def cells(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Rows and columns of a map that covers an image (h, w)."""
    return -(-size[0] // stride), -(-size[1] // stride)


def is_inside(points: Floats, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which points (n, 2) lie on a pixel of an image (h, w); pixel centres are whole numbers."""
    inside = (points >= -0.5) & (points < (size[1] - 0.5, size[0] - 0.5))  # (n, 2)
    return np.logical_and(inside[:, 0], inside[:, 1])


def _edges(number: int, stride: int, length: int) -> Floats:
    """Borders of the cells along an axis (number + 1,); the last cell ends where the image does."""
    return np.minimum(np.arange(number + 1) * float(stride), length) - 0.5


def _shares(centres: Floats, sigmas: Floats, edges: Floats) -> Floats:
    """Share of each Gaussian in each cell of an axis (n, cells), of what lies inside: rows sum to 1."""
    below = ndtr((edges - centres[:, None]) / sigmas[:, None])
    mass = np.diff(below, axis=1)
    return mass / (below[:, -1:] - below[:, :1])

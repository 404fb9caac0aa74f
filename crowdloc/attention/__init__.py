"""Attention of a query to chosen cells: Gaussian, random, local and full neighbourhoods (paper §IV-A, Table IX)."""

from __future__ import annotations

from crowdloc.attention.deformable import DeformableAttention
from crowdloc.attention.functional import (
    available_backends,
    full_attention,
    gaussian_neighbor_attention,
    local_attention,
    random_attention,
    sample_neighbors,
)
from crowdloc.attention.limit import gaussian_limit_attention
from crowdloc.attention.modules import GaussianNeighborAttention
from crowdloc.attention.seeds import module_seed

__all__ = [
    "DeformableAttention",
    "GaussianNeighborAttention",
    "available_backends",
    "full_attention",
    "gaussian_limit_attention",
    "gaussian_neighbor_attention",
    "local_attention",
    "module_seed",
    "random_attention",
    "sample_neighbors",
]

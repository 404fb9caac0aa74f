"""Gaussian neighbour attention as a module that knows its options, and its γ when they are learned."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from crowdloc.attention.checks import check_backend, gaussian_neighborhood
from crowdloc.attention.functional import gaussian_neighbor_attention
from crowdloc.attention.limit import gaussian_limit_attention

SAMPLINGS = ("independent", "qmc", "limit")


class GaussianNeighborAttention(nn.Module):
    """Multi-focus Gaussian neighbour attention (paper §IV-A); no parameters unless `learn_gamma`.

    Args:
        gamma, num_points, boundary, backend: as in `gaussian_neighbor_attention`.
        num_samples: repeated samplings at test, averaged against randomness; in training there is one.
        sampling: "independent", "qmc", or "limit": no draws at all, `gaussian_limit_attention`.
        learn_gamma: make log γ a parameter, one per focus; needs sampling="limit".

    Raises:
        ValueError, TypeError: an argument is out of range, here as in the functions; the message names it.
    """

    def __init__(
        self,
        *,
        gamma: float | Iterable[float] = (3.0, 5.0, 10.0),
        num_points: int = 32,
        num_samples: int = 3,
        boundary: str = "clamp",
        sampling: str = "independent",
        backend: str | None = None,
        learn_gamma: bool = False,
    ) -> None:
        super().__init__()
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}, not {sampling!r}")
        if learn_gamma and sampling != "limit":
            raise ValueError(f'learn_gamma needs sampling="limit", not {sampling!r}: draws have no gradient in gamma')
        drawn = "independent" if sampling == "limit" else sampling
        where = gaussian_neighborhood(drawn, gamma, num_points, num_samples, boundary)
        check_backend(backend)
        if learn_gamma and min(where.gamma) <= 0:
            raise ValueError("gamma must be positive to be learned")
        self.fixed_gamma = tuple(where.gamma)
        self.num_points, self.num_samples = where.num_points, where.num_samples
        self.boundary, self.sampling, self.backend = boundary, sampling, backend
        self.log_gamma = nn.Parameter(torch.tensor(self.fixed_gamma).log()) if learn_gamma else None

    @property
    def gamma(self) -> tuple[float, ...]:
        """The γ in use, in feature cells."""
        return self.fixed_gamma if self.log_gamma is None else tuple(self.log_gamma.detach().exp().tolist())

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, seed: int | Tensor, origin: tuple[int, int] = (0, 0)
    ) -> Tensor:
        """(B, C, H, W) and (B, T, C, H, W) or (B, C, H, W) -> (B, C, H, W).

        `seed` should come from `module_seed`, so that modules and training steps draw differently.
        """
        if self.sampling == "limit":
            gamma = self.fixed_gamma if self.log_gamma is None else self.log_gamma.exp()
            return gaussian_limit_attention(query, key, value, gamma=gamma, boundary=self.boundary)
        return gaussian_neighbor_attention(
            query,
            key,
            value,
            gamma=self.fixed_gamma,
            num_points=self.num_points,
            num_samples=1 if self.training else self.num_samples,
            seed=seed,
            boundary=self.boundary,
            origin=origin,
            sampling=self.sampling,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        gamma = ", ".join(f"{g:g}" for g in self.gamma)
        if self.sampling == "limit":
            return f"gamma=({gamma}), sampling=limit, learned={self.log_gamma is not None}, boundary={self.boundary}"
        return (
            f"gamma=({gamma}), num_points={self.num_points}, num_samples={self.num_samples}, "
            f"boundary={self.boundary}, sampling={self.sampling}, backend={self.backend}"
        )

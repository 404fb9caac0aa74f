"""Attention as a module: what a network keeps of GNA is its options, since GNA has no weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from crowdloc.attention.functional import gaussian_neighbor_attention


class GaussianNeighborAttention(nn.Module):
    """Multi-focus GNA with its options; draws once in training and `num_samples` times at test (paper §IV-A).

    Args: as in `gaussian_neighbor_attention`. The seed is given with every call; see `module_seed`.
    """

    def __init__(
        self,
        *,
        gamma: Sequence[float] = (3.0, 5.0, 10.0),
        num_points: int = 32,
        num_samples: int = 3,
        boundary: str = "clamp",
        sampling: str = "independent",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        self.gamma = tuple(gamma)
        self.num_points = num_points
        self.num_samples = num_samples
        self.boundary = boundary
        self.sampling = sampling
        self.backend = backend

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, seed: int | Tensor, origin: tuple[int, int] = (0, 0)
    ) -> Tensor:
        """(B, C, H, W), keys and values (B, T, C, H, W) or (B, C, H, W) -> (B, C, H, W)."""
        return gaussian_neighbor_attention(
            query,
            key,
            value,
            gamma=self.gamma,
            num_points=self.num_points,
            num_samples=1 if self.training else self.num_samples,
            seed=seed,
            boundary=self.boundary,
            origin=origin,
            sampling=self.sampling,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        return (
            f"gamma={self.gamma}, num_points={self.num_points}, num_samples={self.num_samples}, "
            f"boundary={self.boundary}, sampling={self.sampling}, backend={self.backend}"
        )

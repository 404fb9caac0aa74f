"""The attentions of Table IX, to be put in one another's place."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from crowdloc.attention import DeformableAttention, GaussianNeighborAttention, local_attention, random_attention

ATTENTIONS = ("gaussian", "random", "local", "deformable")


def build_attention(
    kind: str, channels: int, *, window: int, num_points: int, num_samples: int, num_frames: int = 1, **gaussian: Any
) -> nn.Module:
    """A module from query (B, C, H, W), keys and values (B, T, C, H, W) and a seed to (B, C, H, W).

    Raises:
        ValueError: an argument is out of range, or `kind` is unknown; the message names it.
    """
    if kind == "gaussian":
        return GaussianNeighborAttention(num_points=num_points, num_samples=num_samples, **gaussian)
    if kind == "random":
        return RandomAttention(num_points=num_points, num_samples=num_samples, backend=gaussian.get("backend"))
    if kind == "local":
        return LocalAttention(window=window, backend=gaussian.get("backend"))
    if kind == "deformable":
        return DeformableAttention(channels, num_frames=num_frames)
    raise ValueError(f"attention must be one of {', '.join(ATTENTIONS)}, got {kind!r}")


class RandomAttention(nn.Module):
    """RANet: `num_points` cells per query and frame, uniformly from the map; `num_samples` such sets at test."""

    def __init__(self, *, num_points: int, num_samples: int, backend: str | None = None) -> None:
        super().__init__()
        self.num_points, self.num_samples, self.backend = num_points, num_samples, backend

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *, seed: int | Tensor) -> Tensor:
        samples = 1 if self.training else self.num_samples
        options: dict[str, Any] = {"num_points": self.num_points, "num_samples": samples, "backend": self.backend}
        return random_attention(query, key, value, seed=seed, **options)

    def extra_repr(self) -> str:
        return f"num_points={self.num_points}, num_samples={self.num_samples}"


class LocalAttention(nn.Module):
    """LANet: the `window` × `window` cells around the query in each frame, without draws or learned projections."""

    def __init__(self, *, window: int, backend: str | None = None) -> None:
        super().__init__()
        self.window, self.backend = window, backend

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *, seed: int | Tensor) -> Tensor:
        return local_attention(query, key, value, window=self.window, backend=self.backend)

    def extra_repr(self) -> str:
        return f"window={self.window}"

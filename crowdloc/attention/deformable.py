"""Deformable attention (Zhu et al., 2021), the paper's comparison in Table IX (DFANet), in plain PyTorch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crowdloc.attention.checks import check_count


class DeformableAttention(nn.Module):
    """Each head looks at a few places per frame that are linear functions of the query, and weighs them likewise.

    There is no query-key product: offsets (in cells, from the query's own cell) and weights (one softmax over a
    head's points in all frames) come from the query alone. Values are projected, read bilinearly with zeros outside
    the map, and the heads' results projected once more. Frames take the role of the levels of the original, all of
    one size. With 8 heads of 4 points it reads 32 places per frame, as many as GNA with P = 32.

    Initialised as the original: at first the weights are uniform and head m looks 1, 2, … cells along the m-th of
    `num_heads` directions around the compass.

    Args:
        channels: C, a multiple of `num_heads`.
        num_frames: T, the frames of `value`.
        num_heads, num_points: M heads with K points each per frame.

    Raises:
        ValueError: an argument, or a shape given to `forward`, does not fit; the message names it.
    """

    def __init__(self, channels: int, *, num_frames: int = 1, num_heads: int = 8, num_points: int = 4) -> None:
        super().__init__()
        channels, num_frames = check_count("channels", channels), check_count("num_frames", num_frames)
        num_heads, num_points = check_count("num_heads", num_heads), check_count("num_points", num_points)
        if channels % num_heads:
            raise ValueError(f"channels must be a multiple of num_heads, {num_heads}, not {channels}")
        self.channels, self.num_frames, self.num_heads, self.num_points = channels, num_frames, num_heads, num_points
        places = num_heads * num_frames * num_points
        self.offsets = nn.Linear(channels, places * 2)
        self.weights = nn.Linear(channels, places)
        self.value_projection = nn.Linear(channels, channels)
        self.output_projection = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The original's initialisation, see the class."""
        for layer in (self.offsets, self.weights, self.value_projection, self.output_projection):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.xavier_uniform_(self.value_projection.weight)
        nn.init.xavier_uniform_(self.output_projection.weight)
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1)
        bias = direction[:, None, None, :] * steps[:, None]  # (M, 1, K, 2)
        with torch.no_grad():
            self.offsets.bias.copy_(bias.expand(-1, self.num_frames, -1, -1).flatten())

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, seed: int | Tensor = 0, origin: tuple[int, int] = (0, 0)
    ) -> Tensor:
        """(B, C, H, W) and (B, T, C, H, W), or (B, C, H, W) for one frame -> (B, C, H, W).

        `key`, `seed` and `origin` are there so that the module can stand where `GaussianNeighborAttention` stands;
        they change nothing.
        """
        value = value.unsqueeze(1) if value.dim() == 4 else value
        self._check(query, value)
        batch, _, height, width = query.shape
        heads, frames, points = self.num_heads, self.num_frames, self.num_points
        rows = query.flatten(2).transpose(1, 2)  # (B, N, C)
        offsets = self.offsets(rows).view(batch, height * width, heads, frames, points, 2)
        weights = self.weights(rows).view(batch, height * width, heads, frames * points).softmax(-1)
        places = self._cells(height, width, rows)[:, None, None, None] + offsets
        # grid_sample calls the map's edges −1 and 1
        grid = (2 * places + 1) / places.new_tensor([width, height]) - 1
        grid = grid.permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # (T, B·M, N, K, 2)
        weights = weights.view(batch, -1, heads, frames, points).permute(3, 0, 2, 1, 4).flatten(1, 2)
        values = self.value_projection(value.movedim(2, -1)).movedim(-1, 2)
        values = values.transpose(0, 1).reshape(frames, batch * heads, -1, height, width)
        out = torch.zeros_like(values[0].flatten(2))  # (B·M, C/M, N)
        for frame in range(frames):
            read = F.grid_sample(values[frame], grid[frame], padding_mode="zeros", align_corners=False)
            out = out + (read * weights[frame].unsqueeze(1)).sum(-1)
        out = self.output_projection(out.view(batch, -1, height * width).transpose(1, 2))
        return out.transpose(1, 2).reshape(query.shape)

    @staticmethod
    def _cells(height: int, width: int, like: Tensor) -> Tensor:
        """(x, y) of every cell, (N, 2)."""
        y, x = torch.meshgrid(
            *(torch.arange(n, device=like.device, dtype=like.dtype) for n in (height, width)), indexing="ij"
        )
        return torch.stack((x, y), dim=-1).flatten(0, 1)

    def _check(self, query: Tensor, value: Tensor) -> None:
        if query.dim() != 4 or query.shape[1] != self.channels or query.numel() == 0:
            raise ValueError(f"query must be (B, {self.channels}, H, W), not {tuple(query.shape)}")
        expected = (query.shape[0], self.num_frames, *query.shape[1:])
        if value.shape != expected:
            raise ValueError(f"value must be {expected}, not {tuple(value.shape)}")

    def extra_repr(self) -> str:
        return (
            f"channels={self.channels}, num_frames={self.num_frames}, num_heads={self.num_heads}, "
            f"num_points={self.num_points}"
        )

"""How attention outputs join the feature before the head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

FUSIONS = ("sum", "mean", "gated", "project", "difference", "concat")


class Fusion(nn.Module):
    """Feature (B, C, H, W) and attention outputs, each (B, C, H, W) -> (B, C, H, W); the paper's is the sum.

    The others are ours, to find out what the sum costs and what would make attention win (notebook 09):
    "mean" is the sum at the scale of the feature; "gated" learns one factor per attention output, starting at 0;
    "project" adds a 1×1 convolution of each, starting at 0; "difference" adds the feature minus each, centre minus
    surround; "concat" convolves the concatenation (1×1).
    """

    def __init__(self, channels: int, attentions: int, *, kind: str = "sum") -> None:
        super().__init__()
        if kind not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, got {kind!r}")
        self.kind = kind
        if kind == "gated":
            self.gate = nn.Parameter(torch.zeros(attentions))
        if kind == "project":
            self.projections = nn.ModuleList(ZeroConv(channels, channels, 1) for _ in range(attentions))
        if kind == "concat":
            self.mix = nn.Conv2d((attentions + 1) * channels, channels, 1)

    def forward(self, feature: Tensor, attended: Sequence[Tensor]) -> Tensor:
        if self.kind == "concat":
            return self.mix(torch.cat([feature, *attended], dim=1))
        if self.kind == "gated":
            attended = [gate * out for gate, out in zip(self.gate, attended, strict=True)]
        if self.kind == "project":
            attended = [layer(out) for layer, out in zip(self.projections, attended, strict=True)]
        if self.kind == "difference":
            attended = [feature - out for out in attended]
        added = sum(attended, feature)
        return added / (len(attended) + 1) if self.kind == "mean" else added

    def extra_repr(self) -> str:
        return f"kind={self.kind}"


class ZeroConv(nn.Conv2d):
    """A convolution that starts at 0, so that the network starts without what goes through it."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

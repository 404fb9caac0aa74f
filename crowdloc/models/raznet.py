"""The two networks without attention: RAZNet on one image and on stacked frames."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from crowdloc.models.localizer import Localizer
from crowdloc.models.parts.layers import conv_block


class RAZNet(Localizer):
    """Single-image localization: the feature of the keyframe goes straight to the head."""

    def aggregate(self, features: Tensor, step: int | None) -> Tensor:
        return features[:, 0]


class FrameStack(Localizer):
    """First row of Table VIII: features of all frames combined by one convolution, then the head."""

    def __init__(self, *, num_frames: int = 3, norm: str = "none", **options: Any) -> None:
        super().__init__(norm=norm, **options)
        self.offsets = centred(num_frames)
        self.combine = nn.Sequential(*conv_block(num_frames * self.channels, self.channels, norm=norm))

    def aggregate(self, features: Tensor, step: int | None) -> Tensor:
        return self.combine(features.flatten(1, 2))


def centred(num_frames: int) -> tuple[int, ...]:
    """Offsets of a clip of m frames whose keyframe is frame m // 2 (paper §IV-B1)."""
    if isinstance(num_frames, bool) or not isinstance(num_frames, int) or num_frames < 1:
        raise ValueError(f"num_frames must be a whole number of at least 1, got {num_frames!r}")
    return tuple(range(-(num_frames // 2), num_frames - num_frames // 2))

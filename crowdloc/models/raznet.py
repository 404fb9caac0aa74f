"""The two networks without attention: RAZNet on one image and on stacked frames."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from crowdloc.models.localizer import Localizer
from crowdloc.models.parts.layers import conv_block


class RAZNet(Localizer):
    """Single-image localization: the feature of the keyframe goes straight to the head."""

    num_frames = 1

    def aggregate(self, features: Tensor, step: int | None) -> Tensor:
        return features[:, 0]


class FrameStack(Localizer):
    """First row of Table VIII: features of all frames combined by one convolution, then the head."""

    def __init__(self, *, num_frames: int = 3, **options: Any) -> None:
        super().__init__(**options)
        self.num_frames = num_frames
        norm = options.get("norm", "none")
        self.combine = nn.Sequential(*conv_block(num_frames * self.channels, self.channels, norm=norm))

    def aggregate(self, features: Tensor, step: int | None) -> Tensor:
        return self.combine(features.flatten(1, 2))

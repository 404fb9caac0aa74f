"""RAZNet's localization branch (paper ref. [24]), the head that GNANet reuses (§IV-B4).

Deviations from the public code of that branch: one output channel and no ReLU after the last convolution (a ReLU
before a sigmoid could never predict below one half); the last convolution starts at the best constant answer for the
training data, see `LocalizationHead.reset_last`.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from crowdloc.models.parts.layers import conv_block, scaled, upsample_block


def prior_logit(share: float, positive_weight: float = 50.0) -> float:
    """The constant logit with the smallest weighted loss where a `share` of the pixels belongs to heads.

    Setting the derivative of w·π·log p + (1 - π)·log(1 - p) to zero gives p / (1 - p) = w·π / (1 - π). A network that
    starts far from it spends its first hundreds of steps on moving the bias there.
    """
    return math.log(positive_weight * share / (1 - share))


# SenseCrowd: 37 heads of 5 pixels in 1080×1920.
SENSECROWD_SHARE = 37 * 5 / (1080 * 1920)


class LocalizationHead(nn.Module):
    """Three dilated convolutions, then three times (deconvolution ×2, dilated convolution), then 1×1 to a logit map.

    (B, C, H, W) -> (B, 1, 8H, 8W). With `norm="batch"` the input is normalised too, because networks that add
    attention to the feature would otherwise hand over a sum of another scale than those that do not.
    """

    def __init__(self, in_channels: int, *, width: float = 1.0, norm: str = "none") -> None:
        super().__init__()
        hidden = scaled(512, width)
        layers: list[nn.Module] = [nn.BatchNorm2d(in_channels)] if norm == "batch" else []
        for channels in (in_channels, hidden, hidden):
            layers.extend(conv_block(channels, hidden, dilation=2, norm=norm))
        channels = hidden
        for out in (scaled(256, width), scaled(128, width), scaled(64, width)):
            layers.extend(upsample_block(channels, out, norm=norm))
            layers.extend(conv_block(out, out, dilation=2, norm=norm))
            channels = out
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, 1))
        self.reset_last()

    def reset_last(self, share: float = SENSECROWD_SHARE, positive_weight: float = 50.0) -> None:
        """Start at the best constant answer: the bias at `prior_logit`, the weights close to zero.

        PyTorch's default draws far larger weights. They multiply features that are never negative, so a seed that
        draws them all negative (as seed 0 did with 8 channels) can only push the map below its bias, and a short
        training never leaves the constant answer. N(0, 0.01), as in RetinaNet, lets every sign change at once.
        """
        last = self.layers[-1]
        nn.init.normal_(last.weight, std=0.01)  # type: ignore[arg-type]
        nn.init.constant_(last.bias, prior_logit(share, positive_weight))  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)

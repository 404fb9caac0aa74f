"""RAZNet's localization branch (paper ref. [24]), the head that GNANet reuses (§IV-B4).

Deviations from the public code of that branch: one output channel and no ReLU after the last convolution (a ReLU
before a sigmoid could never predict below one half); the bias of the last convolution starts at the logit that the
weighted loss would settle on for an average frame.
"""

from __future__ import annotations

from torch import Tensor, nn

from crowdloc.models.layers import conv_block, scaled, upsample_block

# sigmoid⁻¹ of 50·π/(50·π + 1 - π) for the share π = 9e-5 of head pixels in a 1080p frame with 37 heads.
PRIOR_LOGIT = -5.4


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
        last = nn.Conv2d(channels, 1, 1)
        nn.init.constant_(last.bias, PRIOR_LOGIT)  # type: ignore[arg-type]
        self.layers = nn.Sequential(*layers, last)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)

"""CSRNet (Table VI): VGG16's ten convolutions and a dilated back-end, one density map at stride 8.

Known from its authors' code. Deviations: targets have exact masses and limited widths (`density`); adaptive widths with
an upper limit of 15 pixels stand for both of the authors' settings (adaptive on ShanghaiTech A, 15 pixels on B); crops
and mirror images as for every method, where the authors train on whole images.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from crowdloc.models.counter import DensityBackEnd, FrontendCounter


class CSRNet(FrontendCounter):
    """Ten VGG16 convolutions, six of dilation 2, 1×1 without activation; the count is the map's sum.

    Options: those of `FrontendCounter`; `head_width` is of the back-end.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.back_end = DensityBackEnd(self.backbone.out_channels, width=self.head_width, dilation=2, norm=self.norm)
        self.output = nn.Conv2d(self.back_end.out_channels, 1, 1)

    def density(self, features: Tensor) -> Tensor:
        return self.heads(self.back_end(features[:, self.keyframe]))[:, 0]

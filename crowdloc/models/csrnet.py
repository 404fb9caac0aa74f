"""CSRNet (Table VI): VGG16's ten convolutions and a dilated back-end, one density map at stride 8.

Known from its authors' code. Deviations: targets have exact masses and limited widths (`density`); adaptive widths with
an upper limit of 15 pixels stand for both of the authors' settings (adaptive on ShanghaiTech A, 15 pixels on B); crops
and mirror images as for every method, where the authors train on whole images.
"""

from __future__ import annotations

from torch import Tensor, nn

from crowdloc.models.counter import DensityBackEnd, DensityCounter
from crowdloc.models.method import Maps
from crowdloc.models.parts.frontend import VGG16Frontend
from crowdloc.models.parts.layers import pad_to_multiple


class CSRNet(DensityCounter):
    """Ten VGG16 convolutions, six of dilation 2, 1×1 without activation; the count is the map's sum.

    Args:
        width, feature_width, norm: of the front-end.
        head_width: share of the channels in the back-end; None: as `width`.
        sigma: see `DensityCounter`.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        feature_width: float | None = None,
        head_width: float | None = None,
        norm: str = "none",
        sigma: float | None = None,
    ) -> None:
        super().__init__(sigma=sigma)
        self.backbone = VGG16Frontend(width=width, feature_width=feature_width, norm=norm)
        self.back_end = DensityBackEnd(
            self.backbone.out_channels, width=width if head_width is None else head_width, dilation=2, norm=norm
        )
        self.output = nn.Conv2d(self.back_end.out_channels, 1, 1)

    def encode(self, images: Tensor) -> Maps:
        """Normalised frames (n, 3, h, w) -> (n, C, ceil(h/8), ceil(w/8))."""
        return self.backbone(pad_to_multiple(images, self.stride))

    def density(self, features: Tensor) -> Tensor:
        return self.output(self.back_end(features[:, self.keyframe]))[:, 0]

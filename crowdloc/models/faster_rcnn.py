"""Faster R-CNN on head-shoulder boxes; see `detectors` for what is changed in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from crowdloc.models.decoding import SCORE_FLOOR
from crowdloc.models.detectors import MOST, Boxes, Detector, Levels
from crowdloc.models.parts.borrowed import Absent


class FasterRCNN(Detector):
    """Proposals from anchors, then their classification and refinement."""

    stages, label = 4, 1

    def pyramid(self, inputs: Sequence[int], channels: int, norm: Any) -> nn.Module:
        from torchvision.ops import FeaturePyramidNetwork
        from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

        return FeaturePyramidNetwork(list(inputs), channels, LastLevelMaxPool(), norm_layer=norm)

    def build(self, channels: int, hidden: int) -> nn.Module:
        from torchvision.models import detection as tv
        from torchvision.ops import MultiScaleRoIAlign

        sizes = ((8,), (16,), (32,), (64,), (128,)) if self.full else ((8, 16, 32),)
        pooled = ["0", "1", "2", "3"] if self.full else ["0"]
        return tv.FasterRCNN(
            Absent(channels),
            rpn_anchor_generator=tv.anchor_utils.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
            rpn_pre_nms_top_n_test=MOST,
            rpn_post_nms_top_n_test=MOST,
            box_roi_pool=MultiScaleRoIAlign(pooled, output_size=7, sampling_ratio=2),
            box_head=tv.faster_rcnn.TwoMLPHead(channels * 7**2, hidden),
            box_predictor=tv.faster_rcnn.FastRCNNPredictor(hidden, 2),
            box_score_thresh=SCORE_FLOOR,
            box_detections_per_img=MOST,
        )

    def outputs(self) -> list[nn.Module]:
        return [self.detector.rpn.head, self.detector.roi_heads.box_predictor]

    def losses(self, levels: Levels, images: Any, targets: Boxes) -> dict[str, Tensor]:
        proposals, first = self.detector.rpn(images, levels, targets)
        _, second = self.detector.roi_heads(levels, proposals, images.image_sizes, targets)
        return {**first, **second}

    def detect(self, levels: Levels, images: Any) -> Boxes:
        proposals, _ = self.detector.rpn(images, levels)
        return self.detector.roi_heads(levels, proposals, images.image_sizes)[0]

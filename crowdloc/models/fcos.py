"""FCOS on head-shoulder boxes; see `detectors` for what is changed in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from crowdloc.models.decoding import SCORE_FLOOR
from crowdloc.models.detectors import MOST, Boxes, Detector, Levels
from crowdloc.models.parts.borrowed import Absent


class FCOS(Detector):
    """Every place of a map says whether a head is there, how far the sides of its box are, and how central it is."""

    stages, label = 3, 0

    def pyramid(self, inputs: Sequence[int], channels: int, norm: Any) -> nn.Module:
        from torchvision.ops import FeaturePyramidNetwork
        from torchvision.ops.feature_pyramid_network import LastLevelP6P7

        return FeaturePyramidNetwork(list(inputs), channels, LastLevelP6P7(channels, channels), norm_layer=norm)

    def build(self, channels: int, hidden: int) -> nn.Module:
        from torchvision.models import detection as tv

        strides = ((8,), (16,), (32,), (64,), (128,)) if self.full else ((4,),)
        return tv.FCOS(
            Absent(channels),
            num_classes=1,
            anchor_generator=tv.anchor_utils.AnchorGenerator(strides, ((1.0,),) * len(strides)),
            score_thresh=SCORE_FLOOR,
            detections_per_img=MOST,
            topk_candidates=MOST,
        )

    def outputs(self) -> list[nn.Module]:
        return [self.detector.head]

    def losses(self, levels: Levels, images: Any, targets: Boxes) -> dict[str, Tensor]:
        maps = list(levels.values())
        anchors, numbers = self.detector.anchor_generator(images, maps), [m.shape[-2] * m.shape[-1] for m in maps]
        return self.detector.compute_loss(targets, self.detector.head(maps), anchors, numbers)

    def detect(self, levels: Levels, images: Any) -> Boxes:
        maps = list(levels.values())
        anchors, numbers = self.detector.anchor_generator(images, maps), [m.shape[-2] * m.shape[-1] for m in maps]
        found = {key: list(value.split(numbers, dim=1)) for key, value in self.detector.head(maps).items()}
        split = [list(image.split(numbers)) for image in anchors]
        return self.detector.postprocess_detections(found, split, images.image_sizes)

"""Faster R-CNN and FCOS (Table II): torchvision's detectors on head-shoulder boxes; the centre of a box is the head.

At full width they have ResNet-50 and a feature pyramid, as torchvision builds them. At any other width they stand on
the VGG front-end that all methods of a preset share: conv3_3 and conv4_3 are merged into one map of stride 4, because
the heads of small frames are 5 to 50 pixels wide, and torchvision's heads work on it with 256·width channels (in steps
of the 32 groups of FCOS's group norm). The paper names no backbone, threshold or framework.

What differs from torchvision's defaults, which are made for 100 objects in an image: images are neither resized nor
normalised again; up to 2,000 proposals and detections; scores from .05, the floor of all methods (FCOS: .2 there);
anchors from 8 pixels (Faster R-CNN: 32 there); batch norms are trained (torchvision freezes pretrained ones).

Rules: boxes are clipped to the crop and those less than a pixel wide or high left out; a crop without boxes is all
background; detections centred in the padding are dropped. torchvision's coordinates begin at the corner of the first
pixel, ours at its centre, so boxes move by half a pixel on the way in and out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crowdloc.attention import module_seed
from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.models.method import Maps, Method, Prediction, Sample
from crowdloc.models.parts.borrowed import in_float32
from crowdloc.models.parts.frontend import VGG16Frontend
from crowdloc.models.parts.layers import pad_to_multiple, scaled
from crowdloc.models.parts.resnet import ResNet50
from crowdloc.models.parts.scales import SCALES, MergedMap

MOST = 2000  # proposals, candidates and detections of an image
SMALLEST = 1.0  # pixels; narrower boxes are not trained on
_GROUPS = 32  # of FCOS's group norm
Levels = dict[str, Tensor]  # maps (B, C, H, W) by torchvision's names of the pyramid's levels
Boxes = list[dict[str, Tensor]]  # of every image: boxes (n, 4) x1 y1 x2 y2, labels (n,), scores (n,) if detected


class Detector(Method):
    """Base of both: backbone, neck, torchvision's detector on the neck's maps.

    Args:
        width: 1: ResNet-50 and a feature pyramid; else the share of VGG16's channels in the front-end.
        feature_width: as in `Localizer`; only below full width.
        norm: "none" or "batch" in front-end and neck; ResNet-50 and FCOS's head have their own.
    """

    keeps_maps = False  # of stride 4: five times as large as those of stride 8
    stages: ClassVar[int]  # of ResNet-50
    label: ClassVar[int]  # of the only class
    detector: Any  # torchvision's; its backbone and transform are never called

    def __init__(self, *, width: float = 1.0, feature_width: float | None = None, norm: str = "none") -> None:
        super().__init__()
        self._options: dict[str, Any] = {"width": width, "feature_width": feature_width, "norm": norm}
        self.full = width == 1
        if self.full and feature_width is not None:
            raise ValueError(f"feature_width={feature_width} is for the front-end of widths below 1: leave it out")
        channels = _GROUPS * max(1, round(256 * width / _GROUPS))
        if self.full:
            resnet = ResNet50(stages=self.stages)
            self.neck = self.pyramid(resnet.channels, channels, nn.BatchNorm2d if norm == "batch" else None)
        else:
            vgg = VGG16Frontend(width=width, feature_width=feature_width, norm=norm, taps=SCALES[1:])
            self.neck = MergedMap((scaled(256, width), vgg.out_channels), channels, norm=norm)
        self.backbone = resnet if self.full else vgg
        self.detector = self.build(channels, scaled(1024, width))
        for module in (self.neck, *self.outputs()):
            module.register_forward_hook(in_float32)

    def pyramid(self, inputs: Sequence[int], channels: int, norm: Any) -> nn.Module:
        """torchvision's feature pyramid."""
        raise NotImplementedError

    def build(self, channels: int, hidden: int) -> nn.Module:
        """torchvision's detector for maps of `channels`."""
        raise NotImplementedError

    def outputs(self) -> list[nn.Module]:
        """The modules whose outputs are scores and boxes."""
        raise NotImplementedError

    def losses(self, levels: Levels, images: Any, targets: Boxes) -> dict[str, Tensor]:
        """torchvision's terms."""
        raise NotImplementedError

    def detect(self, levels: Levels, images: Any) -> Boxes:
        """torchvision's detections."""
        raise NotImplementedError

    def prepare(self, dataset: ClipDataset) -> None:
        """torchvision's own initialisation, of all but a front-end that other methods have too.

        Raises:
            CrowdlocError: the data set has no boxes.
        """
        _boxes(dataset, type(self).__name__)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(module_seed(self.run_seed, "detector", None))
            state = type(self)(**self._options).state_dict()
        self.load_state_dict({k: v for k, v in state.items() if self.full or not k.startswith("backbone.")}, False)

    def encode(self, images: Tensor) -> Maps:
        """Normalised frames (n, 3, h, w) -> the backbone's maps of the frames, padded to a multiple of its stride."""
        return self.backbone(pad_to_multiple(images, 32 if self.full else 8))

    def loss(self, sample: Sample, step: int) -> dict[str, Tensor]:
        """torchvision's terms. Proposals and anchors are sampled by run seed and step."""
        if sample.boxes is None:
            raise CrowdlocError(f"{type(self).__name__} learns from boxes, which this data set lacks: choose another")
        levels, images = self.levels(tuple(stage[:, self.keyframe] for stage in self.features(sample)))
        device = levels[next(iter(levels))].device
        targets = [self.target(frames[self.keyframe], sample.size, device) for frames in sample.boxes]
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(module_seed(self.run_seed, "samples", step))
            return self.losses(levels, images, targets)

    def target(self, boxes: Tensor, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        """Boxes (n, 4) that can be trained on, in torchvision's coordinates, with the label of the only class."""
        limit = torch.tensor([size[1], size[0]] * 2, dtype=boxes.dtype, device=boxes.device)
        boxes = (boxes + 0.5).clamp(min=0).minimum(limit)
        boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST).all(dim=1)].to(device, torch.float32)
        return {"boxes": boxes, "labels": torch.full((len(boxes),), self.label, device=device)}

    def levels(self, maps: Maps) -> tuple[Levels, Any]:
        """Maps of the backbone (B, C, H, W) -> those of the neck, and what torchvision wants to know of the images."""
        from torchvision.models.detection.image_list import ImageList

        levels = self.neck({str(number): stage for number, stage in enumerate(maps)})
        stride = 8 if self.full and self.stages == 3 else 4
        batch, _, height, width = levels["0"].shape
        size = (stride * height, stride * width)
        return levels, ImageList(levels["0"].new_empty(batch, 0, *size), [size] * batch)

    def decode(self, window: Sequence[Maps], size: tuple[int, int]) -> Prediction:
        """Centres of the detected boxes that lie in the image."""
        (found,) = self.detect(*self.levels(tuple(stage[None] for stage in window[self.keyframe])))
        boxes, scores = (found[key].double().cpu().numpy() for key in ("boxes", "scores"))
        points = (boxes[:, :2] + boxes[:, 2:]) / 2 - 0.5
        inside = (points < (size[1] - 0.5, size[0] - 0.5)).all(axis=1)
        return Prediction(points[inside], scores[inside])


def oracle_predictions(dataset: ClipDataset) -> list[Prediction]:
    """Centres of the annotated boxes as detections with score 1: what a perfect detector can reach.

    Raises:
        CrowdlocError: the data set has no boxes.
    """
    centres = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in _boxes(dataset, "the oracle of detectors")]
    return [Prediction(points, np.ones(len(points))) for points in centres]


def _boxes(dataset: ClipDataset, who: str) -> list[NDArray[np.float64]]:
    """Boxes of all frames."""
    found = []
    for frame in dataset.frames:
        if frame.boxes is None:
            raise CrowdlocError(
                f"{who} needs boxes, but {dataset.name} has none (image {frame.id}): choose another method or data set"
            )
        found.append(frame.boxes)
    return found

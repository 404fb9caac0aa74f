"""LSTN (Table VII, row "LST"): a density map, and a transformer that moves its blocks to where the next frame has them.

Medium evidence: the equations of the paper, the layers of a public re-implementation. The transformer is a tie in
training only; the count is the sum of the regression map of the keyframe. Open and chosen here: the similarity of two
frames is exp(-d / 2β²) with d the mean squared difference of a block in grey levels of 0-255 (as a sum it would be 0
everywhere, on normalised images 1); fixed Gaussians of 4 pixels; pairs of frames instead of longer clips. Deviation:
blocks are resized to one size before their transformation is found, so that crops, frames of any size and several
divisions work; the published layer is tied to the size of the frames.

In `mini` it stands on the frozen convolutions of the first stage without their last pooling, as the public
re-implementation does on those of ImageNet; their maps have four times as many cells as those of others and are not
kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from crowdloc.models.counter import DensityBackEnd, FrontendCounter
from crowdloc.models.method import Maps, Sample
from crowdloc.models.parts.block_transformer import BlockTransformer
from crowdloc.models.parts.frontend import IMAGENET_STD
from crowdloc.models.parts.layers import pad_to_multiple


class LSTN(FrontendCounter):
    """VGG16's ten convolutions with two poolings, six more, a density map at stride 4; `BlockTransformer` in training.

    Args:
        width, feature_width, head_width, norm: as in `FrontendCounter`.
        sigma: see `DensityCounter`.
        blocks, block_size: see `BlockTransformer`.
        tie: λ, weight of the transformed maps in the loss.
        similarity: β, in grey levels.
    """

    stride = 4
    offsets = (0, 1)
    keeps_maps = False

    def __init__(
        self,
        *,
        sigma: float | None = 4.0,
        blocks: tuple[int, int] = (2, 2),
        block_size: tuple[int, int] = (90, 80),
        tie: float = 0.001,
        similarity: float = 30.0,
        **options: Any,
    ) -> None:
        super().__init__(sigma=sigma, **options)
        self.tie, self.similarity = tie, similarity
        last = max(i for i, layer in enumerate(self.backbone.features) if isinstance(layer, nn.MaxPool2d))
        self.backbone.features[last] = nn.Identity()  # the names of the convolutions stay torchvision's
        self.back_end = DensityBackEnd(self.backbone.out_channels, width=self.head_width, norm=self.norm)
        self.output = nn.Conv2d(self.back_end.out_channels, 1, 1)
        self.transformer = BlockTransformer(blocks=blocks, block_size=block_size)

    def encode(self, images: Tensor) -> Maps:
        """Normalised frames (n, 3, h, w) -> heads per cell (n, 1, ceil(h/4), ceil(w/4))."""
        return (self.heads(self.back_end(self.backbone(pad_to_multiple(images, self.stride))[0])),)

    def density(self, features: Tensor) -> Tensor:
        return features[:, self.keyframe, 0]

    def loss(self, sample: Sample, step: int) -> dict[str, Tensor]:
        """Squared error of the maps of all frames, and of each transformed map against the next frame's."""
        if sample.images is None:
            raise ValueError("LSTN compares images of neighbouring frames: it cannot train on kept maps")
        found = self.features(sample)[0][:, :, 0].float()  # (B, T, H, W)
        target = torch.stack([self.target(sample, frame) for frame in range(len(self.offsets))], 1).to(found.device)
        moved = self.transformer(found[:, :-1].flatten(0, 1)).unflatten(0, (len(found), -1))
        error = self.weights(sample.images) * (moved - target[:, 1:]).square()
        return {
            "density": self.error(found, target),
            "transformer": self.tie * error.mean() / self.unit.square(),
        }

    def weights(self, images: Tensor) -> Tensor:
        """Similarity S of neighbouring frames (B, T - 1, H, W), the same in all cells of a block."""
        levels = pad_to_multiple(images, self.stride) * images.new_tensor(IMAGENET_STD).view(3, 1, 1) * 255
        change = (levels[:, 1:] - levels[:, :-1]).square().mean(dim=2)  # (B, T - 1, h, w); the mean colour cancels
        change = nn.functional.avg_pool2d(change, self.stride)
        result = torch.empty_like(change)
        for row in self.transformer.divide(*change.shape[-2:]):
            for block in row:
                mean = change[..., *block].mean(dim=(-2, -1), keepdim=True)
                result[..., *block] = torch.exp(-mean / (2 * self.similarity**2))
        return result

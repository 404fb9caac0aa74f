"""GNANet (paper §IV, Fig. 2) and its single-image form S-GNANet (§V-B3).

What the paper leaves open and what is done here: convolutions pad to keep the size; the convolution that makes the
scene context is 3×3 with ReLU; there are no learned projections (none are mentioned); the three attention modules draw
different neighbours; S-GNANet "combines" attention and feature by a sum, as GNANet does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from crowdloc.attention import module_seed
from crowdloc.models.localizer import Localizer
from crowdloc.models.parts.fusion import Fusion
from crowdloc.models.parts.layers import conv_block
from crowdloc.models.parts.neighbors import build_attention
from crowdloc.models.raznet import centred


class GaussianLocalizer(Localizer):
    """A localizer with Gaussian neighbour attention in it.

    Args:
        attention: "gaussian", or what Table IX puts in its place: "random", "local", "deformable" (`build_attention`).
        window: side of the neighbourhood of local attention, in cells.
        gamma: standard deviations of the foci, in feature cells (paper: 3, 5, 10).
        num_points: P, neighbours per focus and frame (32).
        num_samples: S at test, how often neighbours are drawn and the outputs averaged (3); training draws once.
        run_seed: the draws are a function of it, the module's name and the training step.
        boundary, sampling, backend, learn_gamma: as in `GaussianNeighborAttention`.
        network: options of `Localizer`.
    """

    def __init__(
        self,
        *,
        attention: str = "gaussian",
        window: int = 7,
        gamma: Sequence[float] = (3.0, 5.0, 10.0),
        num_points: int = 32,
        num_samples: int = 3,
        run_seed: int = 0,
        boundary: str = "clamp",
        sampling: str = "independent",
        backend: str | None = None,
        learn_gamma: bool = False,
        norm: str = "none",
        **network: Any,
    ) -> None:
        super().__init__(norm=norm, **network)
        self.run_seed = run_seed
        self.norm = norm
        self.attention = partial(
            build_attention,
            attention,
            self.channels,
            window=window,
            gamma=tuple(gamma),
            num_points=num_points,
            num_samples=num_samples,
            boundary=boundary,
            sampling=sampling,
            backend=backend,
            learn_gamma=learn_gamma,
        )


class GNANet(GaussianLocalizer):
    """Scene modelling, keyframe and temporal cross-attention, element-wise sum, RAZNet's head.

    Args:
        num_frames: m, the length of a clip; the keyframe is m // 2.
        keyframe, temporal: switches of Table VIII. Without both the scene context goes to the head; without scene
            modelling too the network is `FrameStack`.
        fusion: how attention joins the feature, see `Fusion`; "sum" is the paper's.
        stacked: attention is added to the scene feature, which convolution made of all frames, instead of the
            keyframe's. Ours (notebook 09): does GNA add to what stacking finds?
        options: those of `GaussianLocalizer`.
    """

    def __init__(
        self,
        *,
        num_frames: int = 3,
        keyframe: bool = True,
        temporal: bool = True,
        fusion: str = "sum",
        stacked: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.stacked = stacked
        self.offsets = centred(num_frames)
        self.combine = nn.Sequential(*conv_block(num_frames * self.channels, self.channels, norm=self.norm))
        self.context = nn.Sequential(*conv_block(2 * self.channels, self.channels, norm=self.norm))
        self.scene_gna = self.attention()
        self.keyframe_gna = self.attention() if keyframe else None
        self.temporal_gna = self.attention(num_frames=num_frames) if temporal else None
        self.fusion = Fusion(self.channels, keyframe + temporal, kind=fusion) if keyframe or temporal else None

    def scene(self, features: Tensor) -> Tensor:
        """Scene feature F: the convolution of all frames' features, (B, T, C, H, W) -> (B, C, H, W)."""
        return self.combine(features.flatten(1, 2)).float()  # attention is computed in float32 under autocast too

    def scene_context(self, scene: Tensor, step: int | None = None) -> Tensor:
        """Scene modelling (§IV-B2): F (B, C, H, W) -> M (B, C, H, W)."""
        attended = self.scene_gna(scene, scene, scene, seed=self._seed("scene", step))
        return self.context(torch.cat([attended, scene], dim=1))

    def aggregate(self, features: Tensor, step: int | None) -> Tensor:
        """Context cross-attention (§IV-B3): query M; keys and values are the keyframe's or all frames' features."""
        scene, features = self.scene(features), features.float()
        context = self.scene_context(scene, step).float()
        if self.fusion is None:
            return context
        keyframe = features[:, self.keyframe]
        attended = []
        if self.temporal_gna is not None:
            attended.append(self.temporal_gna(context, features, features, seed=self._seed("temporal", step)))
        if self.keyframe_gna is not None:
            attended.append(self.keyframe_gna(context, keyframe, keyframe, seed=self._seed("keyframe", step)))
        return self.fusion(scene if self.stacked else keyframe, attended)

    def _seed(self, module: str, step: int | None) -> int:
        return module_seed(self.run_seed, module, step)


class SGNANet(GaussianLocalizer):
    """Single-image GNANet: self-GNA on the image feature, added to it; options as in `GaussianLocalizer`."""

    def __init__(self, *, fusion: str = "sum", **options: Any) -> None:
        super().__init__(**options)
        self.gna = self.attention()
        self.fusion = Fusion(self.channels, 1, kind=fusion)

    def aggregate(self, features: Tensor, step: int | None) -> Tensor:
        image = features[:, 0].float()
        attended = self.gna(image, image, image, seed=module_seed(self.run_seed, "image", step))
        return self.fusion(image, [attended])

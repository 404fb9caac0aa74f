"""What every localization network shares: backbone per frame, head on one feature map, initialisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crowdloc.attention import module_seed
from crowdloc.models.parts.frontend import VGG16Frontend
from crowdloc.models.parts.head import SENSECROWD_SHARE, LocalizationHead
from crowdloc.models.parts.layers import pad_to_multiple


class Localizer(nn.Module):
    """A network from a clip to the localization map of its keyframe (frame T//2).

    Subclasses say how many frames they look at and turn their features into the input of the head. `extract` and
    `localize` are separate so that a video's frames pass through the backbone once.
    """

    num_frames: int = 3
    run_seed: int = 0  # neighbour draws are a function of it

    def __init__(self, *, width: float = 1.0, norm: str = "none") -> None:
        super().__init__()
        self.backbone = VGG16Frontend(width=width, norm=norm)
        self.channels = self.backbone.out_channels
        self.head = LocalizationHead(self.channels, width=width, norm=norm)

    def extract(self, frames: Tensor) -> Tensor:
        """Normalised frames (n, 3, h, w) -> features (n, C, ceil(h/8), ceil(w/8))."""
        return self.backbone(pad_to_multiple(frames))

    def aggregate(self, features: Tensor, step: int | None) -> Tensor:
        """Features of the clip (B, T, C, H, W) -> input of the head (B, C, H, W)."""
        raise NotImplementedError

    def localize(self, features: Tensor, *, step: int | None = None) -> Tensor:
        """Features (B, T, C, H, W) -> logits (B, 1, 8H, 8W). `step` is the training step, None when testing."""
        return self.head(self.aggregate(features, step))

    def forward(self, clips: Tensor, *, step: int | None = None) -> Tensor:
        """Normalised clips (B, T, 3, h, w) -> logits (B, 1, h, w) of the keyframe, at the size of the input."""
        batch, frames, _, height, width = clips.shape
        first = (frames - self.num_frames) // 2
        if first < 0:
            raise ValueError(f"clips have {frames} frames but {type(self).__name__} needs {self.num_frames}")
        clips = clips[:, first : first + self.num_frames]
        features = self.extract(clips.flatten(0, 1))  # (B·T, C, H, W)
        features = features.unflatten(0, (batch, self.num_frames))
        return self.localize(features, step=step)[..., :height, :width]

    def extra_repr(self) -> str:
        return f"num_frames={self.num_frames}"


def parameter_count(model: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def initialise(model: nn.Module, seed: int, *, share: float = SENSECROWD_SHARE, positive_weight: float = 50.0) -> None:
    """PyTorch's default initialisation, as a function of the seed alone, and the head's bias for the data.

    Every module draws from its own generator, so adding a module to a network leaves the others' weights as they are.
    `share` is the share of head pixels in the training targets.
    """
    for name, module in model.named_modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is None:
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(module_seed(seed, name, None))
            reset()
    for name, module in model.named_modules():
        if isinstance(module, LocalizationHead):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(module_seed(seed, f"{name}.last", None))
                module.reset_last(share, positive_weight)

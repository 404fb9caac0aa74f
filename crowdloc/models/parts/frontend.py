"""The VGG16 front-end (paper §IV-B1): ten convolutions and three poolings, stride 8.

The paper says "the first 13 layers" of VGG16 with an H/8 output; 10 convolutions + 3 poolings is the only prefix of
VGG16 that has 13 layers and stride 8 (13 convolutions would give stride 16).
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from crowdloc.core.errors import CrowdlocError
from crowdloc.models.parts.layers import conv_block, scaled

STRIDE = 8
_PLAN = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class VGG16Frontend(nn.Module):
    """conv1_1 … conv4_3 of VGG16: normalised RGB (n, 3, h, w) -> features (n, C, h/8, w/8), C = 512·width.

    Without normalisation layers the parameter names are torchvision's (`features.0.weight` …), so its weights load
    as they are.
    """

    def __init__(self, *, width: float = 1.0, norm: str = "none") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for item in _PLAN:
            if isinstance(item, str):
                layers.append(nn.MaxPool2d(2))
                continue
            layers.extend(conv_block(channels, scaled(item, width), norm=norm))
            channels = scaled(item, width)
        self.features = nn.Sequential(*layers)
        self.out_channels = channels

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)


def normalise(images: Tensor) -> Tensor:
    """uint8 RGB (..., h, w, 3) -> float (..., 3, h, w), ImageNet mean removed and divided by its deviation."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device)
    std = torch.tensor(IMAGENET_STD, device=images.device)
    return ((images.float() / 255 - mean) / std).movedim(-1, -3)


def load_pretrained(backbone: VGG16Frontend, source: str | os.PathLike[str] | None) -> str:
    """Fill a full-width backbone without norm; returns one line that says which weights it holds.

    Args:
        source: None (leave as initialised), "imagenet" (torchvision's, downloaded by it), or a safetensors file whose
            keys are torchvision's `features.N.weight|bias`.
    Raises:
        CrowdlocError: the file is missing or does not fit, the download fails, or the backbone is not full width.
    """
    if source is None:
        return "backbone: random initialisation"
    if backbone.out_channels != 512 or any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules()):
        raise CrowdlocError("pretrained VGG16 weights fit only width=1.0 and norm='none': change the preset or weights")
    wanted = backbone.state_dict()
    if source == "imagenet":
        from torchvision.models import VGG16_Weights

        try:
            state = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=True)
        except Exception as error:  # torchvision raises whatever its HTTP layer raises
            raise CrowdlocError(
                f"torchvision's VGG16 weights could not be downloaded ({error}): pass a safetensors file instead"
            ) from error
        label = "torchvision VGG16_Weights.IMAGENET1K_V1"
    else:
        from safetensors.torch import load_file

        path = Path(source)
        if not path.is_file():
            raise CrowdlocError(f"VGG16 weights {path} not found: pass an existing .safetensors file or none")
        try:
            state = load_file(path)
        except Exception as error:
            raise CrowdlocError(f"{path} is not a readable safetensors file: {error}") from error
        label = path.name
    missing = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    if missing:
        raise CrowdlocError(
            f"{label} does not hold VGG16 {missing[0]} in the expected shape: use torchvision's key names"
        )
    backbone.load_state_dict({key: state[key].float() for key in wanted})
    return f"backbone: {label}"

"""The VGG16 front-end (paper §IV-B1): ten convolutions and three poolings, stride 8.

The paper says "the first 13 layers" of VGG16 with an H/8 output; 10 convolutions + 3 poolings is the only prefix of
VGG16 that has 13 layers and stride 8 (13 convolutions would give stride 16).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from crowdloc.core.errors import CrowdlocError
from crowdloc.models.parts.layers import conv_block, scaled

STRIDE = 8
_PLAN = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512)
CONVOLUTIONS = tuple(
    f"conv{block}_{n}" for block, number in ((1, 2), (2, 2), (3, 3), (4, 3)) for n in range(1, number + 1)
)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class VGG16Frontend(nn.Module):
    """conv1_1 … conv4_3 of VGG16: normalised RGB (n, 3, h, w) -> features (n, C, h/8, w/8).

    Without normalisation layers the parameter names are torchvision's (`features.0.weight` …), so its weights load
    as they are.

    Args:
        width: share of VGG16's channels.
        feature_width: the same for the last convolution, C = 512·feature_width; None: as the others.
        taps: which convolutions' outputs (after ReLU) `forward` returns, e.g. ("conv2_2", "conv3_3", "conv4_3").
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        feature_width: float | None = None,
        norm: str = "none",
        taps: Sequence[str] = ("conv4_3",),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        ends: dict[str, int] = {}  # convolution -> index of its last layer
        sizes = dict.fromkeys(CONVOLUTIONS, width) | {"conv4_3": width if feature_width is None else feature_width}
        channels = 3
        names = iter(CONVOLUTIONS)
        for item in _PLAN:
            if isinstance(item, str):
                layers.append(nn.MaxPool2d(2))
                continue
            name = next(names)
            layers.extend(conv_block(channels, scaled(item, sizes[name]), norm=norm))
            channels, ends[name] = scaled(item, sizes[name]), len(layers) - 1
        for tap in taps:
            if tap not in ends:
                raise ValueError(f"tap {tap!r} is no convolution of the front-end: choose from {', '.join(ends)}")
        self.features = nn.Sequential(*layers)
        self.out_channels = channels
        self._taps = tuple(ends[tap] for tap in taps)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = {}
        for index, layer in enumerate(self.features):
            images = layer(images)
            if index in self._taps:
                found[index] = images
        return tuple(found[index] for index in self._taps)


def normalise(images: Tensor) -> Tensor:
    """uint8 RGB (..., h, w, 3) -> float (..., 3, h, w), ImageNet mean removed and divided by its deviation."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device)
    std = torch.tensor(IMAGENET_STD, device=images.device)
    return ((images.float() / 255 - mean) / std).movedim(-1, -3)


def load_pretrained(backbone: nn.Module, source: str | os.PathLike[str] | None) -> str:
    """Fill a full-width backbone without norm, or ResNet-50; returns one line that says which weights it holds.

    Args:
        source: None (leave as initialised), "imagenet" (torchvision's, downloaded by it), or a safetensors file whose
            keys are torchvision's `features.N.weight|bias`.
    Raises:
        CrowdlocError: the file is missing or does not fit, the download fails, or the backbone is not full width.
    """
    if source is None:
        return "backbone: random initialisation"
    is_vgg = isinstance(backbone, VGG16Frontend)
    if is_vgg and (backbone.out_channels != 512 or any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())):
        raise CrowdlocError("pretrained VGG16 weights fit only width=1.0 and norm='none': change the preset or weights")
    network = "VGG16" if is_vgg else "ResNet50"
    wanted = {key: value for key, value in backbone.state_dict().items() if not key.endswith("num_batches_tracked")}
    if source == "imagenet":
        state, label = _imagenet(f"{network}_Weights"), f"torchvision {network}_Weights.IMAGENET1K_V1"
    else:
        from safetensors.torch import load_file

        path = Path(source)
        if not path.is_file():
            raise CrowdlocError(f"{network} weights {path} not found: pass an existing .safetensors file or none")
        try:
            state = load_file(path)
        except Exception as error:
            raise CrowdlocError(f"{path} is not a readable safetensors file: {error}") from error
        label = path.name
    missing = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    if missing:
        raise CrowdlocError(
            f"{label} does not hold {network} {missing[0]} in the expected shape: use torchvision's key names"
        )
    backbone.load_state_dict({key: state[key].float() for key in wanted}, strict=is_vgg)
    return f"backbone: {label}"


def _imagenet(name: str) -> dict[str, Tensor]:
    """torchvision's weights, from its cache or downloaded by it.

    The file's name holds the beginning of its SHA-256; torchvision checks it on download only, so what lies in the
    cache is checked here, and nothing in it but tensors is unpickled.
    """
    from torchvision import models

    weights = getattr(models, name).IMAGENET1K_V1
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if cached.is_file():
        with cached.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(cached.stem.rpartition("-")[2]):
            raise CrowdlocError(f"{cached} is not torchvision's file (its SHA-256 is {found[:8]}…): delete it")
    try:
        return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # torchvision raises whatever its HTTP layer or the unpickler raises
        raise CrowdlocError(
            f"torchvision's {name} could not be had ({error}): pass a safetensors file instead"
        ) from error

"""ResNet-50 without its classifier, for detectors: torchvision's layers under torchvision's names."""

from __future__ import annotations

from torch import Tensor, nn

STAGES = {"layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}  # channels, at strides 4, 8, 16, 32


class ResNet50(nn.Module):
    """Normalised RGB (n, 3, h, w) -> maps of the last `stages` stages, (n, C, h / stride, w / stride) each."""

    def __init__(self, *, stages: int = 4) -> None:
        super().__init__()
        from torchvision.models import resnet50

        network = resnet50(weights=None)
        for name, layer in network.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, layer)
        self._taps = tuple(STAGES)[-stages:]
        self.channels = tuple(STAGES[tap] for tap in self._taps)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = []
        for name, layer in self.named_children():
            images = layer(images)
            if name in self._taps:
                found.append(images)
        return tuple(found)

"""A toy task that needs to look afar, and a torchvision network with GNA in it (notebook 00)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from crowdloc.attention import GaussianNeighborAttention, module_seed


class Spots(nn.Module):
    """Names the colour of every spot; `look`: whether cells ask others."""

    def __init__(self, look):
        super().__init__()
        self.features = create_feature_extractor(resnet18(weights=None), ["layer1"])  # stride 4, 64 channels
        self.gna = GaussianNeighborAttention(gamma=(3.0, 5.0, 10.0), num_points=32) if look else None
        self.answer = nn.Conv2d(64, 2, 1)

    def forward(self, images, step=None):  # step: None when testing
        feature = self.features(images)["layer1"]  # (B, 64, H, W)
        if self.gna is not None:
            feature = feature + self.gna(feature, feature, feature, seed=module_seed(0, "gna", step))
        return self.answer(feature)


CELL = 4  # pixels of a toy image per cell of its labels


def make_images(number: int, seed: int, *, size: int = 96, spots: int = 6) -> tuple[Tensor, Tensor]:
    """Noisy images (n, 3, size, size) of one red or green square and black spots; labels (n, size/4, size/4).

    Each spot's cell is labelled with the colour of the square of its image, 0 red or 1 green; other cells are −1.
    """
    generator = torch.Generator().manual_seed(seed)
    images = 0.5 + 0.1 * torch.randn(number, 3, size, size, generator=generator)
    labels = torch.full((number, size // CELL, size // CELL), -1)
    side = size // CELL // 3
    colours = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1]])
    for image, label in zip(images, labels, strict=True):
        colour = int(torch.randint(2, (1,), generator=generator))
        places = torch.randperm(side * side, generator=generator)[: spots + 1].tolist()
        for rank, place in enumerate(places):
            y, x = 3 * (place // side) + 1, 3 * (place % side) + 1
            half = 6 if rank == 0 else 4
            rows, columns = (slice(max(0, CELL * i + 2 - half), CELL * i + 2 + half) for i in (y, x))
            image[:, rows, columns] = colours[colour, :, None, None] if rank == 0 else 0.0
            if rank:
                label[y, x] = colour
    return images, labels


def train(model: nn.Module, *, steps: int = 120, batch: int = 8, rate: float = 1e-3) -> nn.Module:
    """Train a module (images, step) -> logits (n, 2, h, w) on toy images with Adam; in testing mode when done."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    model.train()
    for step in range(steps):
        images, labels = make_images(batch, step)
        loss = cross_entropy(model(images, step), labels, ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def answers(model: nn.Module, images: Tensor) -> Tensor:
    """What a toy model says of every cell, (n, h, w)."""
    with torch.inference_mode():
        return model(images).argmax(dim=1)


def accuracy(model: nn.Module, *, number: int = 64) -> float:
    """Share of spots that a toy model names right, on images that it was not trained on."""
    images, labels = make_images(number, 10**6)
    spots = labels >= 0
    return float((answers(model, images)[spots] == labels[spots]).float().mean())


class Outcome(NamedTuple):
    """Accuracy by title, and an image with its truth and the answers to it, for `figures.idea.toy`."""

    accuracy: dict[str, float]
    image: NDArray
    truth: NDArray
    answers: dict[str, NDArray]


def compare(*, seed: int = 0, steps: int = 120) -> Outcome:
    """The network without and with GNA, trained alike from one start."""
    models = {}
    for title, look in {"without GNA": False, "with GNA": True}.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = Spots(look)
        models[title] = train(model, steps=steps)
    shown, truth = make_images(1, 10**6 + 3)
    said = {title: answers(model, shown)[0].numpy() for title, model in models.items()}
    scores = {title: accuracy(model) for title, model in models.items()}
    return Outcome(scores, shown[0].permute(1, 2, 0).numpy(), truth[0].numpy(), said)

"""From a trained network to points: whole frames, each through the backbone once."""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from crowdloc.datasets.base import ClipDataset
from crowdloc.models import Localizer, normalise
from crowdloc.models.decoding import SCORE_FLOOR, Detections, find_peaks

_Feature = tuple[Tensor, tuple[int, int]]  # (C, H, W) and the image's height and width


def probability_maps(model: Localizer, dataset: ClipDataset) -> Iterator[NDArray[np.float32]]:
    """Localization map (h, w) of every clip's keyframe, in the order of the data set."""
    features: OrderedDict[int, _Feature] = OrderedDict()
    for index in range(len(dataset)):
        wanted = _middle(dataset.neighbours(index), model.num_frames)
        for i in wanted:
            if i not in features:
                features[i] = _extract(model, dataset.image(i))
        while len(features) > 2 * model.num_frames:
            features.popitem(last=False)
        yield _localize(model, [features[i] for i in wanted])


def sequence_maps(model: Localizer, images: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
    """Maps of every frame of a sequence whose length need not be known; its first and last frame are repeated.

    Where the size changes a new sequence begins.
    """
    reach = model.num_frames // 2
    window: deque[_Feature] = deque(maxlen=model.num_frames)

    def finish() -> Iterator[NDArray[np.float32]]:
        for _ in range(reach):
            window.append(window[-1])
            yield _localize(model, list(window))

    for image in images:
        feature = _extract(model, image)
        if window and window[-1][1] != feature[1]:
            yield from finish()
            window.clear()
        window.extend([feature] * (reach if not window else 0))
        window.append(feature)
        if len(window) == model.num_frames:
            yield _localize(model, list(window))
    if window:
        yield from finish()


@torch.inference_mode()
def _extract(model: Localizer, image: NDArray[np.uint8]) -> _Feature:
    device = next(model.parameters()).device
    frame = normalise(torch.from_numpy(image).to(device))[None]
    return model.eval().extract(frame)[0], (image.shape[0], image.shape[1])


@torch.inference_mode()
def _localize(model: Localizer, clip: list[_Feature]) -> NDArray[np.float32]:
    height, width = clip[len(clip) // 2][1]
    logits = model.localize(torch.stack([feature for feature, _ in clip])[None])
    return torch.sigmoid(logits[0, 0, :height, :width]).float().cpu().numpy()


def predict(
    model: Localizer,
    dataset: ClipDataset,
    *,
    floor: float = SCORE_FLOOR,
    progress: bool = True,
    rule: Callable[..., Detections] = find_peaks,
) -> list[Detections]:
    """Detections of every keyframe, points in pixels of its image."""
    maps = tqdm(
        probability_maps(model, dataset), total=len(dataset), unit="image", disable=not progress, file=sys.stderr
    )
    return [rule(probability, floor=floor) for probability in maps]


def _middle(indices: tuple[int, ...], number: int) -> tuple[int, ...]:
    first = (len(indices) - number) // 2
    return indices[first : first + number]

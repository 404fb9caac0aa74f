"""From a trained network to points: whole frames, each through the backbone once."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from crowdloc.datasets.base import ClipDataset
from crowdloc.models import Localizer, normalise
from crowdloc.peaks import SCORE_FLOOR, Detections, find_peaks


@torch.inference_mode()
def probability_maps(model: Localizer, dataset: ClipDataset) -> Iterator[NDArray[np.float32]]:
    """Localization map (h, w) of every clip's keyframe, in the order of the data set."""
    model.eval()
    device = next(model.parameters()).device
    features: OrderedDict[int, tuple[Tensor, tuple[int, int]]] = OrderedDict()  # (C, H, W), image size
    for index in range(len(dataset)):
        wanted = _middle(dataset.neighbours(index), model.num_frames)
        for i in wanted:
            if i not in features:
                image = torch.from_numpy(dataset.image(i)).to(device)
                features[i] = model.extract(normalise(image)[None])[0], (image.shape[0], image.shape[1])
        while len(features) > 2 * model.num_frames:
            features.popitem(last=False)
        logits = model.localize(torch.stack([features[i][0] for i in wanted])[None])
        height, width = features[wanted[model.num_frames // 2]][1]
        yield torch.sigmoid(logits[0, 0, :height, :width]).float().cpu().numpy()


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
        probability_maps(model, dataset),
        total=len(dataset),
        unit="image",
        disable=not progress,
        file=sys.stderr,
    )
    return [rule(probability, floor=floor) for probability in maps]


def _middle(indices: tuple[int, ...], number: int) -> tuple[int, ...]:
    first = (len(indices) - number) // 2
    return indices[first : first + number]

"""What the network learns (paper §IV-C): a binary map with a 5-pixel cross per head, and the weighted loss."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

POSITIVE_WEIGHT = 50.0
_CROSS = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)])  # (dx, dy): [0 1 0; 1 1 1; 0 1 0]
CROSS_PIXELS = len(_CROSS)


def cross_target(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.float32]:
    """Binary map (height, width) with a plus-shaped 5-pixel cross at every head, as RAZNet makes it.

    Coordinates are rounded half away from zero and clipped to the image, so a head on the border keeps the part of its
    cross that lies inside.
    """
    target = np.zeros((height, width), dtype=np.float32)
    if len(points) == 0:
        return target
    rounded = np.copysign(np.floor(np.abs(points) + 0.5), points).astype(np.int64)
    centres = np.clip(rounded, 0, [width - 1, height - 1])
    x, y = (centres[:, None, :] + _CROSS).reshape(-1, 2).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    target[y[inside], x[inside]] = 1.0
    return target


def localization_loss(logits: Tensor, target: Tensor, *, positive_weight: float = POSITIVE_WEIGHT) -> Tensor:
    """Binary cross entropy with the heads weighted, mean over all pixels: (B, 1, h, w) or (B, h, w), a scalar."""
    weight = torch.tensor(positive_weight, device=logits.device)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits.reshape(target.shape), target, pos_weight=weight)

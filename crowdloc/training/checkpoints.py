"""Checkpoints of a training: weights, optimizer state, the step, and what they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write

CHECKPOINT = "checkpoint.pt"
_KEYS = {"model", "optimizer", "step", "identity"}


def write_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, identity: str) -> None:
    """The state after `step` steps.

    Raises:
        OSError: the disk refuses.
    """
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "identity": identity}
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """A checkpoint's content; nothing but tensors and plain values is unpickled."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise CrowdlocError(
            f"{path} is not a readable checkpoint ({_line(error)}): delete it to start again"
        ) from error
    if not isinstance(state, dict) or not _KEYS <= state.keys():
        raise CrowdlocError(f"{path} is no checkpoint of this version: delete it to start again")
    return state


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

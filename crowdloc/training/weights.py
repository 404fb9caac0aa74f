"""Weights on disk: safetensors, rounded to float16; nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path

import torch

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.paths import atomic_write
from crowdloc.models import Localizer


def save_weights(path: Path, model: Localizer) -> None:
    """Weights as safetensors, floats rounded to float16."""
    from safetensors.torch import save_file

    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    for name, value in state.items():
        if not torch.isfinite(value.float()).all():
            raise CrowdlocError(f"weight {name} is not finite in float16: the training diverged")
    with atomic_write(path) as temporary:
        save_file({k: v.contiguous() for k, v in state.items()}, temporary)


def load_weights(path: Path, model: Localizer) -> Localizer:
    """Fill a network from a safetensors file and put it into evaluation mode."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise CrowdlocError(f"weights {path} not found: train first, or use a seed whose weights are stored")
    try:
        state = load_file(path)
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise CrowdlocError(f"{path} does not hold weights of {type(model).__name__} ({reason})") from error
    return model.eval()

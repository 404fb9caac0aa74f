"""Weights on disk: safetensors, rounded to float16, that know what they are; nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write
from crowdloc.models.method import Method

_ABOUT = "crowdloc"  # key of the file's metadata that holds `about` as JSON
_BACKBONE = "backbone."
_REMEDY = "restore it from version control, or train again"


def save_weights(path: Path, model: Method, *, about: Mapping[str, Any] | None = None, backbone: bool = True) -> None:
    """Weights as safetensors, floats rounded to float16.

    Args:
        about: stored beside them: method, options, recipe, threshold, …
        backbone: False leaves a frozen backbone out, which is kept once for all that stand on it.
    """
    from safetensors.torch import save_file

    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    if not backbone:
        state = {k: v for k, v in state.items() if not k.startswith(_BACKBONE)}
    for name, value in state.items():
        if not torch.isfinite(value.float()).all():
            raise CrowdlocError(f"weight {name} is not finite in float16: the training diverged")
    metadata = {_ABOUT: json.dumps(about, sort_keys=True)} if about is not None else None
    with atomic_write(path) as temporary:
        save_file({k: v.contiguous() for k, v in state.items()}, temporary, metadata)


def rounded(model: Method) -> Method:
    """A network as it will be read from its file, in evaluation mode: what is measured is what is kept."""
    state = {k: v.half().float() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    return model.eval()


def load_weights(path: Path, model: Method, *, backbone: Path | None = None) -> Method:
    """Fill a network from a safetensors file and put it into evaluation mode.

    Args:
        backbone: the file that holds the backbone, where `path` was saved without it.

    Raises:
        CrowdlocError: a file is missing, damaged, of another network, or holds values that are not finite.
    """
    state = _read(path)
    if backbone is not None:
        state |= {k: v for k, v in _read(backbone).items() if k.startswith(_BACKBONE)}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CrowdlocError(f"{path} does not hold weights of {type(model).__name__} ({reason})") from error
    return model.eval()


def copy_weights(path: Path, model: Method) -> list[str]:
    """Fill what a network has in common with a file, by name and shape; returns the names that were filled."""
    state, own = _read(path), model.state_dict()
    common = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(common, strict=False)
    return list(common)


def read_about(path: Path) -> dict[str, Any]:
    """What a weights file says of itself; empty where it says nothing."""
    from safetensors import safe_open

    if not path.is_file():
        raise CrowdlocError(f"weights {path} not found: train first, or use a seed whose weights are stored")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
    except Exception as error:
        raise CrowdlocError(f"{path} is no readable safetensors file ({_line(error)}): {_REMEDY}") from error
    return about if isinstance(about, dict) else {}


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if not path.is_file():
        raise CrowdlocError(f"weights {path} not found: train first, or use a seed whose weights are stored")
    try:
        state = load_file(path)
    except Exception as error:
        raise CrowdlocError(f"{path} is no readable safetensors file ({_line(error)}): {_REMEDY}") from error
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise CrowdlocError(f"{path}: weight {name} holds values that are not finite: restore the file")
    return state


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

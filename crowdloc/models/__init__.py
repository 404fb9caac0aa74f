"""Networks by name: `build_model("gnanet", width=0.25, norm="batch")`."""

from __future__ import annotations

from typing import Any

from crowdloc.models.gnanet import GNANet, SGNANet
from crowdloc.models.localizer import Localizer, initialise, parameter_count
from crowdloc.models.parts.frontend import VGG16Frontend, load_pretrained, normalise
from crowdloc.models.raznet import FrameStack, RAZNet

_MODELS: dict[str, type[Localizer]] = {
    "gnanet": GNANet,
    "s-gnanet": SGNANet,
    "raznet": RAZNet,
    "frame-stack": FrameStack,
}


def build_model(name: str, **options: Any) -> Localizer:
    """The network called `name`, with default initialisation; see the class for its options.

    Raises:
        ValueError: the name is not known.
        TypeError: an option does not exist for this network.
    """
    if name not in _MODELS:
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(_MODELS)}")
    return _MODELS[name](**options)


__all__ = [
    "FrameStack",
    "GNANet",
    "Localizer",
    "RAZNet",
    "SGNANet",
    "VGG16Frontend",
    "build_model",
    "initialise",
    "load_pretrained",
    "normalise",
    "parameter_count",
]

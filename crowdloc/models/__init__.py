"""Networks by name: `build_model("gnanet", width=0.25, norm="batch")`, and the interface that they share.

What needs torch is imported when asked for: the registry and the recipes alone are light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from crowdloc.models.registry import METHODS, Entry, build_model, get_entry, label, register

if TYPE_CHECKING:
    from crowdloc.models.gnanet import GNANet, SGNANet
    from crowdloc.models.localizer import Localizer, initialise, parameter_count
    from crowdloc.models.method import Maps, Method, Prediction, Sample
    from crowdloc.models.parts.frontend import VGG16Frontend, load_pretrained, normalise
    from crowdloc.models.raznet import FrameStack, RAZNet

_HOMES = {
    "gnanet": ("GNANet", "SGNANet"),
    "localizer": ("Localizer", "initialise", "parameter_count"),
    "method": ("Maps", "Method", "Prediction", "Sample"),
    "parts.frontend": ("VGG16Frontend", "load_pretrained", "normalise"),
    "raznet": ("FrameStack", "RAZNet"),
}

__all__ = [
    "METHODS",
    "Entry",
    "FrameStack",
    "GNANet",
    "Localizer",
    "Maps",
    "Method",
    "Prediction",
    "RAZNet",
    "SGNANet",
    "Sample",
    "VGG16Frontend",
    "build_model",
    "get_entry",
    "initialise",
    "label",
    "load_pretrained",
    "normalise",
    "parameter_count",
    "register",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

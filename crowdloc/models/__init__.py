"""Networks by name: `build_model("gnanet", width=0.25, norm="batch")`, and the interface that they share."""

from __future__ import annotations

from crowdloc.models.gnanet import GNANet, SGNANet
from crowdloc.models.localizer import Localizer, initialise, parameter_count
from crowdloc.models.method import Entry, Maps, Method, Prediction, Sample
from crowdloc.models.parts.frontend import VGG16Frontend, load_pretrained, normalise
from crowdloc.models.raznet import FrameStack, RAZNet
from crowdloc.models.registry import METHODS, build_model, get_entry, label, register

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

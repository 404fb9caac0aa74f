"""Every method by name: label, colour, rows of the paper's tables and variants follow from its line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from crowdloc.core.errors import CrowdlocError

if TYPE_CHECKING:  # lists of experiments and methods need no torch
    from crowdloc.models.method import Method


@dataclass(frozen=True)
class Entry:
    """One line of the registry.

    Args:
        target: the class, or "module:Class" with the module below `crowdloc.models`, imported when asked for.
        label: name in tables and pictures.
        rows: table -> row of the paper -> variant of this method that stands for it ("" is the method as it is).
        variants: short name -> options of the constructor.
        titles, colours: of variants; by default the label with the variant in brackets, and shades of the colour.
        start: the method whose trained backbone (and head) this one begins with where a preset trains in two stages;
            None: it always trains from scratch.
        counts: it gives a count and no points.
        colour: in all pictures; by default the next one of the palette.
        note: what a table has to say of how the method is known, where that is little.
    """

    target: str | type[Method]
    label: str
    rows: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)
    colour: str | None = None
    start: str | None = None
    counts: bool = False
    note: str = ""

    def load(self) -> type[Method]:
        """The class."""
        if not isinstance(self.target, str):
            return self.target
        module, _, name = self.target.partition(":")
        return getattr(import_module(f"crowdloc.models.{module}"), name)

    def options(self, variant: str) -> dict[str, Any]:
        """Options of a variant; "" has none."""
        if not variant:
            return {}
        if variant not in self.variants:
            known = ", ".join(self.variants) or "none"
            raise CrowdlocError(f"{self.label} has no variant {variant!r}: choose one of {known}")
        return dict(self.variants[variant])


_FOCUS = {"gamma": [5.0]}  # the paper's ablations have a single focus

METHODS: dict[str, Entry] = {
    "raznet": Entry(
        "raznet:RAZNet", label="RAZNet", colour="#0173b2", start="raznet",
        variants={"stage1": {}, "stage1-pretrained": {}},
        rows={t: {"RAZNet": ""} for t in ("II", "III", "IV", "V", "VI")},
    ),
    "frame-stack": Entry(
        "raznet:FrameStack", label="stacked frames", colour="#de8f05", start="raznet",
        rows={"VIII": {"Baseline": ""}},
    ),
    "gnanet": Entry(
        "gnanet:GNANet", label="GNANet", colour="#029e73", start="raznet",
        rows={
            **{t: {"GNANet": ""} for t in ("II", "VII")},
            "III": {"GNANet": "", "GNANet*": "pretrained"},
            "VIII": {
                "SM": "scene", "SM + K-GNA": "keyframe", "SM + T-GNA": "temporal",
                "SM + K-GNA + T-GNA": "gamma5", "SM + K-GNA + T-GNA + MF": "",
            },
            "IX": {"RANet": "random", "LANet": "local", "DFANet": "deformable", "GNANet": "gamma5"},
            "XI": {"8": "points8", "16": "points16", "32": "gamma5"},
            "XII": {"3": "gamma3", "5": "gamma5", "10": "gamma10", "15": "gamma15"},
        },
        variants={
            "pretrained": {},  # on SenseCrowd
            "scene": _FOCUS | {"keyframe": False, "temporal": False},
            "keyframe": _FOCUS | {"temporal": False},
            "temporal": _FOCUS | {"keyframe": False},
            **{f"gamma{gamma}": {"gamma": [float(gamma)]} for gamma in (3, 5, 10, 15)},
            **{f"points{points}": _FOCUS | {"num_points": points} for points in (8, 16)},
            **{kind: _FOCUS | {"attention": kind} for kind in ("random", "local", "deformable")},
            "learned": _FOCUS | {"sampling": "limit", "learn_gamma": True},
            # Ours: what would make attention win (notebook 09)?
            **{fusion: _FOCUS | {"fusion": fusion} for fusion in ("mean", "gated", "project", "difference", "concat")},
            "stacked": _FOCUS | {"stacked": True},
        },
        titles={
            "pretrained": "GNANet*",
            "scene": "SM", "keyframe": "SM + K-GNA", "temporal": "SM + T-GNA", "random": "RANet", "local": "LANet",
            "deformable": "DFANet", "learned": "γ learned", "mean": "mean, not sum", "gated": "learned factor",
            "project": "1×1 projection", "concat": "1×1 of all, concatenated",
            "difference": "centre minus surround", "stacked": "stacked frames + GNA",
            **{f"gamma{gamma}": f"γ = {gamma}" for gamma in (3, 5, 10, 15)},
            **{f"points{points}": f"{points} points" for points in (8, 16)},
        },
        colours={"random": "#ca9161", "local": "#56b4e9", "deformable": "#cc78bc", "scene": "#949494"},
    ),
    "s-gnanet": Entry(
        "gnanet:SGNANet", label="S-GNANet", colour="#cc78bc", start="raznet",
        rows={
            **{t: {"S-GNANet": "", "S-GNANet*": "pretrained"} for t in ("IV", "V")},
            "VI": {"S-GNANet": ""},
        },
        variants={"pretrained": {}}, titles={"pretrained": "S-GNANet*"},
    ),
    # Counters: no table has two of one colour.
    "mcnn": Entry("mcnn:MCNN", label="MCNN", colour="#949494", counts=True, rows={"VI": {"MCNN": ""}}),
    "csrnet": Entry(
        "csrnet:CSRNet", label="CSRNet", colour="#56b4e9", start="raznet", counts=True, rows={"VI": {"CSRNet": ""}},
    ),
    "bayesian": Entry(
        "bayesian:Bayesian", label="Bayesian loss", colour="#ca9161", counts=True, rows={"VI": {"Bayesian": ""}},
    ),
    "convlstm": Entry(
        "convlstm:ConvLSTM", label="ConvLSTM", colour="#0173b2", counts=True, rows={"VII": {"ConvLSTM": ""}},
        note="re-implementation from the abstract",
    ),
    "lstn": Entry(
        "lstn:LSTN", label="LSTN", colour="#56b4e9", start="raznet", counts=True, rows={"VII": {"LST": ""}},
        note="re-implementation from the paper's equations and a public port",
    ),
    "epf": Entry("epf:EPF", label="EPF", colour="#ca9161", start="raznet", counts=True, rows={"VII": {"EPF": ""}}),
    "stanet": Entry(
        "stanet:STANet", label="STANet", colour="#d55e00", start="raznet",
        rows={"II": {"STANet": ""}, "III": {"STANet": ""}, "VII": {"STANet": ""}},
        variants={"concat": {"join": "concat"}}, titles={"concat": "STANet, frames told apart"},  # ours (notebook 02)
    ),
    "faster-rcnn": Entry(
        "faster_rcnn:FasterRCNN", label="Faster R-CNN", colour="#ca9161", start="raznet",
        rows={"II": {"Faster-RCNN": ""}},
    ),
    "fcos": Entry("fcos:FCOS", label="FCOS", colour="#949494", start="raznet", rows={"II": {"FCOS": ""}}),
}  # fmt: skip
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def register(name: str, entry: Entry) -> None:
    """Add a method from outside: it can then be trained, evaluated, checked and compared like any other.

    Raises:
        CrowdlocError: the name is taken, or holds anything but lower-case letters, digits and single hyphens.
    """
    if name in METHODS:
        raise CrowdlocError(f"method {name!r} exists already: choose another name")
    for text in (name, *entry.variants):
        if not _NAME.fullmatch(text):
            raise CrowdlocError(f"name {text!r}: use lower-case letters, digits and single hyphens")
    METHODS[name] = entry


def get_entry(name: str) -> Entry:
    """The registry's line of a method."""
    if name not in METHODS:
        raise CrowdlocError(f"unknown method {name!r}: choose one of {', '.join(METHODS)}")
    return METHODS[name]


def build_model(name: str, **options: Any) -> Method:
    """The network called `name`, with default initialisation; see its class for the options.

    Raises:
        CrowdlocError: the name is not known, or an option does not exist for this network.
    """
    made = get_entry(name).load()
    known = _options(made)
    for option in options:
        if known is not None and option not in known:
            raise CrowdlocError(f"{name} has no option {option!r}: choose from {', '.join(sorted(known))}")
    return made(**options)


def accepts(name: str, option: str) -> bool:
    """Whether the constructor of a method takes this option."""
    known = _options(get_entry(name).load())
    return known is None or option in known


def _options(made: type) -> set[str] | None:
    """Names of the options of a constructor along the classes that it passes options on to; None: any."""
    found: set[str] = set()
    for cls in made.__mro__:
        if "__init__" not in vars(cls):
            continue
        kinds = inspect.signature(vars(cls)["__init__"]).parameters.values()
        found |= {p.name for p in kinds if p.kind is p.KEYWORD_ONLY}
        if not any(p.kind is p.VAR_KEYWORD for p in kinds):
            return found
    return None


def label(name: str, variant: str = "") -> str:
    """How a method and its variant are called in tables and pictures."""
    entry = get_entry(name)
    return entry.titles.get(variant, f"{entry.label} ({variant})" if variant else entry.label)

"""Every method by name: label, colour, rows of the paper's tables and variants follow from its line."""

from __future__ import annotations

import inspect
import re
from typing import Any

from crowdloc.core.errors import CrowdlocError
from crowdloc.models.method import Entry, Method

METHODS: dict[str, Entry] = {
    "raznet": Entry(
        "raznet:RAZNet", label="RAZNet", colour="#0173b2", start="raznet", variants={"stage1": {}},
        rows={"II": {"RAZNet": ""}, "III": {"RAZNet": ""}, "IV": {"RAZNet": ""}, "V": {"RAZNet": ""}},
    ),
    "frame-stack": Entry(
        "raznet:FrameStack", label="stacked frames", colour="#de8f05", start="raznet",
        rows={"VIII": {"Baseline": ""}},
    ),
    "gnanet": Entry(
        "gnanet:GNANet", label="GNANet", colour="#029e73", start="raznet",
        rows={"II": {"GNANet": ""}, "III": {"GNANet": ""}, "VII": {"GNANet": ""}},
    ),
    "s-gnanet": Entry(
        "gnanet:SGNANet", label="S-GNANet", colour="#cc78bc", start="raznet",
        rows={"IV": {"S-GNANet": ""}, "V": {"S-GNANet": ""}, "VI": {"S-GNANet": ""}},
    ),
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


def _options(made: type) -> set[str] | None:
    """Names of the options of a constructor along the classes that it passes options on to; None: any."""
    found: set[str] = set()
    for cls in made.__mro__:
        if "__init__" not in vars(cls):
            continue
        kinds = inspect.signature(cls.__init__).parameters.values()
        found |= {p.name for p in kinds if p.kind is p.KEYWORD_ONLY}
        if not any(p.kind is p.VAR_KEYWORD for p in kinds):
            return found
    return None


def label(name: str, variant: str = "") -> str:
    """How a method and its variant are called in tables and pictures."""
    return get_entry(name).label + (f" ({variant})" if variant else "")

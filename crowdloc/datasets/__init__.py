"""Data sets behind one call, `load`: SynthCrowd (generated) and the real sets in their official layouts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from os import PathLike
from typing import Any

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.paths import require_data_root
from crowdloc.datasets.base import Clip, ClipDataset, Frame
from crowdloc.datasets.catalog import FACTS, info
from crowdloc.datasets.files import choose
from crowdloc.datasets.reading import SPLITS, Listing, assemble, inside_roi
from crowdloc.datasets.verification import verify

__all__ = ["NAMES", "SPLITS", "Clip", "ClipDataset", "Frame", "info", "inside_roi", "load", "scan", "verify"]

# Real sets: module with a `scan` function, its fixed arguments, and the default number of frames of a clip.
_READERS: dict[str, tuple[str, dict[str, str], int]] = {
    "sensecrowd": ("sensecrowd", {}, 3),
    "fdst": ("fdst", {}, 3),
    "shanghaitech_a": ("shanghaitech", {"part": "A"}, 1),
    "shanghaitech_b": ("shanghaitech", {"part": "B"}, 1),
    "mall": ("mall", {}, 3),
    "ucsd": ("ucsd", {}, 3),
    "worldexpo": ("worldexpo", {}, 3),
    "dronecrowd": ("dronecrowd", {}, 3),
}
NAMES = ("synthcrowd", *_READERS)


def load(name: str, root: str | PathLike[str] | None = None, split: str = "test", **options: Any) -> ClipDataset:
    """Load a split as a sequence of clips (points 0-based, in pixels of the original image).

    `root` is the folder that holds the real sets (default: the environment variable CROWDLOC_DATA) or one
    set's own folder; SynthCrowd needs none. Splits: train, val, trainval, test, all.

    Options: `num_frames` (T, default 3, for single images 1) and `frame_step`; for real sets `outside`, the
    rule for points outside the image: "clip" to the border (default: published counts include them), "drop"
    (default of UCSD, whose counts do not) or "keep"; for SynthCrowd `domain` and `preset`; for DroneCrowd
    `annotation`. Raises CrowdlocError for an unknown name, split or option, absent folders and damaged files.
    """
    choose("name", name, NAMES)
    if name == "synthcrowd":
        from crowdloc.datasets.synthcrowd import load_synthcrowd

        defaults = {"domain": "sense", "preset": "mini", "num_frames": 3, "frame_step": 1}
        _check_options(name, options, list(defaults))
        return load_synthcrowd(root, split, **{**defaults, **options})
    common = {"num_frames": _READERS[name][2], "frame_step": 1, "outside": _outside(name)}
    _check_options(name, options, [*common, *_reader(name)[1]])
    own = {option: options.pop(option) for option in list(options) if option not in common}
    return assemble(scan(name, root, split, **own), name, split, **{**common, **options})


def scan(name: str, root: str | PathLike[str] | None, split: str, **options: Any) -> Listing:
    """What a real data set's folder holds, unread: `load` and `verify` start from it."""
    choose("name", name, _READERS)
    choose("split", split, SPLITS)
    return _reader(name)[0](require_data_root(root), split, **_READERS[name][1], **options)


def _reader(name: str) -> tuple[Callable[..., Listing], list[str]]:
    """The `scan` function of a real set and the options that it leaves to the caller."""
    module, fixed, _ = _READERS[name]
    reader = import_module(f"{__name__}.{module}").scan
    keywords = [p.name for p in inspect.signature(reader).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return reader, [keyword for keyword in keywords if keyword not in fixed]


def _outside(name: str) -> str:
    """Default rule for points outside the image: one that is moved to the border must not get into a region."""
    return "drop" if FACTS[name].counted_in_roi else "clip"


def _check_options(name: str, options: dict[str, Any], known: list[str]) -> None:
    for option in options:
        if option not in known:
            raise CrowdlocError(f"option {option!r} is unknown for {name}: choose {', '.join(known)}")

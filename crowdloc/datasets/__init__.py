"""Data sets behind one call, `load`: SynthCrowd (generated) and the real sets in their official layouts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from os import PathLike
from typing import Any

from crowdloc.datasets.base import Clip, ClipDataset, Frame
from crowdloc.errors import CrowdlocError
from crowdloc.paths import require_data_root

__all__ = ["NAMES", "Clip", "ClipDataset", "Frame", "load"]

# name -> module, function, fixed arguments; modules are imported when asked for, so that importing crowdloc stays fast
_READERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "synthcrowd": ("synthcrowd", "load_synthcrowd", {}),
    "sensecrowd": ("sensecrowd", "load_sensecrowd", {}),
    "fdst": ("fdst", "load_fdst", {}),
    "shanghaitech_a": ("shanghaitech", "load_shanghaitech", {"part": "A"}),
    "shanghaitech_b": ("shanghaitech", "load_shanghaitech", {"part": "B"}),
    "mall": ("mall", "load_mall", {}),
    "ucsd": ("ucsd", "load_ucsd", {}),
    "worldexpo": ("worldexpo", "load_worldexpo", {}),
    "dronecrowd": ("dronecrowd", "load_dronecrowd", {}),
}
NAMES = tuple(_READERS)
_DEFAULTS = {"synthcrowd": {"domain": "sense", "preset": "mini", "num_frames": 3, "frame_step": 1}}


def load(name: str, root: str | PathLike[str] | None = None, split: str = "test", **options: Any) -> ClipDataset:
    """Load a split as a sequence of clips (points 0-based, in pixels of the original image).

    `root` is the folder that holds the real sets (default: the environment variable CROWDLOC_DATA) or one set's own
    folder; SynthCrowd needs none. Options: `num_frames` (T, default 3; 1 for single images), `frame_step`, for real sets
    `outside` ("clip", "drop" or "keep": what to do with points outside the image), for SynthCrowd `domain` and `preset`.
    Raises CrowdlocError for an unknown name, split or option, absent folders and damaged files.
    """
    if name not in _READERS:
        raise CrowdlocError(f"data set {name!r} is unknown: choose {', '.join(NAMES)}")
    module, function, fixed = _READERS[name]
    reader: Callable[..., ClipDataset] = getattr(import_module(f"{__name__}.{module}"), function)
    known = [p.name for p in inspect.signature(reader).parameters.values()
             if p.kind is p.KEYWORD_ONLY and p.name not in fixed]
    for option in options:
        if option not in known:
            raise CrowdlocError(f"option {option!r} is unknown for {name}: choose {', '.join(known)}")
    folder = root if name == "synthcrowd" else require_data_root(root)
    return reader(folder, split, **{**_DEFAULTS.get(name, {}), **fixed, **options})

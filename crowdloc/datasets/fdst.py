"""FDST (Fang et al. 2019): 60 + 40 videos of 150 frames from 13 scenes, head boxes from the VIA tool."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import Frame
from crowdloc.datasets.files import entries, find_folder, listed, natural, read_text
from crowdloc.datasets.reading import Listing, hold_out


def scan(root: Path, split: str) -> Listing:
    """`{train_data,test_data}/<video>/<NNN>.jpg`, each with a VIA .json of the same name.

    The head point is the box centre (x + width / 2, y + height / 2), as in the code that uses the set. Videos
    are the scenes here (the files do not tell which videos share a camera); val is every tenth training
    video.
    """
    halves = {"test": ("test",), "all": ("train", "test")}.get(split, ("train",))
    folder = find_folder(root, ("fdst", "FDST", "FDST_dataset", "fdst_dataset"), [f"{h}_data" for h in halves], "fdst")
    parts = []
    for half in halves:
        videos = [path for path in listed(folder / f"{half}_data", "*", "fdst") if path.is_dir()]
        for video in videos if half == "test" else hold_out(videos, split):
            stems = {path.with_suffix("") for pattern in ("*.jpg", "*.json") for path in entries(video, pattern)}
            parts += [partial(_read, stem, half) for stem in sorted(stems, key=natural)]
    return Listing(parts)


def _read(stem: Path, half: str) -> list[Frame]:
    boxes = read_boxes(stem.with_name(f"{stem.name}.json"))
    points = (boxes[:, :2] + boxes[:, 2:]) / 2
    scene = f"{half}_{stem.parent.name}"
    return [Frame(f"{scene}_{stem.name}", scene, stem.with_name(f"{stem.name}.jpg"), points, boxes)]


def read_boxes(path: Path) -> np.ndarray:
    """Boxes (n, 4) x1 y1 x2 y2 of a VIA file of one image; errors name the file and the line or region."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise CrowdlocError(
            f"annotation {path}, line {error.lineno}: no JSON ({error.msg}): restore the file"
        ) from None
    except (ValueError, RecursionError):  # an integer of thousands of digits, brackets nested thousands deep
        raise CrowdlocError(f"annotation {path}, line 1: no VIA annotation: restore the file") from None
    try:
        regions: Any = next(iter(content.values()))["regions"]
        # VIA 1 writes a dict, VIA 2 a list
        regions = list(regions.values() if isinstance(regions, dict) else regions)
    except (AttributeError, KeyError, StopIteration, TypeError):
        raise CrowdlocError(f"annotation {path}, line 1: no image with 'regions': restore the file") from None
    boxes = np.zeros((len(regions), 4))
    for number, region in enumerate(regions):
        try:
            shape = region["shape_attributes"]
            x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
        except (KeyError, OverflowError, TypeError, ValueError):
            raise CrowdlocError(
                f"annotation {path}, line 1, region {number + 1}: no rectangle with x, y, width and "
                "height: restore the file"
            ) from None
        boxes[number] = x, y, x + width, y + height
        if not np.isfinite(boxes[number]).all():
            raise CrowdlocError(f"annotation {path}, line 1, region {number + 1}: not finite: restore the file")
    return boxes

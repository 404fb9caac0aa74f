"""Census of a data set: what its files hold and how its heads are spread. No coordinate and no image is kept.

`python -m crowdloc.datasets.census NAME [--data-root FOLDER]` measures and writes `build/datasets/NAME.json`;
`crowdloc promote datasets/NAME` stores it. A real set is read whole (every image is decoded); a SynthCrowd domain is
annotated again, without painting.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
from collections.abc import Collection, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write, read_json
from crowdloc.datasets.base import Frame
from crowdloc.datasets.catalog import FACTS
from crowdloc.datasets.files import choose
from crowdloc.datasets.images import image_size
from crowdloc.datasets.statistics import EDGES, LEVELS, box_sides, nearest, spread

HEIGHT = 288  # lengths are in pixels of images scaled to this height, the mini preset's
GENERATED = ("synthcrowd-sense", "synthcrowd-fdst", "synthcrowd-sha", "synthcrowd-shb")
REAL = tuple(FACTS)
NAMES = (*GENERATED, *REAL)
SPLITS = ("train", "val", "test")
_RUN = "run"  # provenance: the one entry that may differ between two measurements of the same files


def measure(name: str, root: str | PathLike[str] | None = None, *, progress: bool = True) -> dict[str, Any]:
    """The census of a data set as JSON values.

    Args:
        name: a real set ("mall"), read from `root`, or a SynthCrowd domain ("synthcrowd-sense"), mini preset.
        root: the data root, default CROWDLOC_DATA; not used for SynthCrowd.
        progress: show a bar on stderr while images are decoded.

    Returns:
        Totals, and under `distributions` a `statistics.spread` of each quantity: "heads per frame"; "nearest head",
        the distance to the nearest other head; where boxes are there "box side", the square root of their area; and
        for SynthCrowd "head width", the diameter. Lengths are in pixels of images scaled to HEIGHT rows.

    Raises:
        CrowdlocError: unknown name, absent folder, or SynthCrowd annotations that differ from the manifest.
    """
    choose("name", name, NAMES)
    return _generated(name.partition("-")[2]) if name in GENERATED else _real(name, root, progress)


def _real(name: str, root: str | PathLike[str] | None, progress: bool) -> dict[str, Any]:
    from crowdloc.datasets.verification import verify

    report = verify(name, root, progress)
    counts, gaps, sides = [], [], []
    frames = list(_annotated(name, root))
    rows = _image_rows(frames)
    for frame in frames:
        counts.append(len(frame.points))
        if frame.scene not in rows:  # none of its images is there, so its lengths have no scale
            continue
        scale = HEIGHT / rows[frame.scene]
        gaps.append(nearest(frame.points) * scale)
        if frame.boxes is not None:
            sides.append(box_sides(frame.boxes) * scale)
    lengths = {"nearest head": gaps} | ({"box side": sides} if sides else {})
    region = {"in region": report.in_roi} if FACTS[name].counted_in_roi else {}
    return {
        "name": name,
        "frames": report.frames,
        "images": report.images,
        "absent": report.missing,
        "broken": len(report.broken),
        "copies": len(report.copies),
        **_sizes(report.sizes),
        "annotations": report.annotations,
        **region,
        "empty": report.empty,
        "fewest": report.fewest,
        "most": report.most,
        "repeated": report.repeated_points,
        "outside": report.outside,
        "outside images": report.outside_images,
        "farthest": round(report.farthest, 2),
        **_distributions(counts, lengths),
    }


def _annotated(name: str, root: str | PathLike[str] | None) -> Iterator[Frame]:
    """Every frame whose annotation can be read, with or without its image, points where the file has them."""
    from crowdloc.datasets import scan

    for part in scan(name, root, "all").parts:
        try:
            yield from part()
        except CrowdlocError:  # `verify` has counted it
            continue


def _image_rows(frames: list[Frame]) -> dict[str, int]:
    """Image height of every scene of which at least one image is there; the frames of a scene have one size."""
    rows: dict[str, int] = {}
    for frame in frames:
        if frame.scene not in rows and frame.path.is_file():
            with contextlib.suppress(CrowdlocError):  # `verify` has counted it
                rows[frame.scene] = image_size(frame.path)[1]
    return rows


def _generated(domain: str) -> dict[str, Any]:
    from crowdloc.datasets.synthcrowd import DIFFICULTY, DOMAINS, PRESETS, SYNTHCROWD_VERSION, build_scene
    from crowdloc.datasets.synthcrowd.annotate import annotation_text
    from crowdloc.datasets.synthcrowd.geometry import UNIT
    from crowdloc.datasets.synthcrowd.manifest import annotation_hash, expected_hash

    splits: dict[str, dict[str, Any]] = {}
    counts: list[int] = []
    gaps, sides, widths = [], [], []
    for split in SPLITS:
        first = len(counts)
        for index in range(DOMAINS[domain].videos[split]):
            text = annotation_text(build_scene(domain, split, index), "mini")
            if annotation_hash(text) != expected_hash("mini", domain, split, index):
                raise CrowdlocError(
                    f"synthcrowd {domain}/{split}, scene {index}: its annotations differ from the manifest; "
                    "the generator was changed without a new SYNTHCROWD_VERSION"
                )
            for frame in json.loads(text)["frames"]:
                points = np.array(frame["points"], dtype=np.float64).reshape(-1, 2) / UNIT
                boxes = np.array(frame["boxes"], dtype=np.float64).reshape(-1, 4) / UNIT
                counts.append(len(points))
                gaps.append(nearest(points))
                sides.append(box_sides(boxes))
                whole = boxes[:, 1] > 0  # a box begins 1.1 head radii above its head's centre, if not cut off
                widths.append(2 / 1.1 * (points[whole, 1] - boxes[whole, 1]))
        own = counts[first:]
        splits[split] = {
            "scenes": DOMAINS[domain].videos[split],
            "frames": len(own),
            "heads": sum(own),
            "fewest": min(own),
            "most": max(own),
        }
    return {
        "name": f"synthcrowd-{domain}",
        "version": SYNTHCROWD_VERSION,
        "difficulty": DIFFICULTY.fingerprint(),
        "frames": len(counts),
        **_sizes([PRESETS["mini"][::-1]]),
        "annotations": sum(counts),
        "empty": counts.count(0),
        "fewest": min(counts),
        "most": max(counts),
        "splits": splits,
        **_distributions(counts, {"nearest head": gaps, "box side": sides, "head width": widths}),
    }


def _sizes(found: Collection[tuple[int, int]]) -> dict[str, Any]:
    """How many image sizes there are, and the ranges of their widths and heights."""
    width, height = ([min(sides), max(sides)] for sides in zip(*found, strict=True)) if found else (None, None)
    return {"sizes": len(found), "width": width, "height": height}


def _distributions(counts: list[int], lengths: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    found = {"heads per frame": spread(np.array(counts))}
    found |= {quantity: spread(np.concatenate(parts or [np.zeros(0)])) for quantity, parts in lengths.items()}
    return {"rows": HEIGHT, "levels": list(LEVELS), "edges": EDGES.round(6).tolist(), "distributions": found}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Which entries of two censuses differ, whole numbers and names exactly, others beyond 0.001; sorted."""
    return sorted(key for key in (one.keys() | other.keys()) - {_RUN} if not _same(one.get(key), other.get(key)))


def verdict(now: dict[str, Any], stored: dict[str, Any] | None) -> str:
    """Whether a measurement equals the stored census, in words."""
    if stored is None:
        return "nothing is stored to compare with"
    keys = differences(now, stored)
    return f"differs from what is stored: {', '.join(keys)}" if keys else "equal to what is stored"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=0, abs_tol=1e-3)
    return bool(one == other)


def read(name: str) -> dict[str, Any] | None:
    """The stored census of a data set, None where none is stored; CrowdlocError where the file is damaged."""
    choose("name", name, NAMES)
    path = paths.RESULTS / "datasets" / f"{name}.json"
    return _load(path, name) if path.is_file() else None


def _load(path: Path, name: str) -> dict[str, Any]:
    try:
        content = read_json(path)
        if (
            content["name"] != name
            or len(content["edges"]) != len(EDGES)
            or "heads per frame" not in content["distributions"]
        ):
            raise ValueError
    except (CrowdlocError, ValueError, KeyError, TypeError):
        raise CrowdlocError(f"{path} is no census of {name}: restore it from version control, or measure it") from None
    return content


def write(found: dict[str, Any]) -> Path:
    """Write a census with its provenance to `build/datasets/`."""
    from crowdloc.core.provenance import describe

    path = paths.BUILD / "datasets" / f"{found['name']}.json"
    head = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in (found | {_RUN: describe()}).items()]
    with atomic_write(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(head) + "\n}\n", encoding="utf-8")
    return path


def is_present(name: str, root: Path) -> bool:
    """Whether the data root has a folder of this set in a known layout."""
    from crowdloc.datasets import scan

    try:
        scan(name, root, "all")
    except CrowdlocError:
        return False
    return True


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m crowdloc.datasets.census", description=__doc__)
    parser.add_argument("names", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--data-root", metavar="FOLDER", help="real data sets (default: CROWDLOC_DATA)")
    options = parser.parse_args(arguments)
    try:
        for name in options.names:
            found = measure(name, options.data_root)
            stored = read(name)
            written = write(found)
            print(
                f"{written}: {found['frames']:,} frames, {found['annotations']:,} annotations;", verdict(found, stored)
            )
    except CrowdlocError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()

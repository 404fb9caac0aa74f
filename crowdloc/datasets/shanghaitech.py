"""ShanghaiTech part A and B (Zhang et al. 2016): single images with head points."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import Frame
from crowdloc.datasets.files import entries, find_folder, natural, xy
from crowdloc.datasets.matlab import load_mat, variable
from crowdloc.datasets.reading import Listing, hold_out

_PARENTS = ("shanghaitech/", "ShanghaiTech/", "Shanghaitech/", "ShanghaiTech_Crowd_Counting_Dataset/", "")
_TRUTH = ("ground_truth", "ground-truth")


def scan(root: Path, split: str, *, part: str) -> Listing:
    """`part_A_final` or `part_A` with `{train,test}_data/{images,ground_truth or ground-truth}`.

    The set has no validation images: val is every tenth training image in natural order (IMG_10, IMG_20, …),
    train the others, trainval all. Every image is a scene of its own. Coordinates are MATLAB's 1-based ones,
    shifted here; some official points lie outside the image, a few by hundreds of pixels. Of part A,
    test image IMG_98 is training image IMG_121, byte for byte.
    """
    what = f"shanghaitech_{part.lower()}"
    halves = {"test": ("test",), "all": ("train", "test")}.get(split, ("train",))
    if root.name.startswith("part_") and not root.name.startswith(f"part_{part}"):
        raise CrowdlocError(f"{what}: {root} is the other part: give the folder above it")
    folder = find_folder(
        root,
        [f"{parent}part_{part}{suffix}" for parent in _PARENTS for suffix in ("_final", "")],
        [f"{half}_data/images" for half in halves],
        what,
    )
    parts = []
    for half in halves:
        find_folder(folder / f"{half}_data", (), ["|".join(_TRUTH)], what)
        images = folder / f"{half}_data" / "images"
        truth = next(path for name in _TRUTH if (path := images.parent / name).exists())
        stems = {path.stem for path in entries(images, "*.jpg")}
        stems |= {path.stem.removeprefix("GT_") for path in entries(truth, "GT_*.mat")}
        ordered = sorted((images / f"{stem}.jpg" for stem in stems), key=natural)
        chosen = ordered if half == "test" else hold_out(ordered, split)
        parts += [partial(_read, path, truth / f"GT_{path.stem}.mat", half) for path in chosen]
    return Listing(parts)


def _read(image: Path, path: Path, half: str) -> list[Frame]:
    name = f"{half}_{image.stem}"  # both halves count from IMG_1
    return [Frame(name, name, image, read_image_info(path) - 1)]


def read_image_info(path: Path) -> np.ndarray:
    """`location` (n, 2) of a GT_*.mat, as it stands in the file; its `number` must agree with it."""
    try:
        record = variable(load_mat(path), path, "image_info")[0, 0]
        location, number = record["location"], int(np.ravel(record["number"])[0])
    except (IndexError, KeyError, OverflowError, TypeError, ValueError):
        raise CrowdlocError(
            f"annotation {path}: image_info holds no location and number: restore the official file"
        ) from None
    points = xy(location, path)
    if len(points) != number:
        raise CrowdlocError(
            f"annotation {path}: {len(points)} points, but its number is {number}: restore the official file"
        )
    return points

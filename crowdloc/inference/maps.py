"""Maps of a frozen backbone, computed once for each frame (or mirror image) and shared by all that stand on it.

They lie in `build/maps/`, float16, in one flat file that is read through the memory map. A key made of weights, code,
data and taps names the folder, so maps of other weights are never read. Beside each map its checksum is kept, which is
written after it: what a kill or a full disk left half-done does not count as done, and a damaged map is made again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import digest, write_json
from crowdloc.core.locking import locked
from crowdloc.core.paths import BUILD, PACKAGE
from crowdloc.datasets.base import ClipDataset
from crowdloc.datasets.images import image_size
from crowdloc.inference.limits import check_one_piece
from crowdloc.inference.precision import prepared
from crowdloc.models import Maps, Method, normalise

_MAPS, _SUMS, _INDEX = "maps.f16", "checksums.u32", "index.json"
_DAY = 24 * 3600.0
# What a front-end's maps depend on besides its weights.
_CODE = ("models/parts/frontend.py", "models/parts/layers.py", "datasets/images.py")
_Shape = tuple[int, ...]  # C, H, W


class Kept:
    """Kept maps of all frames of a data set: `read` and `size` by `ClipDataset.key`."""

    def __init__(self, folder: Path, shapes: Sequence[Sequence[_Shape]], sizes: Sequence[tuple[int, int]]) -> None:
        self.folder = folder
        self._shapes, self._sizes = shapes, sizes
        lengths = [sum(int(np.prod(shape)) for shape in frame) for frame in shapes]
        self._starts = np.concatenate([[0], np.cumsum(np.repeat(lengths, 2))])  # per frame: itself, mirrored
        self.nbytes = 2 * int(self._starts[-1])
        self._values: NDArray[np.float16] | None = None
        self._sums: NDArray[np.uint32] | None = None
        self._checked: set[int] = set()

    def size(self, key: int) -> tuple[int, int]:
        """Height and width of the frame in pixels."""
        return self._sizes[key]

    def read(self, key: int, mirrored: bool) -> Maps:
        """Maps of a frame or of its mirror image, each (C, H, W) float16, views of the file.

        Raises:
            CrowdlocError: the map was not asked for or is damaged (its checksum differs); keeping it again mends that.
        """
        place = 2 * key + mirrored
        if place not in self._checked:
            if not self.is_done(place):
                what = "is damaged" if self._sums is not None and self._sums[place] else f"lacks map {place}"
                raise CrowdlocError(f"{self.folder / _MAPS} {what}: delete {self.folder} and run the command again")
            self._checked.add(place)
        values = torch.from_numpy(self._part(place))
        found, first = [], 0
        for shape in self._shapes[key]:
            number = int(np.prod(shape))
            found.append(values[first : first + number].view(shape))
            first += number
        return tuple(found)

    def is_done(self, place: int) -> bool:
        """Whether the map at 2·key + mirrored is there and whole."""
        assert self._sums is not None
        return bool(self._sums[place]) and int(self._sums[place]) == _checksum(self._part(place))

    def write(self, place: int, maps: Sequence[Tensor]) -> None:
        """Put a frame's maps (C, H, W) into the file, then their checksum."""
        assert self._sums is not None
        part = self._part(place)
        _reserve(self.folder / _MAPS, 2 * int(self._starts[place]), part.nbytes)
        self._sums[place] = 0
        part[:] = torch.cat([stage.reshape(-1) for stage in maps]).to(torch.float16).numpy()
        self._sums[place] = _checksum(part)

    def open(self) -> None:
        """Map the files, which are made where they are missing or of another size."""
        for name, length in ((_MAPS, self.nbytes), (_SUMS, 8 * len(self._sizes))):
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != length:
                with open(path, "wb") as file:
                    file.truncate(length)
                if name == _SUMS:
                    _reserve(path, 0, length)
        self._values = np.memmap(self.folder / _MAPS, dtype=np.float16, mode="r+")
        self._sums = np.memmap(self.folder / _SUMS, dtype=np.uint32, mode="r+")

    def _part(self, place: int) -> NDArray[np.float16]:
        assert self._values is not None
        return self._values[self._starts[place] : self._starts[place + 1]]


def _reserve(path: Path, start: int, length: int) -> None:
    """Bytes of a file that is there as holes: writing into a hole through the map kills the process on a full disk."""
    if not length or not hasattr(os, "posix_fallocate"):
        return
    with open(path, "rb+") as file:
        try:
            os.posix_fallocate(file.fileno(), start, length)
        except OSError as error:  # other errors: a file system that cannot
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise


def _checksum(part: NDArray[np.float16]) -> int:
    return zlib.crc32(part.tobytes()) or 1  # 0 means: not there


def keep_maps(
    method: Method,
    dataset: ClipDataset,
    *,
    frames: Collection[tuple[int, bool]] | None = None,
    progress: bool = True,
    where: Path | None = None,
) -> Kept:
    """The maps that a method's frozen backbone makes of frames of a data set, made where they are missing.

    Args:
        method: its `encode` is run; all methods with the same backbone and taps share the maps.
        frames: their `ClipDataset.key`, and whether the mirror image is meant, as `training.batches.frames_seen` gives
            them; None: the frames of the data set and the neighbours that the method looks at, as they are.
        where: default `build/maps`.

    Raises:
        CrowdlocError: the disk is full; what was made so far is kept.
    """
    if frames is None:
        around = (dataset.neighbours(index, method.offsets) for index in range(len(dataset)))
        frames = {(dataset.key(i), False) for clip in around for i in clip}
    dataset = dataset.whole()  # so that indices are keys
    sizes = [(height, width) for width, height in (image_size(frame.path) for frame in dataset.frames)]
    shapes = {size: _shapes(method, size) for size in set(sizes)}
    identity = {
        "weights": _weights(getattr(method, "backbone", method)),
        "code": digest(*(PACKAGE / part for part in _CODE)),
        "encoder": str(getattr(method, "backbone", type(method).__name__)),
        "shapes": shapes[sizes[0]],
        "data": dataset.name,
        "frames": _hash([[f.id, *size, f.path.stat().st_size] for f, size in zip(dataset.frames, sizes, strict=True)]),
    }
    folder = (where or BUILD / "maps") / f"{dataset.name}-{_hash(identity)}"
    folder.mkdir(parents=True, exist_ok=True)
    kept = Kept(folder, [shapes[size] for size in sizes], sizes)
    with locked(folder / ".lock", f"maps in {folder}", patience=_DAY):
        try:
            kept.open()
            write_json(folder / _INDEX, identity | {"bytes": kept.nbytes})
            places = sorted(2 * key + mirrored for key, mirrored in frames)
            missing = [place for place in places if not kept.is_done(place)]
            if missing and progress:
                size = f"{kept.nbytes / len(sizes) / 2 * len(missing) / 2**30:.2f} GiB"
                print(f"maps: {len(missing)} of {dataset.name}, {size} in {folder}", file=sys.stderr)
            for place in tqdm(missing, unit="map", disable=not (progress and missing), file=sys.stderr):
                kept.write(place, _maps(method, dataset, place))
        except OSError as error:
            raise CrowdlocError(f"maps in {folder} cannot be written ({error.strerror}): free some space") from error
    return kept


def _maps(method: Method, dataset: ClipDataset, place: int) -> Maps:
    method, image = prepared(method), dataset.image(place // 2)
    check_one_piece(*image.shape[:2])
    if place % 2:
        image = np.ascontiguousarray(image[:, ::-1])
    with torch.inference_mode():
        return tuple(stage[0] for stage in method.encode(normalise(torch.from_numpy(image))[None]))


def _shapes(method: Method, size: tuple[int, int]) -> list[_Shape]:
    """Shapes (C, H, W) of a frame's maps, from a run without data."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        found = method.eval().encode(torch.empty(1, 3, *size))
    return [tuple(stage.shape[1:]) for stage in found]


def _weights(module: nn.Module) -> str:
    hasher = hashlib.sha256()
    for name, value in module.state_dict().items():
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        hasher.update(value.detach().cpu().contiguous().numpy().tobytes())
    return hasher.hexdigest()[:16]


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

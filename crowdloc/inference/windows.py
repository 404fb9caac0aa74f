"""From a trained method and frames to predictions: windows of any offsets, every frame encoded once.

A data set and a stream of unknown length go the same way: windows in temporal order come in, predictions come out, and
an encoded frame is forgotten as soon as no later window can ask for it.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.inference.limits import check_size
from crowdloc.inference.maps import Kept
from crowdloc.models import Maps, Method, Prediction, normalise

Image = NDArray[np.uint8]  # (h, w, 3) RGB


class Encoded(NamedTuple):
    """A frame after `Method.encode`: maps (C, H, W) and the frame's height and width."""

    maps: Maps
    size: tuple[int, int]


class Window(NamedTuple):
    """Frames at a method's offsets from a keyframe, by their places in time; those outside the scene are repeated."""

    scene: object
    keyframe: int
    times: tuple[int, ...]
    encode: Callable[[int], Encoded]


def decode_windows(method: Method, windows: Iterable[Window]) -> Iterator[Prediction]:
    """Prediction of every window's keyframe. Windows of one scene must come one after the other, in time.

    Raises:
        CrowdlocError: frames of one window differ in size, or the network yields values that are not finite.
    """
    scene: object = object()
    encoded: dict[int, Encoded] = {}
    reach = min(method.offsets)
    method.eval()
    for window in windows:
        if window.scene != scene:
            scene, encoded = window.scene, {}
        for time in [t for t in encoded if t < window.keyframe + reach and t not in window.times]:
            del encoded[time]
        for time in window.times:
            if time not in encoded:
                encoded[time] = window.encode(time)
        frames = [encoded[time] for time in window.times]
        sizes = {frame.size for frame in frames}
        if len(sizes) > 1:
            raise CrowdlocError(f"frames of {scene} around number {window.keyframe} differ in size: {sorted(sizes)}")
        with torch.inference_mode():
            try:
                yield method.decode([frame.maps for frame in frames], sizes.pop())
            except ValueError as error:
                if "NaN" not in str(error):
                    raise
                raise CrowdlocError(
                    f"{type(method).__name__} yields values that are not finite: its weights are damaged or diverged"
                ) from error


def encode(method: Method, image: Image) -> Encoded:
    """One frame through the method's first part; CrowdlocError for one that is too large."""
    check_size(*image.shape[:2])
    device = next(method.parameters()).device
    with torch.inference_mode():
        maps = method.encode(normalise(torch.from_numpy(image).to(device))[None])
    return Encoded(tuple(stage[0] for stage in maps), (image.shape[0], image.shape[1]))


def predict(
    method: Method, dataset: ClipDataset, *, maps: Kept | None = None, progress: bool = True
) -> list[Prediction]:
    """Predictions of every keyframe of a data set, in its order, whatever that is.

    Args:
        maps: kept maps of the method's backbone over this data set; without them every frame is encoded.
    """
    order = sorted(range(len(dataset)), key=dataset.position)
    windows = (_window(method, dataset, index, maps) for index in order)
    bar = tqdm(decode_windows(method, windows), total=len(order), unit="image", disable=not progress, file=sys.stderr)
    found = dict(zip(order, bar, strict=True))
    return [found[index] for index in range(len(dataset))]


def _window(method: Method, dataset: ClipDataset, index: int, maps: Kept | None) -> Window:
    neighbours = dataset.neighbours(index, method.offsets)
    scene, now = dataset.position(index)
    places = {dataset.position(i)[1]: i for i in neighbours}

    def encode_at(time: int) -> Encoded:
        if maps is None:
            return encode(method, dataset.image(places[time]))
        key = dataset.key(places[time])
        return Encoded(tuple(stage.float() for stage in maps.read(key, False)), maps.size(key))

    return Window(scene, now, tuple(dataset.position(i)[1] for i in neighbours), encode_at)


def predict_stream(method: Method, images: Iterable[Image]) -> Iterator[Prediction]:
    """Predictions of every frame of a sequence whose length need not be known, as soon as its neighbours are there.

    Where the size changes a new sequence begins.
    """
    runs = groupby(images, key=lambda image: image.shape)
    windows = (w for number, (_, run) in enumerate(runs) for w in _stream(method, run, number, method.offsets))
    return decode_windows(method, windows)


def _stream(method: Method, images: Iterator[Image], number: int, offsets: Sequence[int]) -> Iterator[Window]:
    """Windows of one sequence; an image is let go once it lies before every window to come."""
    ahead, behind = max(offsets), -min(offsets)
    waiting: deque[tuple[int, Image]] = deque()

    def window(keyframe: int, last: int) -> Window:
        held = dict(waiting)
        times = tuple(min(max(keyframe + offset, 0), last) for offset in offsets)
        return Window(number, keyframe, times, lambda time: encode(method, held[time]))

    time = -1
    for time, image in enumerate(images):
        waiting.append((time, image))
        if time - ahead >= 0:
            yield window(time - ahead, time)
        while waiting and waiting[0][0] < time - ahead - behind:
            waiting.popleft()
    for keyframe in range(max(time - ahead + 1, 0), time + 1):
        yield window(keyframe, time)

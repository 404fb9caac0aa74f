"""From a trained method and frames to predictions: windows of any offsets, every frame encoded once.

A data set and a stream of unknown length go the same way: windows in temporal order come in, predictions come out, and
an encoded frame is forgotten as soon as no later window can ask for it.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.inference.limits import IN_ONE_PIECE, check_size
from crowdloc.inference.maps import Kept
from crowdloc.inference.precision import encode_in, prepared
from crowdloc.inference.tiles import Tile, decode_tiles
from crowdloc.models import Maps, Method, Prediction, normalise

Image = NDArray[np.uint8]  # (h, w, 3) RGB
F = TypeVar("F")  # a frame and whatever belongs to it


class Encoded(NamedTuple):
    """A frame after `Method.encode`: maps (C, H, W) and the frame's height and width.

    A frame too large to be run in one piece has no maps but a function that encodes a tile of it.
    """

    maps: Maps
    size: tuple[int, int]
    tile: Callable[[Tile], Maps] | None = None


class Window(NamedTuple):
    """Frames at a method's offsets from a keyframe, by their places in time; those outside the scene are repeated."""

    scene: object
    keyframe: int
    times: tuple[int, ...]
    encode: Callable[[int], Encoded]


class Stages:
    """Where time goes: seconds and number of frames of each stage, e.g. "encode" and "decode".

    `whole` is the time of the run that they are stages of.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.frames: dict[str, int] = {}
        self.whole = 0.0

    def add(self, stage: str, since: float) -> None:
        """A frame has been in a stage since `time.perf_counter()` was `since`."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - since
        self.frames[stage] = self.frames.get(stage, 0) + 1

    def timed(self, stage: str, items: Iterable[F]) -> Iterator[F]:
        """`items`, the waiting for each of them counted as a stage."""
        iterator = iter(items)
        while True:
            since = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self.add(stage, since)
            yield item

    def __str__(self) -> str:
        rows = [(name, n, self.seconds[name]) for name, n in self.frames.items()]
        lines = [f"{name:<8} {n:>7} frames {1000 * seconds / n:>8.1f} ms each" for name, n, seconds in rows]
        if self.whole > 0 and rows:
            speed, share = self.frames.get("decode", 0) / self.whole, sum(self.seconds.values()) / self.whole
            lines.append(f"together {speed:.2f} frames/s; {100 * share:.0f} % of the time is in these stages")
        return "\n".join(lines)


class Decoder:
    """Prediction of a window's keyframe. Windows of one scene must come one after the other, in time."""

    def __init__(self, method: Method, stages: Stages | None = None) -> None:
        self._method, self._stages = prepared(method), stages or Stages()
        self._reach = min(method.offsets)
        self._scene: object = object()
        self._encoded: dict[int, Encoded] = {}

    def __call__(self, window: Window) -> Prediction:
        """The prediction.

        Raises:
            CrowdlocError: frames of one window differ in size, or the network yields values that are not finite.
        """
        if window.scene != self._scene:
            self._scene, self._encoded = window.scene, {}
        for at in [t for t in self._encoded if t < window.keyframe + self._reach and t not in window.times]:
            del self._encoded[at]
        for at in window.times:
            if at not in self._encoded:
                since = time.perf_counter()
                self._encoded[at] = window.encode(at)
                self._stages.add("encode", since)
        frames = [self._encoded[at] for at in window.times]
        if len({frame.size for frame in frames}) > 1:
            sizes = sorted({frame.size for frame in frames})
            message = f"frames of {window.scene} around number {window.keyframe} differ in size: {sizes}"
            raise CrowdlocError(message)
        since = time.perf_counter()
        with torch.inference_mode():
            try:
                return _decode(self._method, frames)
            except ValueError as error:
                if "NaN" not in str(error):
                    raise
                name = type(self._method).__name__
                raise CrowdlocError(
                    f"{name} yields values that are not finite: its weights are damaged or diverged"
                ) from error
            finally:
                self._stages.add("decode", since)


def _decode(method: Method, frames: list[Encoded]) -> Prediction:
    encoders = [frame.tile for frame in frames if frame.tile is not None]
    if encoders:
        return decode_tiles(method, encoders, frames[0].size)
    return method.decode([frame.maps for frame in frames], frames[0].size)


def decode_windows(method: Method, windows: Iterable[Window]) -> Iterator[Prediction]:
    """Prediction of every window's keyframe, as `Decoder` makes them."""
    return map(Decoder(method), windows)


def encode(method: Method, image: Image, *, precision: str = "fp32") -> Encoded:
    """One frame through the method's first part, in "fp32" or "bf16"; a very large one will be, tile by tile.

    Raises:
        CrowdlocError: it is larger than `limits.MAX_PIXELS`.
    """
    height, width = image.shape[:2]
    check_size(height, width)

    def run(part: Image) -> Maps:
        with torch.inference_mode():
            pixels = torch.from_numpy(part).to(next(method.parameters()).device)
            return tuple(stage[0] for stage in encode_in(precision, method, normalise(pixels)[None]))

    if height * width <= IN_ONE_PIECE:
        return Encoded(run(image), (height, width))
    return Encoded((), (height, width), lambda tile: run(tile.of(image)))


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

    def encode_at(at: int) -> Encoded:
        if maps is None:
            return encode(method, dataset.image(places[at]))
        key = dataset.key(places[at])
        return Encoded(tuple(stage.float() for stage in maps.read(key, False)), maps.size(key))

    return Window(scene, now, tuple(dataset.position(i)[1] for i in neighbours), encode_at)


def predict_stream(method: Method, images: Iterable[Image]) -> Iterator[Prediction]:
    """Predictions of every frame of a sequence whose length need not be known, as soon as its neighbours are there.

    Where the size changes a new sequence begins.
    """
    for _, prediction in predict_frames(method, images, image=lambda image: image):
        assert prediction is not None
        yield prediction


def predict_frames(
    method: Method,
    frames: Iterable[F],
    *,
    image: Callable[[F], Image],
    skip: int = 0,
    alone: bool = False,
    stages: Stages | None = None,
    precision: str = "fp32",
) -> Iterator[tuple[F, Prediction | None]]:
    """As `predict_stream`, every frame with its prediction; at most `max(offsets) + 1` frames are read ahead.

    Args:
        image: the image of a frame.
        skip: the first so many frames come with None; of them only those are encoded that later ones look at, and what
            follows is what it would be without skipping.
        alone: frames have nothing to do with each other: each is its own neighbour.
        stages: where the time goes is added to it.
        precision: of the front-end, "fp32" or "bf16".
    """
    decoder = Decoder(method, stages)
    sequences = groupby(enumerate(frames), key=lambda item: item[0] if alone else image(item[1]).shape)
    parts = (_stream(method, (f for _, f in part), n, image, precision) for n, (_, part) in enumerate(sequences))
    for place, (frame, window) in enumerate(chain.from_iterable(parts)):
        yield frame, None if place < skip else decoder(window)


def _stream(
    method: Method, frames: Iterator[F], number: int, image: Callable[[F], Image], precision: str
) -> Iterator[tuple[F, Window]]:
    """Keyframes and windows of one sequence; a frame is let go once it lies before every window to come."""
    ahead, behind = max(method.offsets), -min(method.offsets)
    waiting: deque[tuple[int, F]] = deque()

    def window(keyframe: int, last: int) -> tuple[F, Window]:
        held = dict(waiting)
        times = tuple(min(max(keyframe + offset, 0), last) for offset in method.offsets)

        def encode_at(at: int) -> Encoded:
            return encode(method, image(held[at]), precision=precision)

        return held[keyframe], Window(number, keyframe, times, encode_at)

    now = -1
    for now, frame in enumerate(frames):
        waiting.append((now, frame))
        if now - ahead >= 0:
            yield window(now - ahead, now)
        while waiting and waiting[0][0] < now - ahead - behind:
            waiting.popleft()
    for keyframe in range(max(now - ahead + 1, 0), now + 1):
        yield window(keyframe, now)

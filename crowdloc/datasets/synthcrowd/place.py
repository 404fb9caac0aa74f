"""The empty place: ground, wall and light of a scene as a picture, and how bright each spot of the ground is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from crowdloc.datasets.synthcrowd.geometry import ASPECT
from crowdloc.datasets.synthcrowd.rng import Stream
from crowdloc.datasets.synthcrowd.scene import Scene
from crowdloc.datasets.synthcrowd.settings import PRESETS

Colour = tuple[int, int, int]
_GROUNDS: tuple[Colour, ...] = (
    (150, 146, 140), (118, 118, 120), (176, 164, 146), (136, 126, 116),
    (98, 98, 100), (190, 184, 176), (142, 120, 104), (112, 122, 108),
)  # fmt: skip
_PATCHES: tuple[Colour, ...] = (*_GROUNDS, (70, 96, 52), (60, 60, 64), (60, 88, 48))
_WALLS: tuple[Colour, ...] = (
    (170, 160, 146), (128, 98, 84), (110, 112, 118), (196, 190, 180), (84, 80, 82), (150, 136, 110),
)  # fmt: skip
_GLASS: tuple[Colour, ...] = ((46, 54, 64), (30, 32, 36), (196, 184, 150), (120, 140, 150))
_ACCENTS: tuple[Colour, ...] = (
    (150, 64, 58), (62, 88, 132), (184, 160, 92), (72, 112, 86), (206, 202, 194), (44, 46, 52), (170, 118, 76),
)  # fmt: skip
_TINTS = ((1.0, 1.0, 1.0), (1.05, 1.0, 0.92), (0.94, 0.99, 1.07), (1.08, 0.98, 0.85))


@dataclass(frozen=True, eq=False)
class Place:
    """`picture` (h, w, 3) float32 of the empty place, `light` (h, w, 3) float32 that falls on everything.

    The shade of a building covers the ground where `shade` (a, b, c): a x + b y < c, and dims it to `dim`; `sun` is
    where shadows point (metres per metre of height), `shadow` how dark they are; `haze` (3,) the distance's colour.
    """

    picture: np.ndarray
    light: np.ndarray
    shade: tuple[float, float, float]
    dim: float
    sun: tuple[float, float]
    shadow: float
    haze: np.ndarray


def brightness(x: np.ndarray, y: np.ndarray, shade: tuple[float, float, float], dim: float) -> np.ndarray:
    """Factor for the ground or somebody standing at (x, y) metres: `dim` in the shade, a soft edge, 1 in the light."""
    a, b, c = shade
    return dim + (1.0 - dim) * np.clip((a * x + b * y - c) / 0.8 + 0.5, 0.0, 1.0)


def _array(colour: Colour, factor: float = 1.0) -> np.ndarray:
    return np.array(colour, dtype=np.float32) * np.float32(factor)


def _noise(stream: Stream, size: int = 64) -> np.ndarray:
    """A (size, size) float32 field of uniform numbers in [-1, 1), to be sampled with wrap-around."""
    return stream.uniforms(size * size, -1.0, 1.0).reshape(size, size).astype(np.float32)


def _mod(value: np.ndarray, period: float) -> np.ndarray:
    return value - np.floor(value * (1 / period)) * period  # several times faster than np.mod


def _sample(field: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear look-up with wrap-around at x, y in cells, which broadcast."""
    size = len(field)
    padded = np.pad(field, ((0, 2), (0, 2)), mode="wrap")
    u, v = np.broadcast_arrays(_mod(x, size), _mod(y, size))
    return cv2.remap(padded, np.ascontiguousarray(u), np.ascontiguousarray(v), cv2.INTER_LINEAR)


def _line(coordinate: np.ndarray, period: float, width: float, footprint: np.ndarray) -> np.ndarray:
    """Share of a pixel covered by lines of `width` every `period`, anti-aliased over its `footprint` (metres)."""
    distance = np.abs(_mod(coordinate + period / 2, period) - period / 2)
    return np.clip((width / 2 + footprint / 2 - distance) / footprint, 0, 1) * np.minimum(1, width / footprint)


def _ground(stream: Stream, x: np.ndarray, y: np.ndarray, footprint: np.ndarray, far: float) -> np.ndarray:
    """Colour (h, w, 3) of the ground at x (h, w), y (h, 1) metres, seen with pixels of `footprint` (h, 1) metres."""
    base = _array(stream.choice(_GROUNDS), stream.uniform(0.75, 1.12))
    fine, coarse = _noise(stream), _noise(stream, 32)
    fade = np.clip(0.12 / footprint, 0, 1)
    value = 1 + stream.uniform(0.03, 0.12) * _sample(coarse, x * 0.35 + 7, y * 0.35)
    value += 0.06 * _sample(coarse, y * 1.3, x * 1.3)
    value += stream.uniform(0.03, 0.10) * fade * _sample(fine, x * 9.0, y * 9.0)
    slant = stream.uniform(-0.5, 0.5)
    norm = (1 + slant * slant) ** 0.5
    a, b = (x + slant * y) / norm, (y - slant * x) / norm
    pattern = stream.choice(("tiles", "slabs", "checks", "asphalt", "stripes"))
    side = stream.uniform(0.4, 0.8) if pattern == "tiles" else stream.uniform(0.9, 2.2)
    if pattern in ("tiles", "slabs", "checks"):
        column, row = np.floor(a / side).astype(np.int32), np.floor(b / side).astype(np.int32)
        cell = (
            ((column + row) % 2 * 2 - 1).astype(np.float32)
            if pattern == "checks"
            else _noise(stream)[column % 64, row % 64]
        )
        value += np.clip(0.5 * side / footprint, 0, 1) * np.float32(stream.uniform(0.02, 0.10)) * cell
        joints = np.maximum(_line(a, side, 0.03, footprint), _line(b, side, 0.03, footprint * 1.6))
        value -= np.float32(stream.uniform(0.1, 0.35)) * joints
    elif pattern == "stripes":
        value += np.float32(stream.uniform(0.06, 0.2)) * (_mod(a, stream.uniform(2.0, 5.0)) < 1.0)
    spots = _sample(fine, x * 2.1 + 11, y * 2.1)  # chewing gum, drain covers, leaves: round dark spots
    value *= 1 - 0.35 * np.clip((spots - 0.82) * 8, 0, 1) * fade
    colour = value[..., None] * base
    if stream.uniform() < 0.45:  # a zebra crossing
        begin, deep = stream.uniform(0.1 * far, 0.7 * far), stream.uniform(1.5, 3.5)
        band = (y > begin) & (y < begin + deep) & (_mod(x, 1.0) < 0.5)
        colour[band] += np.float32(stream.uniform(25, 60))
    for _ in range(stream.integer(1, 4)):  # lawns, beds, mats, wet patches: ellipses and rounded rectangles
        centre, depth = stream.uniform(-8, 8), stream.uniform(0.2 * far, 1.1 * far)
        p, q = (x - centre) / stream.uniform(0.5, 3), (y - depth) / stream.uniform(0.5, 2.5)
        p, q = p * p, q * q
        if stream.uniform() < 0.5:
            p, q = p * p, q * q
        patch = p + q < 1
        tone, amount = _array(stream.choice(_PATCHES)), np.float32(stream.uniform(0.25, 0.8))
        colour[patch] = colour[patch] * (1 - amount) + amount * tone * value[patch][:, None]
    return colour


def _wall(stream: Stream, x: np.ndarray, z: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Colour (h, w, 3) of the wall behind the crowd at x (h, w), z (h, 1) metres: windows, doors, posters, signs."""
    base = _array(stream.choice(_WALLS), stream.uniform(0.6, 1.1))
    rough = _noise(stream)
    value = 1 + 0.10 * _sample(rough, x * 0.8, z * 0.8) + 0.06 * _sample(rough, x * 6, z * 6)
    if stream.uniform() < 0.4:
        value -= 0.2 * np.maximum(_line(z, 0.3, 0.03, footprint), _line(x, 0.6, 0.03, footprint))
    colour = value[..., None] * base
    period, sill, top = stream.uniform(1.4, 4.5), stream.uniform(0.0, 1.0), stream.uniform(2.1, 3.0)
    width = period * stream.uniform(0.45, 0.85)
    number = np.floor(x / period).astype(np.int32)
    across, up = x - number * np.float32(period), _mod(z, 3.6)
    shine = _sample(_noise(stream), x * 1.7, z * 1.3) * 0.25 + 1
    pane = (across < width) & (up > sill) & (up < top)
    colour[pane] = shine[pane][:, None] * _array(stream.choice(_GLASS))
    border = pane & ((np.minimum(across, width - across) < 0.08) | (np.minimum(up - sill, top - up) < 0.08))
    colour[border] = base * 0.6
    accents = np.array([stream.choice(_ACCENTS) for _ in range(8)], dtype=np.float32) * 0.7 + base * 0.3
    inner = (across > 0.2 * width) & (across < 0.7 * width) & (up > sill + 0.2) & (up < top - 0.2)
    poster = inner & (number % 3 == 0)
    colour[poster] = accents[number[poster] % 8] * (0.8 + 0.2 * shine[poster][:, None])
    sign = (number % 2 == 1) & (up > top) & (up < top + 0.5) & (across < width)
    colour[sign] = accents[(number[sign] + 3) % 8]
    return colour


@lru_cache(maxsize=4)
def _place(scene: Scene, height: int, width: int) -> Place:
    stream, camera = scene.place_stream("place"), scene.camera
    u = ((np.arange(width, dtype=np.float32) + 0.5) / width - 0.5)[None] * np.float32(ASPECT)
    v = ((np.arange(height, dtype=np.float32) + 0.5) / height - 0.5)[:, None]
    drop = camera.sin + camera.cos * v / camera.focal  # metres below the camera per metre of depth, (h, 1)
    depth = np.clip(camera.height / np.maximum(drop, 1e-3), 0, 200)
    y = (depth - camera.height * camera.sin) / camera.cos
    end = scene.far + stream.uniform(0.8, 3.5)
    middle = 0.5 * (scene.near + scene.far)
    slant, side = stream.uniform(-1.0, 1.0), stream.choice((-1.0, 1.0))
    shade = (slant, side, side * middle + stream.uniform(-0.4, 0.3) * (scene.far - scene.near))
    dim = stream.uniform(0.45, 0.8) if stream.uniform() < 0.4 else 1.0

    row = int((y > end).sum())  # the wall's foot is a row, since the camera does not roll
    x = depth * u / camera.focal
    footprint = depth / (camera.focal * height) * np.maximum(1, 0.5 / np.maximum(drop, 0.05))
    ground = _ground(stream, x[row:], y[row:], footprint[row:], scene.far)
    ground *= brightness(x[row:], y[row:], shade, dim)[..., None]
    depth = end / (camera.cos - camera.sin * v[:row] / camera.focal)
    wall = _wall(stream, depth * u / camera.focal, camera.height - depth * drop[:row], depth / (camera.focal * height))
    picture = np.clip(np.concatenate([wall, ground]), 0, 255)

    # slow changes of the light over the image: a gradient, vignetting, lamps
    light = 1 + stream.uniform(-0.25, 0.25) * u + stream.uniform(-0.25, 0.25) * v
    light -= stream.uniform(0.0, 0.35) * (u * u + v * v)
    for _ in range(stream.integer(0, 3)):
        p, q, spread = u - stream.uniform(-0.9, 0.9), 2 * (v - stream.uniform(-0.5, 0.4)), stream.uniform(0.02, 0.15)
        light += stream.uniform(0.1, 0.45) / (1 + (p * p + q * q) / spread)
    light *= stream.uniform(0.8, 1.25) / light.mean()
    tint = np.array(stream.choice(_TINTS), dtype=np.float32)
    sun, shadow = (stream.uniform(-1.0, 1.0), stream.uniform(-0.2, 0.8)), stream.uniform(0.15, 0.6)
    haze = 0.5 * _array((168, 172, 176), stream.uniform(0.5, 1.0)) + 0.5 * picture.mean(axis=(0, 1))
    return Place(picture, light[..., None] * tint, shade, dim, sun, shadow, haze)


def empty_place(scene: Scene, preset: str) -> Place:
    """The place of a scene at a preset's size; the last four are kept."""
    return _place(scene, *PRESETS[preset])

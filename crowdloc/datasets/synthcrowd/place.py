"""The empty place: ground, wall and light of a scene as a picture, and how bright each spot of the ground is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from crowdloc.datasets.synthcrowd.rng import Stream
from crowdloc.datasets.synthcrowd.scene import ASPECT, Scene
from crowdloc.datasets.synthcrowd.settings import PRESETS

_GROUNDS = (
    (150, 146, 140),
    (118, 118, 120),
    (176, 164, 146),
    (136, 126, 116),
    (98, 98, 100),
    (190, 184, 176),
    (142, 120, 104),
    (112, 122, 108),
)
_WALLS = ((170, 160, 146), (128, 98, 84), (110, 112, 118), (196, 190, 180), (84, 80, 82), (150, 136, 110))
_ACCENTS = ((178, 52, 46), (42, 82, 150), (216, 180, 70), (56, 120, 84), (230, 228, 220), (34, 36, 42), (200, 120, 60))
_LIGHTS = ((1.0, 1.0, 1.0), (1.06, 1.0, 0.9), (0.93, 0.99, 1.08), (1.1, 0.97, 0.82))


@dataclass(frozen=True, eq=False)
class Place:
    """`picture` (h, w, 3) float32 of the empty place, `light` (h, w, 3) float32 that falls on everything.

    The shade of a building covers the ground where `shade` (a, b, c): a x + b y < c, and dims it to `dim`; `sun` is
    where shadows point (metres of shadow per metre of height), `shadow` how dark they are; `haze` the distance's colour.
    """

    picture: np.ndarray
    light: np.ndarray
    shade: tuple[float, float, float]
    dim: float
    sun: tuple[float, float]
    shadow: float
    haze: np.ndarray

    def brightness(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Factor for somebody standing at (x, y)."""
        a, b, c = self.shade
        edge = np.clip((a * x + b * y - c) / 0.8 + 0.5, 0.0, 1.0)
        return self.dim + (1.0 - self.dim) * edge


def _noise(stream: Stream, size: int = 64) -> np.ndarray:
    """A (size, size) float32 field of uniform numbers in [-1, 1), to be sampled with wrap-around."""
    return stream.uniforms(size * size, -1.0, 1.0).reshape(size, size).astype(np.float32)


def _sample(field: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear look-up with wrap-around; x, y in cells."""
    size = len(field)
    padded = np.pad(field, ((0, 1), (0, 1)), mode="wrap")
    return cv2.remap(padded, np.mod(x, size).astype(np.float32), np.mod(y, size).astype(np.float32), cv2.INTER_LINEAR)


def _line(coordinate: np.ndarray, period: float, width: float, footprint: np.ndarray) -> np.ndarray:
    """How much of a pixel is covered by lines of `width` every `period`, anti-aliased over its `footprint` (metres)."""
    distance = np.abs(np.mod(coordinate + period / 2, period) - period / 2)
    return np.clip((width / 2 + footprint / 2 - distance) / footprint, 0, 1) * np.minimum(1, width / footprint)


def _ground(stream: Stream, x: np.ndarray, y: np.ndarray, footprint: np.ndarray, far: float) -> np.ndarray:
    """Colour of the ground at (x, y) metres, (h, w, 3)."""
    base = np.array(stream.choice(_GROUNDS), dtype=np.float32) * np.float32(stream.uniform(0.75, 1.12))
    tilt = stream.uniform(-0.5, 0.5)
    norm = np.sqrt(1 + tilt * tilt)
    a, b = (x + tilt * y) / norm, (y - tilt * x) / norm
    fine, coarse = _noise(stream), _noise(stream, 32)
    fade = np.clip(0.12 / footprint, 0, 1)
    value = (
        1
        + stream.uniform(0.03, 0.12) * _sample(coarse, x * 0.35 + 7, y * 0.35)
        + 0.06 * _sample(coarse, y * 1.3, x * 1.3)
    )
    value += stream.uniform(0.03, 0.10) * fade * _sample(fine, x * 9.0, y * 9.0)
    pattern = stream.choice(("tiles", "slabs", "asphalt", "stripes", "checks"))
    if pattern in ("tiles", "slabs", "checks"):
        side = stream.uniform(0.4, 0.8) if pattern == "tiles" else stream.uniform(0.9, 2.2)
        cells = _noise(stream)
        cell = cells[np.floor(a / side).astype(np.int64) % 64, np.floor(b / side).astype(np.int64) % 64]
        if pattern == "checks":
            cell = np.where((np.floor(a / side) + np.floor(b / side)) % 2 > 0, 1.0, -1.0)
        value += np.clip(0.5 * side / footprint, 0, 1) * stream.uniform(0.02, 0.10) * cell
        joint = np.maximum(_line(a, side, 0.03, footprint), _line(b, side, 0.03, footprint * 1.6))
        value -= stream.uniform(0.1, 0.35) * joint
    elif pattern == "stripes":
        value += stream.uniform(0.06, 0.2) * np.where(np.mod(a, stream.uniform(2.0, 5.0)) < 1.0, 1.0, -0.2)
    colour = value[..., None] * base
    if stream.uniform() < 0.45:  # a zebra crossing or a painted band
        begin, deep = stream.uniform(0.1 * far, 0.7 * far), stream.uniform(1.5, 3.5)
        band = (y > begin) & (y < begin + deep) & (np.mod(x, 1.0) < 0.5)
        colour += (band * np.float32(stream.uniform(25, 60)))[..., None]
    for _ in range(stream.integer(1, 4)):  # lawns, beds, mats, wet patches
        cx, cy, rx, ry = (
            stream.uniform(-8, 8),
            stream.uniform(0.2 * far, 1.1 * far),
            stream.uniform(0.5, 3),
            stream.uniform(0.5, 2.5),
        )
        power = stream.choice((2, 8))
        inside = ((np.abs(x - cx) / rx) ** power + (np.abs(y - cy) / ry) ** power) < 1
        tone = np.array(stream.choice((*_GROUNDS, (70, 96, 52), (60, 60, 64), (60, 88, 48))), dtype=np.float32)
        amount = np.float32(stream.uniform(0.25, 0.8)) * inside[..., None]
        colour = colour * (1 - amount) + amount * tone * value[..., None]
    spots = _sample(fine, x * 2.1 + 11, y * 2.1)  # chewing gum, drain covers, leaves: round dark spots
    return colour * (1 - 0.35 * np.clip((spots - 0.82) * 8, 0, 1) * fade)[..., None]


def _wall(stream: Stream, x: np.ndarray, z: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Colour of the wall behind the crowd at x, z metres: windows, doors, posters, signs."""
    base = np.array(stream.choice(_WALLS), dtype=np.float32) * np.float32(stream.uniform(0.6, 1.1))
    rough = _noise(stream)
    value = 1 + 0.10 * _sample(rough, x * 0.8, z * 0.8) + 0.06 * _sample(rough, x * 6, z * 6)
    if stream.uniform() < 0.4:
        value -= 0.2 * np.maximum(_line(z, 0.3, 0.03, footprint), _line(x, 0.6, 0.03, footprint))
    colour = value[..., None] * base
    period, sill, top = stream.uniform(1.4, 4.5), stream.uniform(0.0, 1.0), stream.uniform(2.1, 3.0)
    width = period * stream.uniform(0.45, 0.85)
    number = np.floor(x / period).astype(np.int64)
    across, up = np.mod(x, period), np.mod(z, 3.6)
    glass = np.array(stream.choice(((46, 54, 64), (30, 32, 36), (222, 206, 160), (120, 140, 150))), dtype=np.float32)
    shine = _sample(_noise(stream), x * 1.7, z * 1.3) * 0.25 + 1
    pane = (across < width) & (up > sill) & (up < top)
    colour = np.where(pane[..., None], shine[..., None] * glass, colour)
    frame = pane & ((np.minimum(across, width - across) < 0.08) | (up - sill < 0.08) | (top - up < 0.08))
    colour = np.where(frame[..., None], base * 0.6, colour)
    accents = np.array([stream.choice(_ACCENTS) for _ in range(8)], dtype=np.float32)
    poster = (
        (np.mod(number, 3) == 0)
        & (across > 0.2 * width)
        & (across < 0.7 * width)
        & (up > sill + 0.2)
        & (up < top - 0.2)
    )
    colour = np.where(poster[..., None], accents[number % 8] * (0.8 + 0.2 * shine[..., None]), colour)
    sign = (np.mod(number, 2) == 1) & (up > top) & (up < top + 0.5) & (across < width)
    return np.where(sign[..., None], accents[(number + 3) % 8], colour)


@lru_cache(maxsize=4)
def _place(scene: Scene, size: tuple[int, int]) -> Place:
    height, width = size
    stream, camera = scene.place_stream("place"), scene.camera
    u = ((np.arange(width, dtype=np.float32) + 0.5) / width - 0.5)[None] * np.float32(ASPECT)
    v = ((np.arange(height, dtype=np.float32) + 0.5) / height - 0.5)[:, None]
    drop = camera.sin + camera.cos * v / camera.focal  # metres below the camera per metre of depth
    depth = np.clip(camera.height / np.maximum(drop, 1e-3), 0, 200).astype(np.float32)
    x, y = depth * u / camera.focal, np.broadcast_to((depth - camera.height * camera.sin) / camera.cos, (height, width))
    footprint = np.broadcast_to(
        depth / (camera.focal * height) * np.maximum(1.0, 0.5 / np.maximum(drop, 0.05)), (height, width)
    )
    picture = _ground(stream, x, y.astype(np.float32), footprint.astype(np.float32), scene.far)

    end = scene.far + stream.uniform(0.8, 3.5)
    ahead = np.maximum(camera.cos - camera.sin * v / camera.focal, 1e-3)
    depth = end / ahead
    z = np.broadcast_to(camera.height - depth * drop, (height, width)).astype(np.float32)
    wall = _wall(
        stream,
        (depth * u / camera.focal).astype(np.float32),
        z,
        np.broadcast_to(depth / (camera.focal * height), (height, width)),
    )
    picture = np.where((y > end)[..., None], wall, picture)

    # slow changes of the light over the image: lamps, vignette, a gradient
    slope_u, slope_v = stream.uniform(-0.25, 0.25), stream.uniform(-0.25, 0.25)
    light = 1 + slope_u * u + slope_v * v - stream.uniform(0.0, 0.35) * (u * u + v * v)
    for _ in range(stream.integer(0, 3)):
        lu, lv, spread = stream.uniform(-0.9, 0.9), stream.uniform(-0.5, 0.4), stream.uniform(0.02, 0.15)
        light = light + stream.uniform(0.1, 0.45) / (1 + ((u - lu) ** 2 + (2 * (v - lv)) ** 2) / spread)
    light = light / light.mean() * stream.uniform(0.8, 1.25)
    tint = np.array(stream.choice(_LIGHTS), dtype=np.float32)

    angle = stream.uniform(-1.0, 1.0)
    shade = (angle, stream.choice((-1.0, 1.0)), 0.0)
    middle = 0.5 * (scene.near + scene.far)
    shade = (shade[0], shade[1], shade[1] * middle + stream.uniform(-0.4, 0.3) * (scene.far - scene.near))
    dim = stream.uniform(0.45, 0.8) if stream.uniform() < 0.4 else 1.0
    sun = (stream.uniform(-1.0, 1.0), stream.uniform(-0.2, 0.8))
    haze = (
        np.array((168, 172, 176), dtype=np.float32) * np.float32(stream.uniform(0.5, 1.0)) * 0.5
        + picture.mean(axis=(0, 1)) * 0.5
    )
    place = Place(
        picture, (light[..., None] * tint).astype(np.float32), shade, dim, sun, stream.uniform(0.15, 0.6), haze
    )
    on_ground = np.where(y > end, 1.0, place.brightness(x, y))
    return Place(
        np.clip(picture * on_ground[..., None], 0, 255).astype(np.float32),
        place.light,
        shade,
        dim,
        sun,
        place.shadow,
        haze,
    )


def empty_place(scene: Scene, preset: str) -> Place:
    """The place of a scene at a preset's size; the last four are kept."""
    return _place(scene, PRESETS[preset])

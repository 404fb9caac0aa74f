"""Figures as convex polygons: the same list of parts for every figure, computed for all figures at once."""

from __future__ import annotations

import cv2
import numpy as np

from crowdloc.datasets.synthcrowd.place import Place, brightness
from crowdloc.datasets.synthcrowd.rng import wave
from crowdloc.datasets.synthcrowd.scene import (
    BOLLARD,
    GLOBE,
    HEAD_PLANE,
    LOOKALIKE,
    PLANT,
    SACK,
    SIGN,
    Scene,
    positions,
)  # fmt: skip
from crowdloc.datasets.synthcrowd.settings import FPS

_SHIFT = 4  # polygon corners are given to OpenCV in 1/16 px
# dark and dull clothes prevail; trousers come from the first ten
_CLOTHES = np.array(
    [(28, 30, 36), (24, 24, 28), (44, 48, 62), (70, 72, 78), (36, 48, 78), (52, 56, 66), (108, 112, 118), (40, 38, 40),
     (84, 92, 104), (150, 146, 138), (206, 204, 198), (88, 36, 38), (60, 66, 84), (58, 68, 58), (110, 94, 76),
     (176, 160, 136), (78, 100, 130), (168, 150, 92), (96, 62, 82), (222, 218, 212), (150, 60, 52)],
    dtype=np.float64,
)  # fmt: skip
_HAIR = np.array(
    [
        (26, 22, 20),
        (34, 28, 24),
        (58, 42, 30),
        (92, 66, 42),
        (22, 20, 22),
        (150, 120, 78),
        (128, 124, 120),
        (46, 34, 28),
    ],
    dtype=np.float64,
)
_SKIN = np.array(
    [(226, 184, 156), (206, 160, 130), (178, 132, 104), (140, 98, 74), (96, 66, 50), (216, 172, 142)], dtype=np.float64
)
_MATERIAL = {
    BOLLARD: ((52, 54, 58), (150, 150, 148), (176, 156, 80), (96, 66, 50)),
    GLOBE: ((226, 220, 200), (206, 184, 150), (140, 98, 74)),
    SIGN: ((60, 80, 132), (150, 64, 60), (206, 160, 130), (60, 60, 60)),
    SACK: ((36, 34, 36), (92, 66, 42), (58, 42, 30), (128, 124, 120)),
    PLANT: ((46, 62, 34), (58, 42, 30), (34, 46, 30), (70, 66, 40)),
}
_CIRCLE = np.array(
    [(1.0, 0.0), (0.866, 0.5), (0.5, 0.866), (0.0, 1.0), (-0.5, 0.866), (-0.866, 0.5),
     (-1.0, 0.0), (-0.866, -0.5), (-0.5, -0.866), (0.0, -1.0), (0.5, -0.866), (0.866, -0.5)]
)  # fmt: skip
Length = np.ndarray | float
Spot = tuple[Length, Length]  # share of the way from foot (0) to head centre (1), metres to the right


def _pick(palette: np.ndarray, chance: np.ndarray) -> np.ndarray:
    return palette[(chance * len(palette)).astype(np.int64)]


class Painter:
    """Draws the figures of frame number `t` on a canvas of `size` (height, width), those in view, far to near."""

    def __init__(self, scene: Scene, t: int, place: Place, size: tuple[int, int]) -> None:
        height, width = size
        camera, figures, self.place = scene.camera, scene.figures, place
        x, y, head_z, face_x, face_y = positions(figures, t, scene.reach, scene.near, scene.far)

        def pixels(right: np.ndarray, away: np.ndarray, up: Length) -> tuple[np.ndarray, np.ndarray]:
            u, v, depth = camera.project(right, away, up)
            return np.stack([u * height + (width / 2 - 0.5), v * height + (height / 2 - 0.5)], axis=-1), depth

        head, depth = pixels(x, y, head_z)
        foot, distance = pixels(x, y, 0.0)
        metre = camera.focal * height / depth  # canvas pixels per metre at the head
        shown = (
            (abs(head[:, 0] - width / 2) < width / 2 + 2.5 * metre)
            & (head[:, 1] < height + metre)
            & (foot[:, 1] > -metre)
        )
        order = np.lexsort((np.arange(len(x)), -distance))
        self.keep = keep = order[shown[order]]
        self.head, self.foot, self.metre, self.figures = head[keep], foot[keep], metre[keep], figures
        x, y, face_x, face_y = x[keep], y[keep], face_x[keep], face_y[keep]
        self.kind, self.look, self.half = figures.kind[keep], figures.look[keep], figures.half_width[keep]
        self.radius = figures.radius[keep] * self.metre
        stature, phase = figures.stature[keep], figures.phase[keep]
        self.shadow_tip = pixels(x + place.sun[0] * stature, y + place.sun[1] * stature, 0.0)[0]
        # facing to the right of the image, and towards the camera
        away = np.sqrt(x * x + y * y)
        self.right, self.front = (face_x * y - face_y * x) / away, -(face_x * x + face_y * y) / away
        walking = (figures.vx[keep] != 0) | (figures.vy[keep] != 0)
        step = wave(phase * 5.0 + (t / FPS) * (0.95 * figures.rate[keep]))
        self.stride = np.where(walking, step, np.where(self.kind == LOOKALIKE, 0.7 * wave(phase * 7.0), 0.0))
        begin, end = (row * camera.cos + (camera.height - HEAD_PLANE) * camera.sin for row in (scene.near, scene.far))
        low, high = scene.difficulty.far_contrast
        fading = 1.0 - (low + (high - low) * scene.place_stream("haze").uniform())
        self.haze = fading * np.clip((depth[keep] - begin) / (end - begin), 0, 1)[:, None]
        self.light = brightness(x, y, place.shade, place.dim)[:, None]
        self.parts: list[tuple[np.ndarray, list[list[float]], np.ndarray]] = []

    def _add(self, who: np.ndarray, colour: np.ndarray, factor: Length, polygons: np.ndarray) -> None:
        """Append a part: `who` has it, its surface colour (n, 3) times `factor`, its corners (n, k, 2)."""
        lit = colour * self.light * np.reshape(factor, (-1, 1))
        seen = lit * (1 - self.haze) + self.place.haze * self.haze * (0.5 + 0.5 * self.light)
        corners = np.rint(np.clip(polygons, -4000, 8000) * 2**_SHIFT).astype(np.int32)
        self.parts.append((corners, np.clip(seen, 0, 255).tolist(), who))

    def _at(self, up: Length, across: Length) -> np.ndarray:
        """Canvas points (n, 2) of a spot of the body, whose axis runs straight from foot to head centre."""
        point = self.head + (self.foot - self.head) * (1 - np.reshape(up, (-1, 1)))
        point[:, 0] += across * self.metre
        return point

    def _shape(self, who: np.ndarray, colour: np.ndarray, factor: Length, *corners: Spot) -> None:
        self._add(who, colour, factor, np.stack([self._at(*corner) for corner in corners], axis=1))

    def _round(
        self, who: np.ndarray, colour: np.ndarray, factor: Length, centre: np.ndarray, rx: Length, ry: Length
    ) -> None:
        radii = np.stack(np.broadcast_arrays(rx, ry), axis=-1)
        self._add(who, colour, factor, centre[:, None] + _CIRCLE * radii[:, None])

    def _near_head(self, right: Length, down: Length) -> np.ndarray:
        """Points (n, 2) given in head radii from the head's centre."""
        return self.head + np.stack(np.broadcast_arrays(right * self.radius, down * self.radius), axis=-1)

    def _people(self) -> None:
        """Legs, skirt, arms, body, rucksack, shoulders, neck, head with hair or cap, face."""
        look, r, m = self.look, self.radius, self.metre
        body = self.kind <= LOOKALIKE
        coat, spare, trousers = (
            _pick(_CLOTHES, look[:, 0]),
            _pick(_CLOTHES, look[:, 5]),
            _pick(_CLOTHES[:10], look[:, 1]),
        )
        hair, skin = _pick(_HAIR, look[:, 2]), _pick(_SKIN, look[:, 3])
        wide = self.half * (0.62 + 0.38 * abs(self.front))  # narrower from the side
        lit = 1.0 if self.place.sun[0] < 0 else -1.0  # the side that the light comes from
        swing = 0.20 * self.stride * self.right
        for side in (-1.0, 1.0):
            hip, foot = side * 0.085, side * (0.07 + 0.03 * abs(self.front) + swing)
            lift = 0.06 * np.maximum(side * self.stride, 0)
            self._shape(body, trousers, 0.85 + 0.1 * side,
                        (0.52, hip - 0.085), (0.52, hip + 0.085), (lift, foot + 0.06), (lift, foot - 0.06))  # fmt: skip
            self._round(body, trousers, 0.4, self._at(lift, foot), 0.09 * m, 0.05 * m)
        skirt = body & (look[:, 6] < 0.18)
        self._shape(skirt, coat, 0.8, (0.6, -wide * 0.7), (0.6, wide * 0.7), (0.28, wide * 0.95), (0.28, -wide * 0.95))
        sleeve = np.where((look[:, 5] < 0.3)[:, None], skin, coat)
        for side in (-1.0, 1.0):
            hand = side * (wide + 0.02 - swing)
            self._shape(body, sleeve, 0.82 if side == lit else 0.62, (0.84, side * wide * 0.98),
                        (0.84, side * wide * 0.55), (0.47, hand - 0.045), (0.47, hand + 0.045))  # fmt: skip
        hem = np.where(look[:, 7] < 0.3, 0.36, 0.47)  # coats reach lower than jackets
        self._shape(body, coat, 1.0, (0.89, -wide * 0.45), (0.89, wide * 0.45), (0.83, wide), (hem + 0.1, wide * 0.82),
                    (hem, wide * 0.78), (hem, -wide * 0.78), (hem + 0.1, -wide * 0.82), (0.83, -wide))  # fmt: skip
        dark = -lit * wide
        self._shape(body, coat, 0.74, (0.87, dark * 0.4), (0.83, dark), (hem, dark * 0.78), (hem, dark * 0.2))
        pack = body & (look[:, 4] < 0.16) & (self.front < 0.3)
        w = wide * 0.6
        self._shape(pack, spare, 1.0, (0.82, -w), (0.82, w), (0.55, w), (0.55, -w))
        self._round(body, coat, 1.13, self._at(0.855, 0.0), wide * 0.86 * m, 0.07 * m)
        self._round(body, skin, 0.7, self._near_head(0.0, 0.85), 0.55 * r, 0.5 * r)
        cover = np.where((look[:, 4] > 0.86)[:, None], spare, hair)
        self._round(body, cover, 1.0, self.head, 0.86 * r, 1.02 * r)
        seen = body & (self.front > -0.35)
        breadth = 0.66 * np.clip(0.64 + 0.55 * self.front, 0.35, 1)
        face = self._near_head(0.38 * self.right, 0.20 + 0.08 * self.front)
        self._round(seen, skin, 1.0, face, breadth * r, 0.72 * r)
        self._round(seen, cover, 1.0, self._near_head(0.1 * self.right, -0.52), 0.74 * r, 0.46 * r)
        self._round(body, cover * 0.8 + 40.0, 1.0, self._near_head(0.3 * lit, -0.5), 0.32 * r, 0.28 * r)

    def _things(self) -> None:
        """A stand, sometimes a shoulder, and a ball, disc or crown where a person has the head."""
        look, r, m, wide = self.look, self.radius, self.metre, self.half
        thing = self.kind > LOOKALIKE
        ball = np.zeros((len(look), 3))
        for kind, palette in _MATERIAL.items():
            ball = np.where((self.kind == kind)[:, None], _pick(np.array(palette, dtype=np.float64), look[:, 0]), ball)
        stand = np.where((look[:, 1] < 0.5)[:, None], ball * 0.8, _pick(_CLOTHES, look[:, 2]))
        base = wide * (1.0 + 0.35 * look[:, 3])
        self._round(thing, stand, 0.5, self.foot, 1.25 * wide * m, 0.5 * wide * m)
        self._shape(thing, stand, 1.0, (0.94, -wide), (0.94, wide), (0.0, base), (0.0, -base))
        self._shape(thing, stand, 0.72, (0.94, 0.2 * wide), (0.94, wide), (0.0, base), (0.0, 0.2 * base))
        broad = (self.kind == SACK) | (self.kind == PLANT) | ((self.kind == BOLLARD) & (look[:, 4] < 0.5))
        self._round(broad, stand, 0.95, self._at(0.8, 0.0), 1.25 * wide * m, 0.09 * m)
        self._round(thing, ball, 1.0, self.head, r, r)
        self._round(thing, ball, 0.8 + 0.35 * look[:, 5], self._near_head(0.2, 0.3), 0.62 * r, 0.6 * r)
        self._round(thing, ball * 0.8 + 45.0, 1.0, self._near_head(-0.3, -0.45), 0.35 * r, 0.3 * r)

    def draw(self, canvas: np.ndarray) -> None:
        """Draw onto an RGB canvas."""
        self._people()
        self._things()
        for i in range(len(self.keep)):
            for corners, colours, who in self.parts:
                if who[i]:
                    cv2.fillConvexPoly(canvas, corners[i], colours[i], cv2.LINE_AA, _SHIFT)

    def draw_shadows(self, mask: np.ndarray, reduce: int) -> None:
        """Draw cast and contact shadows into `mask` (uint8), whose pixels are `reduce` canvas pixels wide."""
        reach = self.shadow_tip - self.foot
        length = np.sqrt((reach * reach).sum(axis=1, keepdims=True)) + 1e-6
        side = np.stack([-reach[:, 1], reach[:, 0]], axis=-1) / length * (0.75 * self.half * self.metre)[:, None]
        cast = np.stack(
            [self.foot - 0.7 * side, self.foot + 0.7 * side, self.shadow_tip + side, self.shadow_tip - side], 1
        )
        contact = self.foot[:, None] + _CIRCLE * (np.array([0.30, 0.14]) * self.metre[:, None])[:, None]
        for polygons, value in ((cast, 150), (contact, 255)):
            for corners in np.rint(np.clip(polygons, -4000, 8000) * (2**_SHIFT / reduce)).astype(np.int32):
                cv2.fillConvexPoly(mask, corners, value, cv2.LINE_8, _SHIFT)

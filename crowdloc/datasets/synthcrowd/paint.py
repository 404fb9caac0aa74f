"""Figures as convex polygons: for every figure the same list of parts, computed for all figures at once."""

from __future__ import annotations

import cv2
import numpy as np

from crowdloc.datasets.synthcrowd.place import Place
from crowdloc.datasets.synthcrowd.rng import wave
from crowdloc.datasets.synthcrowd.scene import BOLLARD, GLOBE, LOOKALIKE, PERSON, PLANT, SACK, SIGN, Scene, positions
from crowdloc.datasets.synthcrowd.settings import FPS

_SHIFT = 4  # polygon corners are given to OpenCV in 1/16 px
_CLOTHES = np.array(
    [
        (28, 30, 36),
        (24, 24, 28),
        (44, 48, 62),
        (70, 72, 78),
        (36, 48, 78),
        (52, 56, 66),
        (108, 112, 118),
        (40, 38, 40),
        (84, 92, 104),
        (150, 146, 138),
        (206, 204, 198),
        (88, 36, 38),
        (60, 66, 84),
        (58, 68, 58),
        (110, 94, 76),
        (176, 160, 136),
        (78, 100, 130),
        (168, 150, 92),
        (96, 62, 82),
        (222, 218, 212),
        (150, 60, 52),
    ],
    dtype=np.float64,
)  # dark and dull ones prevail; trousers come from the first ten
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
    BOLLARD: ((52, 54, 58), (150, 150, 148), (196, 170, 50), (96, 66, 50)),
    GLOBE: ((232, 226, 206), (206, 184, 150), (140, 98, 74)),
    SIGN: ((40, 70, 150), (170, 40, 40), (206, 160, 130), (60, 60, 60)),
    SACK: ((36, 34, 36), (92, 66, 42), (58, 42, 30), (128, 124, 120)),
    PLANT: ((46, 62, 34), (58, 42, 30), (34, 46, 30), (70, 66, 40)),
}
_CIRCLE = np.array(
    [
        (1.0, 0.0),
        (0.9239, 0.3827),
        (0.7071, 0.7071),
        (0.3827, 0.9239),
        (0.0, 1.0),
        (-0.3827, 0.9239),
        (-0.7071, 0.7071),
        (-0.9239, 0.3827),
        (-1.0, 0.0),
        (-0.9239, -0.3827),
        (-0.7071, -0.7071),
        (-0.3827, -0.9239),
        (0.0, -1.0),
        (0.3827, -0.9239),
        (0.7071, -0.7071),
        (0.9239, -0.3827),
    ]
)


def _pick(palette: np.ndarray, chance: np.ndarray) -> np.ndarray:
    return palette[(chance * len(palette)).astype(np.int64)]


class Painter:
    """Polygons and colours of all figures of a frame on a canvas of `size` (height, width)."""

    def __init__(self, scene: Scene, t: int, place: Place, size: tuple[int, int]) -> None:
        height, width = size
        figures, camera = scene.figures, scene.camera
        self.figures, self.place = figures, place
        self.x, self.y, head_z, face_x, face_y = positions(figures, t, scene.reach, scene.near, scene.far)
        self._pixel = lambda u, v: np.stack([u * height + (width / 2 - 0.5), v * height + (height / 2 - 0.5)], axis=-1)
        zero = np.zeros(len(figures))
        u, v, self.depth = camera.project(self.x, self.y, head_z)
        self.head = self._pixel(u, v)
        u, v, self.far = camera.project(self.x, self.y, zero)
        self.foot = self._pixel(u, v)
        self.metre = camera.focal * height / self.depth  # canvas pixels per metre at the head
        self.axis = self.foot - self.head  # from head to foot
        self.drop = head_z
        u, v, _ = camera.project(self.x + place.sun[0] * figures.stature, self.y + place.sun[1] * figures.stature, zero)
        self.shadow_tip = self._pixel(u, v)
        # facing in the image: to the right, and towards the camera
        away = np.sqrt(self.x * self.x + self.y * self.y)
        self.right = (face_x * self.y - face_y * self.x) / away
        self.front = -(face_x * self.x + face_y * self.y) / away
        walking = (figures.vx != 0) | (figures.vy != 0)
        still = np.where(figures.kind == LOOKALIKE, 0.35, 0.0)
        self.stride = np.where(walking, wave(figures.phase * 5.0 + (t / FPS) * (0.95 * figures.rate)), still)
        far_depth = (
            camera.ground(0.0)[1] if scene.far <= 0 else scene.far * camera.cos + (camera.height - 1.6) * camera.sin
        )
        near_depth = scene.near * camera.cos + (camera.height - 1.6) * camera.sin
        share = np.clip((self.depth - near_depth) / (far_depth - near_depth), 0, 1)
        low, high = scene.difficulty.far_contrast
        fading = 1.0 - (low + (high - low) * scene.place_stream("haze").uniform())
        self.haze = (fading * share)[:, None]
        self.light = place.brightness(self.x, self.y)[:, None]

    def shade(self, colour: np.ndarray, factor: float | np.ndarray = 1.0) -> np.ndarray:
        """A surface colour (n, 3) as it looks in this light and at this distance."""
        lit = colour * self.light * np.reshape(factor, (-1, 1))
        return lit * (1 - self.haze) + self.place.haze * self.haze * (0.5 + 0.5 * self.light)

    def at(self, height: float | np.ndarray, across: float | np.ndarray = 0.0) -> np.ndarray:
        """Canvas point (n, 2) at a share of the way from foot (0) to head centre (1), `across` metres to the right."""
        up = np.broadcast_to(np.asarray(height, dtype=np.float64), (len(self.head),))[:, None]
        point = self.head + self.axis * (1 - up)
        return point + np.stack(
            [np.broadcast_to(across, (len(self.head),)) * self.metre, np.zeros(len(self.head))], axis=-1
        )

    def ellipse(self, centre: np.ndarray, rx: np.ndarray, ry: np.ndarray) -> np.ndarray:
        """Polygons (n, 16, 2) of ellipses with radii in canvas pixels."""
        return centre[:, None] + _CIRCLE * np.stack([rx, ry], axis=-1)[:, None]

    def quad(self, *corners: np.ndarray) -> np.ndarray:
        return np.stack(corners, axis=1)

    def people_parts(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(polygons (n, k, 2), colours (n, 3), which figures have it), first to last, of people and look-alikes."""
        f, look = self.figures, self.figures.look
        body = (f.kind == PERSON) | (f.kind == LOOKALIKE)
        coat, trousers = _pick(_CLOTHES, look[:, 0]), _pick(_CLOTHES[:10], look[:, 1])
        hair, skin = _pick(_HAIR, look[:, 2]), _pick(_SKIN, look[:, 3])
        wide = f.half_width * (0.62 + 0.38 * abs(self.front))  # narrower from the side
        r = f.radius * self.metre
        swing = 0.20 * self.stride
        parts = []
        for side in (-1.0, 1.0):
            hip, foot = side * 0.085, side * (0.07 + 0.03 * abs(self.front)) + side * swing * self.right
            lift = 0.06 * np.maximum(side * self.stride, 0)
            parts.append(
                (
                    self.quad(
                        self.at(0.52, hip - 0.085),
                        self.at(0.52, hip + 0.085),
                        self.at(lift, foot + 0.06),
                        self.at(lift, foot - 0.06),
                    ),
                    self.shade(trousers, 0.85 + 0.1 * side),
                    body,
                )
            )
            parts.append(
                (
                    self.ellipse(self.at(lift, foot), 0.09 * self.metre, 0.05 * self.metre),
                    self.shade(trousers, 0.4),
                    body,
                )
            )
        skirt = body & (look[:, 6] < 0.18)
        parts.append(
            (
                self.quad(
                    self.at(0.6, -wide * 0.7),
                    self.at(0.6, wide * 0.7),
                    self.at(0.28, wide * 0.95),
                    self.at(0.28, -wide * 0.95),
                ),
                self.shade(coat, 0.8),
                skirt,
            )
        )
        long = np.where(look[:, 7] < 0.3, 0.36, 0.47)  # coats reach lower than jackets
        torso = self.quad(
            self.at(0.89, -wide * 0.45),
            self.at(0.89, wide * 0.45),
            self.at(0.83, wide),
            self.at(long + 0.1, wide * 0.82),
            self.at(long, wide * 0.78),
            self.at(long, -wide * 0.78),
            self.at(long + 0.1, -wide * 0.82),
            self.at(0.83, -wide),
        )
        lit_side = 1.0 if self.place.sun[0] < 0 else -1.0
        for side in (-1.0, 1.0):
            hand = side * (wide + 0.02) - side * swing * self.right
            sleeve = np.where((look[:, 5] < 0.3)[:, None], skin, coat)
            parts.append(
                (
                    self.quad(
                        self.at(0.84, side * wide * 0.98),
                        self.at(0.84, side * wide * 0.55),
                        self.at(0.47, hand - 0.045),
                        self.at(0.47, hand + 0.045),
                    ),
                    self.shade(sleeve, 0.82 if side == lit_side else 0.62),
                    body,
                )
            )
        parts.append((torso, self.shade(coat), body))
        parts.append(
            (
                self.quad(
                    self.at(0.87, -lit_side * wide * 0.4),
                    self.at(0.83, -lit_side * wide),
                    self.at(long, -lit_side * wide * 0.78),
                    self.at(long, -lit_side * wide * 0.2),
                ),
                self.shade(coat, 0.74),
                body,
            )
        )
        pack = body & (look[:, 4] < 0.16) & (self.front < 0.3)
        parts.append(
            (
                self.quad(
                    self.at(0.82, -wide * 0.6),
                    self.at(0.82, wide * 0.6),
                    self.at(0.55, wide * 0.65),
                    self.at(0.55, -wide * 0.65),
                ),
                self.shade(_pick(_CLOTHES, look[:, 5])),
                pack,
            )
        )
        parts.append(
            (self.ellipse(self.at(0.855), wide * 0.86 * self.metre, 0.07 * self.metre), self.shade(coat, 1.13), body)
        )
        parts.append(
            (self.ellipse(self.head + np.stack([0 * r, 0.85 * r], -1), 0.55 * r, 0.5 * r), self.shade(skin, 0.7), body)
        )
        hat = look[:, 4] > 0.86
        cover = np.where(hat[:, None], _pick(_CLOTHES, look[:, 5]), hair)
        parts.append((self.ellipse(self.head, 0.86 * r, 1.02 * r), self.shade(cover), body))
        seen = body & (self.front > -0.35)
        offset = np.stack([0.38 * r * self.right, r * (0.20 + 0.08 * self.front)], axis=-1)
        face_width = 0.66 * r * np.clip(0.45 + 0.55 * (self.front + 0.35), 0.35, 1)
        parts.append((self.ellipse(self.head + offset, face_width, 0.72 * r), self.shade(skin), seen))
        fringe = self.head + np.stack([0.1 * r * self.right, -0.52 * r], -1)
        parts.append((self.ellipse(fringe, 0.74 * r, 0.46 * r), self.shade(cover), seen))
        glint = self.head + np.stack([-0.3 * r * lit_side * -1, -0.5 * r], -1)
        parts.append((self.ellipse(glint, 0.32 * r, 0.28 * r), self.shade(cover * 0.8 + 40.0), body))
        return parts

    def object_parts(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The same for things: a stand, a shoulder, and a ball, disc or crown where a person has the head."""
        f, look = self.figures, self.figures.look
        thing = f.kind >= BOLLARD
        ball = np.zeros((len(f), 3))
        for kind, palette in _MATERIAL.items():
            ball = np.where((f.kind == kind)[:, None], _pick(np.array(palette, dtype=np.float64), look[:, 0]), ball)
        stand = np.where((look[:, 1] < 0.5)[:, None], ball * 0.8, _pick(_CLOTHES, look[:, 2]))
        r, wide = f.radius * self.metre, f.half_width
        lean = 1.0 + 0.35 * look[:, 3]
        parts = [
            (self.ellipse(self.foot, 1.25 * wide * self.metre, 0.5 * wide * self.metre), self.shade(stand, 0.5), thing),
            (
                self.quad(
                    self.at(0.94, -wide), self.at(0.94, wide), self.at(0.0, wide * lean), self.at(0.0, -wide * lean)
                ),
                self.shade(stand),
                thing,
            ),
            (
                self.quad(
                    self.at(0.94, 0.2 * wide), self.at(0.94, wide), self.at(0.0, wide * lean), self.at(0.0, 0.2 * wide)
                ),
                self.shade(stand, 0.72),
                thing,
            ),
        ]
        broad = thing & ((f.kind == SACK) | (f.kind == PLANT) | ((f.kind == BOLLARD) & (look[:, 4] < 0.5)))
        parts.append(
            (self.ellipse(self.at(0.8), 1.25 * wide * self.metre, 0.09 * self.metre), self.shade(stand, 0.95), broad)
        )
        parts.append((self.ellipse(self.head, r, r), self.shade(ball), thing))
        parts.append(
            (
                self.ellipse(self.head + np.stack([0.2 * r, 0.3 * r], -1), 0.62 * r, 0.6 * r),
                self.shade(ball, 0.8 + 0.35 * look[:, 5]),
                thing,
            )
        )
        parts.append(
            (
                self.ellipse(self.head + np.stack([-0.3 * r, -0.45 * r], -1), 0.35 * r, 0.3 * r),
                self.shade(ball * 0.8 + 45.0),
                thing,
            )
        )
        return parts

    def shadows(self, mask: np.ndarray, reduce: int) -> None:
        """Draw cast and contact shadows as 255 into `mask`, whose pixels are `reduce` canvas pixels."""
        reach = self.shadow_tip - self.foot
        length = np.sqrt((reach * reach).sum(axis=1, keepdims=True)) + 1e-6
        normal = np.stack([-reach[:, 1], reach[:, 0]], axis=-1) / length
        half = (self.figures.half_width * 0.75 * self.metre)[:, None]
        cast = self.quad(
            self.foot - normal * half * 0.7,
            self.foot + normal * half * 0.7,
            self.shadow_tip + normal * half,
            self.shadow_tip - normal * half,
        )
        contact = self.ellipse(self.foot, 0.30 * self.metre, 0.14 * self.metre)
        for polygons, value in ((cast, 150), (contact, 255)):
            for corners in np.rint(polygons * (16.0 / reduce)).astype(np.int32):
                cv2.fillConvexPoly(mask, corners, value, cv2.LINE_8, _SHIFT)

    def draw(self, canvas: np.ndarray) -> None:
        """Draw all figures into an RGB canvas, far to near."""
        parts = [
            (np.rint(np.clip(p, -4000, 8000) * 16.0).astype(np.int32), np.clip(c, 0, 255).tolist(), m)
            for p, c, m in (*self.people_parts(), *self.object_parts())
        ]
        height, width = canvas.shape[:2]
        margin = 2.5 * self.metre
        near_view = (
            (self.head[:, 0] > -margin)
            & (self.head[:, 0] < width + margin)
            & (self.head[:, 1] < height + margin)
            & (self.foot[:, 1] > -margin)
        )
        for i in np.lexsort((np.arange(len(self.far)), -self.far)):
            if near_view[i]:
                for polygons, colours, mask in parts:
                    if mask[i]:
                        cv2.fillConvexPoly(canvas, polygons[i], colours[i], cv2.LINE_AA, _SHIFT)

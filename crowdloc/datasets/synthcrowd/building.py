"""Draw a scene: its camera, its crowd and its clutter."""

from __future__ import annotations

from functools import lru_cache
from math import sqrt

import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.synthcrowd.geometry import ASPECT, MINI, Camera, heads, inside
from crowdloc.datasets.synthcrowd.rng import Stream
from crowdloc.datasets.synthcrowd.scene import (
    BOLLARD,
    GLOBE,
    HEAD_PLANE,
    LOOKALIKE,
    PERSON,
    PLANT,
    SACK,
    SIGN,
    Figures,
    Scene,
)  # fmt: skip
from crowdloc.datasets.synthcrowd.settings import DIFFICULTY, DOMAINS, FPS, GENERATION, SPLIT_SEEDS, Difficulty

HEAD = 0.24  # diameter of a head with hair, metres
Range = tuple[float, float]
_THINGS: dict[int, tuple[Range, Range, Range]] = {  # height, radius of the top, half width of the stand, metres
    BOLLARD: ((0.9, 1.35), (0.10, 0.15), (0.07, 0.16)),
    GLOBE: ((1.7, 2.6), (0.12, 0.17), (0.03, 0.05)),
    SIGN: ((1.5, 2.1), (0.12, 0.2), (0.025, 0.04)),
    SACK: ((0.6, 1.0), (0.11, 0.16), (0.18, 0.28)),
    PLANT: ((1.0, 1.6), (0.14, 0.24), (0.12, 0.2)),
}


def _direction(stream: Stream) -> tuple[float, float]:
    """A unit vector: the rational parametrisation of the circle, with a random half."""
    u = stream.uniform(-1.0, 1.0)
    scale = stream.choice((-1.0, 1.0)) / (1.0 + u * u)
    return 2.0 * u * scale, (1.0 - u * u) * scale


def _camera(stream: Stream, near: tuple[float, float], far: tuple[float, float]) -> tuple[Camera, float]:
    """A camera that shows heads of the asked sizes, and the image row of the far end of the crowd.

    In the plane of the heads the diameter is linear in the image row v: d(v) = HEAD (f sin + v cos) / (height - plane).
    """
    lower, upper = stream.uniform(*near), stream.uniform(*far)
    row, ratio = stream.uniform(-0.46, -0.22), lower / upper
    slope = max((0.5 - ratio * row) / (ratio - 1.0), 0.2)  # focal length times the tangent of the tilt
    focal = stream.uniform(max(1.0, 1.1 * slope), max(2.2, 1.6 * slope))
    tangent = slope / focal
    cos = 1.0 / sqrt(1.0 + tangent * tangent)
    above = HEAD * cos * (slope + 0.5) * MINI[0] / lower
    return Camera(HEAD_PLANE + above, focal, tangent * cos, cos), row


class _Crowd:
    """Fills a place with figures, one row of numbers at a time, keeping a gap between them."""

    def __init__(
        self, stream: Stream, camera: Camera, bounds: tuple[float, float, float], when: float, gap: float
    ) -> None:
        self.stream, self.camera, self.bounds, self.when, self.gap = stream, camera, bounds, when, gap
        self.rows: list[list[float]] = []
        self.visible = 0
        self._taken = np.zeros((0, 2))

    def spot(self, x: float, y: float) -> bool:
        """Whether (x, y) at the reference time is inside and free; then it is taken."""
        reach, near, far = self.bounds
        if not (-reach < x < reach and near < y < far):
            return False
        dx, dy = self._taken[:, 0] - x, self._taken[:, 1] - y
        if bool((dx * dx + dy * dy < self.gap * self.gap).any()):
            return False
        self._taken = np.concatenate([self._taken, [[x, y]]])
        return True

    def add(
        self, kind: int, x: float, y: float, velocity: tuple[float, float], facing: tuple[float, float], sway: float
    ) -> None:
        """Append a figure that is at (x, y) at the reference time."""
        s = self.stream
        stature = min(max(1.69 + 0.09 * s.normal(), 1.2), 1.95) * (0.68 if s.uniform() < 0.05 else 1.0)
        radius, half_width = 0.5 * HEAD * s.uniform(0.93, 1.08), s.uniform(0.20, 0.26)
        if kind in _THINGS:
            stature, radius, half_width = (s.uniform(*limits) for limits in _THINGS[kind])
        back = self.when / FPS
        row = [kind, x - velocity[0] * back, y - velocity[1] * back, *velocity, *facing, sway, s.uniform()]
        row += [s.uniform(0.8, 1.25), stature, radius, half_width, *(s.uniform() for _ in range(8))]
        self.rows.append(row)
        point = heads(self.camera, np.array([x]), np.array([y]), np.array([stature - radius]))
        self.visible += int(inside(point)[0])

    def group(self, flows: list[tuple[float, float]], standing: float) -> None:
        """One to five people who belong together: side by side on their way, or in a circle."""
        s = self.stream
        reach, near, far = self.bounds
        size = s.choice((1, 2, 3, 4, 5), (52, 27, 12, 6, 3))
        x, y = s.uniform(-reach, reach), s.uniform(near, far)
        stands = s.uniform() < standing
        flow = s.choice(flows) if s.uniform() < 0.8 else _direction(s)
        speed = 0.0 if stands else min(max(1.15 + 0.3 * s.normal(), 0.45), 2.1)
        for member in range(size):
            if stands:
                side = _direction(s)
                at = (x + 0.45 * size * side[0] * (size > 1), y + 0.45 * size * side[1] * (size > 1))
                facing = (-side[0], -side[1]) if size > 1 else side
            else:
                abreast = 0.62 * (member % 3) + s.uniform(-0.06, 0.06)
                behind = 0.8 * (member // 3) + s.uniform(-0.2, 0.2)
                at = (x - flow[1] * abreast - flow[0] * behind, y + flow[0] * abreast - flow[1] * behind)
                facing = flow
            if self.spot(*at):
                sway = s.uniform(0.05, 0.16) if stands else s.uniform(0.01, 0.05)
                self.add(PERSON, *at, (flow[0] * speed, flow[1] * speed), facing, sway)

    def fill(self, target: int, flows: list[tuple[float, float]], standing: float) -> None:
        """Add groups until `target` heads are in view, or the place is full."""
        for _ in range(40 * target + 400):
            if self.visible >= target:
                return
            self.group(flows, standing)

    def scatter(self, kinds: tuple[int, ...], count: int) -> None:
        """Add `count` things that never move, in view; some stand in rows, as bollards do."""
        s = self.stream
        reach, near, far = self.bounds
        target, tries = self.visible + count, 0
        while self.visible < target and tries < 60 * count:
            kind, size = s.choice(kinds), 1 if s.uniform() < 0.6 else s.integer(2, 4)
            x, y, step = s.uniform(-reach, reach), s.uniform(near, far), _direction(s)
            for member in range(size):
                tries += 1
                at = (x + 1.1 * member * step[0], y + 1.1 * member * step[1])
                if self.visible < target and self.spot(*at):
                    self.add(kind, *at, (0.0, 0.0), _direction(s), 0.0)


def _table(rows: list[list[float]]) -> Figures:
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 21)
    columns = [np.ascontiguousarray(column) for column in table[:, 1:13].T]
    return Figures(table[:, 0].astype(np.int64), *columns, look=table[:, 13:])  # type: ignore[misc]


@lru_cache(maxsize=64)
def build_scene(domain: str, split: str, index: int, difficulty: Difficulty = DIFFICULTY) -> Scene:
    """The scene of a domain's split by number: a pure function of its arguments and GENERATION."""
    if domain not in DOMAINS:
        raise CrowdlocError(f"synthcrowd domain {domain!r} is unknown: choose {', '.join(DOMAINS)}")
    if split not in SPLIT_SEEDS:
        raise CrowdlocError(f"synthcrowd split {split!r} is unknown: choose {', '.join(SPLIT_SEEDS)}")
    kind = DOMAINS[domain]
    if not 0 <= index < kind.videos[split]:
        raise CrowdlocError(f"synthcrowd scene {index} is unknown: {domain}/{split} has 0 to {kind.videos[split] - 1}")
    own = (GENERATION, domain, SPLIT_SEEDS[split], index)
    place: tuple[object, ...] = (GENERATION, domain, "place", index % kind.places) if kind.places else own
    camera, row = _camera(Stream(*place, "camera"), kind.near, kind.far)
    far, depth = camera.ground(row, HEAD_PLANE)
    near = camera.ground(0.5, HEAD_PLANE)[0]
    reach = 0.5 * ASPECT * depth / camera.focal + 0.6
    bounds, when = (reach, near, far), kind.frames[split] // 2

    thing_stream = Stream(*place, "things")
    things = _Crowd(thing_stream, camera, bounds, when, 0.5)
    people_stream = Stream(*own, "people")
    crowd = _Crowd(people_stream, camera, bounds, when, kind.gap)
    target = people_stream.integer(*kind.people) + people_stream.integer(*kind.people) >> 1
    main = _direction(people_stream)
    flows = [main, (-main[0], -main[1])] + ([_direction(people_stream)] if people_stream.uniform() < 0.4 else [])
    crowd.fill(target, flows, people_stream.uniform(*kind.standing))

    # a still image could not tell a look-alike from somebody who stands, so only video has them
    typical = (kind.people[0] + kind.people[1]) // 2 if kind.places else target
    scale = typical / 10 if kind.is_video else 0.0
    things.scatter((LOOKALIKE,), int(scale * thing_stream.uniform(*difficulty.lookalikes) + 0.5))
    count = int(typical * thing_stream.uniform(*difficulty.objects) / 10 + 0.5)
    things.scatter(tuple(_THINGS), count)
    figures, people = _table(crowd.rows + things.rows), len(crowd.rows)
    return Scene(domain, split, index, place, camera, reach, near, far, figures, people, difficulty)

"""Ground truth of a frame: head points, head-shoulder boxes, track ids, in whole 1/64 pixels.

A head is annotated when its centre is inside the image and at least 8 of 21 probes spread over its disc (38 %) are
free of nearer figures. There, a figure counts as its head disc, a torso as wide as its shoulders down to the hips and
legs 0.6 times as wide. The decision is made on integers at the mini size: the same at every preset and everywhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from crowdloc.datasets.synthcrowd.geometry import UNIT, heads, inside
from crowdloc.datasets.synthcrowd.scene import SACK, Scene, positions
from crowdloc.datasets.synthcrowd.settings import DOMAINS, GENERATION, PRESETS

MIN_PROBES = 8
_GRID = np.array([(x, y) for y in range(-2, 3) for x in range(-2, 3) if x * x + y * y <= 6])  # 21 probes, 2 = 0.8 radii


@dataclass(frozen=True, eq=False)
class Annotations:
    """`points` (n, 2), `boxes` (n, 4) x1 y1 x2 y2 in 1/64 px, `track_ids` (n,): int64, in the order of the ids."""

    points: np.ndarray
    boxes: np.ndarray
    track_ids: np.ndarray


def _visible(scene: Scene, t: int) -> np.ndarray:
    """Indices of the people whose heads are inside and not hidden."""
    figures, camera = scene.figures, scene.camera
    x, y, z, _, _ = positions(figures, t, scene.reach, scene.near, scene.far)
    centre = heads(camera, x, y, z)
    foot = heads(camera, x, y, 0.0 * z)
    hip = heads(camera, x, y, 0.5 * figures.stature)
    shoulder = heads(camera, x, y, np.where(figures.kind == SACK, 0.9, 0.83) * figures.stature)
    depth = np.rint(camera.project(x, y, 0.0 * z)[2] * 2**20).astype(np.int64)
    scale = camera.focal * PRESETS["mini"][0] * UNIT / camera.project(x, y, z)[2]
    radius = np.rint(scale * figures.radius).astype(np.int64)
    half = np.rint(scale * figures.half_width).astype(np.int64)

    people = np.arange(scene.people)
    people = people[inside(centre[people])]
    if not len(people):
        return people
    reach = (half + radius)[None] + radius[people, None]
    aside = abs(centre[people, 0, None] - centre[None, :, 0])
    one, other = np.nonzero((depth[None] < depth[people, None]) & (aside <= reach))  # pairs: a person, a nearer figure
    probe = centre[people[one], None] + radius[people[one], None, None] * _GRID * 2 // 5  # (pairs, 21, 2)
    dx, dy = (probe - centre[other, None]).transpose(2, 0, 1)
    cover = dx * dx + dy * dy <= (radius * radius)[other, None]
    # the axis of a body runs straight from head to foot; floor division keeps it whole
    fall = foot - centre
    off_axis = abs(dx - dy * fall[other, 0, None] // np.maximum(fall[other, 1, None], 1))
    below_hip = probe[..., 1] > hip[other, 1, None]
    cover |= (probe[..., 1] >= shoulder[other, 1, None]) & ~below_hip & (off_axis <= half[other, None])
    cover |= below_hip & (probe[..., 1] <= foot[other, 1, None]) & (5 * off_axis <= 3 * half[other, None])
    hidden = np.zeros((len(people), len(_GRID)), dtype=bool)
    first = np.flatnonzero(np.diff(one, prepend=-1))
    if len(first):
        hidden[one[first]] = np.logical_or.reduceat(cover, first, axis=0)
    return people[(~hidden).sum(axis=1) >= MIN_PROBES]


def scene_annotations(scene: Scene, t: int, preset: str = "mini") -> Annotations:
    """Annotations of frame number `t` at the size of `preset`: a pure function of its arguments."""
    shown = _visible(scene, t)
    figures, camera = scene.figures, scene.camera
    height, width = PRESETS[preset]
    x, y, z, _, face_y = (a[shown] for a in positions(figures, t, scene.reach, scene.near, scene.far))
    size = (height, width)
    limit = np.array([width - 1, height - 1], dtype=np.int64) * UNIT
    points = np.clip(heads(camera, x, y, z, size), 0, limit)
    chest = heads(camera, x, y, 0.76 * figures.stature[shown], size)[:, 1]
    scale = camera.focal * height * UNIT / camera.project(x, y, z)[2]
    radius = np.rint(scale * figures.radius[shown] * 1.1).astype(np.int64)
    breadth = figures.half_width[shown] * (0.65 + 0.35 * abs(face_y))  # narrower from the side
    half = np.maximum(np.rint(scale * breadth).astype(np.int64), radius)
    corners = np.stack(
        [points[:, 0] - half, points[:, 1] - radius, points[:, 0] + half, np.maximum(chest, points[:, 1] + radius)], 1
    )
    return Annotations(points, np.clip(corners, 0, np.tile(limit, 2)), shown.astype(np.int64))


def annotation_text(scene: Scene, preset: str) -> str:
    """All frames of a scene as the JSON text that is stored and hashed."""
    height, width = PRESETS[preset]
    frames = []
    for number in range(DOMAINS[scene.domain].frames[scene.split]):
        found = scene_annotations(scene, number, preset)
        frames.append(
            {"boxes": found.boxes.tolist(), "points": found.points.tolist(), "track_ids": found.track_ids.tolist()}
        )
    content = {
        "difficulty": scene.difficulty.fingerprint(),
        "domain": scene.domain,
        "frames": frames,
        "height": height,
        "preset": preset,
        "scene": scene.name,
        "split": scene.split,
        "unit": f"1/{UNIT} px",
        "version": GENERATION,
        "width": width,
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n"

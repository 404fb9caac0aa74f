"""Ground truth of a frame: head points, head-shoulder boxes, track ids, in whole 1/64 pixels.

A head is annotated when its centre is inside the image and at least 8 of 21 probes spread over its disc are free
of nearer figures. There, a figure counts as its head disc, a torso as wide as its shoulders down to the hips and legs 0.6
times as wide. The decision is made on integers at the mini size, so it is the same at every preset and on every machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from crowdloc.datasets.synthcrowd.scene import SACK, Scene, heads, inside, positions
from crowdloc.datasets.synthcrowd.settings import DOMAINS, PRESETS, SYNTHCROWD_VERSION

UNIT = 64
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
    step = radius[people, None, None] * _GRID * 2 // 5
    probe = centre[people, None] + step  # (n, 21, 2)
    hidden = np.zeros(probe.shape[:2], dtype=bool)
    for row, person in enumerate(people):
        near = np.flatnonzero(
            (depth < depth[person]) & (abs(centre[:, 0] - centre[person, 0]) <= half + radius + radius[person])
        )
        px, py = probe[row, :, 0, None], probe[row, :, 1, None]  # (21, 1) against (1, k)
        dx, dy = px - centre[near, 0], py - centre[near, 1]
        cover = dx * dx + dy * dy <= radius[near] ** 2
        # the axis of the body runs straight from head to foot; floor division keeps it whole
        fall = np.maximum(foot[near, 1] - centre[near, 1], 1)
        off_axis = abs(dx - dy * (foot[near, 0] - centre[near, 0]) // fall)
        cover |= (py >= shoulder[near, 1]) & (py <= hip[near, 1]) & (off_axis <= half[near])
        cover |= (py > hip[near, 1]) & (py <= foot[near, 1]) & (5 * off_axis <= 3 * half[near])
        hidden[row] = cover.any(axis=1)
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
        found = scene_annotations(scene, scene.first + number, preset)
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
        "version": SYNTHCROWD_VERSION,
        "width": width,
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n"

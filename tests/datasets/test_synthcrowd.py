"""SynthCrowd: exact annotations, pure frames, labels that fit, storage that survives interruption."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets import load
from crowdloc.datasets.images import read_image
from crowdloc.datasets.synthcrowd import (
    DIFFICULTY,
    DOMAINS,
    PRESETS,
    Difficulty,
    build_scene,
    generate,
    load_synthcrowd,
    render_frame,
    scene_annotations,
    verify_manifest,
)  # fmt: skip
from crowdloc.datasets.synthcrowd import manifest as manifest_module
from crowdloc.datasets.synthcrowd.annotate import annotation_text
from crowdloc.datasets.synthcrowd.freezing import coarse_means
from crowdloc.datasets.synthcrowd.geometry import Camera, heads, inside
from crowdloc.datasets.synthcrowd.manifest import annotation_hash, expected_hash, read_manifest
from crowdloc.datasets.synthcrowd.place import brightness
from crowdloc.datasets.synthcrowd.rng import Stream, wave
from crowdloc.datasets.synthcrowd.scene import LOOKALIKE, PERSON, Figures, Scene, positions
from crowdloc.datasets.synthcrowd.settings import FPS, SPLIT_SEEDS
from crowdloc.datasets.synthcrowd.store import check_images, is_current, split_folder, write_scene


def _where(scene: Scene, t: float) -> tuple[np.ndarray, ...]:
    return positions(scene.figures, t, scene.reach, scene.near, scene.far)


def _figures(rows: list[tuple[float, float]], kinds: list[int] | None = None) -> Figures:
    """People 1.74 m tall with heads of 0.12 m radius who stand still at (x, y)."""
    n = len(rows)
    x, y = np.array(rows, dtype=float).reshape(n, 2).T
    kind, zero, one = np.array(kinds or [PERSON] * n), np.zeros(n), np.ones(n)
    return Figures(kind, x, y, zero, zero, zero, -one, zero, zero, one, 1.74 * one, 0.12 * one, 0.22 * one,
                   np.full((n, 8), 0.5))  # fmt: skip


def _scene(rows: list[tuple[float, float]], people: int | None = None) -> Scene:
    base = build_scene("sense", "dev", 0)
    camera = Camera(height=5.0, focal=1.5, sin=0.28, cos=0.96)
    return replace(base, camera=camera, reach=20.0, near=1.0, far=40.0, figures=_figures(rows),
                   people=len(rows) if people is None else people)  # fmt: skip


# random numbers and geometry


def test_streams_are_named_repeatable_and_independent() -> None:
    assert Stream(1, "a").bits(3).tolist() == Stream(1, "a").bits(3).tolist()
    assert Stream(1, "a").bits(3).tolist() != Stream(1, "b").bits(3).tolist()
    assert Stream(1, "sense", 4).bits(2).tolist() == [3510602882454959523, 13439583871426391058]  # fixed for ever


def test_numbers_have_the_stated_distributions() -> None:
    stream = Stream("distribution")
    uniform = stream.uniforms(20000, -1.0, 3.0)
    assert uniform.min() >= -1 and uniform.max() < 3 and abs(uniform.mean() - 1) < 0.03
    normal = np.array([stream.normal() for _ in range(4000)])
    assert abs(normal.mean()) < 0.06 and abs(normal.std() - 1) < 0.05
    whole = [stream.integer(-1, 2) for _ in range(4000)]
    assert set(whole) == {-1, 0, 1, 2} and abs(whole.count(2) - 1000) < 120
    picked = [stream.choice("ab", (1, 3)) for _ in range(4000)]
    assert abs(picked.count("b") - 3000) < 120


def test_wave_passes_through_its_extremes() -> None:
    assert wave(np.array([0, 0.25, 0.5, 0.75, 1.25, -0.25])).tolist() == [0, 1, 0, -1, 1, -1]


def test_projection_by_hand() -> None:
    # a point 10 m ahead on the ground: depth 10 * .96 + 5 * .28 = 11, and 5 * .96 - 10 * .28 = 2 below the axis
    camera = Camera(height=5.0, focal=1.5, sin=0.28, cos=0.96)
    u, v, depth = camera.project(np.array([1.0]), np.array([10.0]), np.array([0.0]))
    assert (u[0], v[0], depth[0]) == pytest.approx((1.5 / 11, 1.5 * 2 / 11, 11))
    assert camera.ground(3 / 11) == pytest.approx((10, 11))
    # the image centre of 288 x 512 is (255.5, 143.5)
    assert heads(camera, np.array([0.0]), np.array([5 / 0.28 * 0.96]), np.array([0.0])).tolist() == [[16352, 9184]]


def test_inside_counts_the_border_pixels_centres() -> None:
    points = np.array([[0, 0], [511 * 64, 287 * 64], [-1, 5], [5, 287 * 64 + 1], [511 * 64 + 1, 5]])
    assert inside(points).tolist() == [True, True, False, False, False]


def test_shade_is_soft_at_its_edge() -> None:
    found = brightness(np.array([-5.0, 0.0, 5.0]), np.zeros(3), (1.0, 0.0, 0.0), 0.5)
    assert found.tolist() == [0.5, 0.75, 1.0]


# scenes and annotations


@pytest.mark.parametrize("domain", DOMAINS)
def test_annotations_are_the_same_twice_and_fit(domain: str) -> None:
    counts, ids = [], 0
    for index in range(5):
        scene = build_scene(domain, "dev", index)
        text = annotation_text(scene, "mini")
        build_scene.cache_clear()
        assert annotation_text(build_scene(domain, "dev", index), "mini") == text
        for frame in json.loads(text)["frames"]:
            points, boxes = np.array(frame["points"]), np.array(frame["boxes"])
            assert points.dtype == boxes.dtype == np.int64  # whole 1/64 px
            assert inside(points).all() and inside(boxes[:, :2]).all() and inside(boxes[:, 2:]).all()
            assert (boxes[:, :2] <= points).all() and (points <= boxes[:, 2:]).all()
            assert (boxes[:, :2] < boxes[:, 2:]).all()
            assert len(set(frame["track_ids"])) == len(points) and max(frame["track_ids"]) < scene.people
            counts.append(len(points))
            ids += 1
    low, high = DOMAINS[domain].people
    assert 0.6 * low <= min(counts) and max(counts) <= 1.1 * high and low < np.mean(counts) < high


def test_a_hidden_head_is_not_annotated_until_it_shows() -> None:
    # the second stands 0.6 m behind the first, or a metre to the side; a third is out of view
    assert scene_annotations(_scene([(0, 10), (0.0, 10.6), (30, 10)]), 0).track_ids.tolist() == [0, 1]
    low_camera = replace(_scene([(0, 10), (0.02, 10.6)]), camera=Camera(height=1.8, focal=1.5, sin=0.0, cos=1.0))
    assert scene_annotations(low_camera, 0).track_ids.tolist() == [0]
    aside = replace(low_camera, figures=_figures([(0, 10), (1.0, 10.6)]))
    assert scene_annotations(aside, 0).track_ids.tolist() == [0, 1]
    thing = replace(low_camera, figures=_figures([(0.02, 10.6), (0, 10)], [PERSON, LOOKALIKE]), people=1)
    assert scene_annotations(thing, 0).track_ids.tolist() == []  # a look-alike hides people, and is never annotated


def test_share_of_a_head_that_must_show() -> None:
    """Slide a nearer, smaller person across a head: annotated exactly while at least 8 of the 21 probes stay free."""
    camera = Camera(height=1.74 - 0.12, focal=1.5, sin=0.0, cos=1.0)  # at the height of the heads, level
    grid = np.array([(x * 0.4, y * 0.4) for y in range(-2, 3) for x in range(-2, 3) if x * x + y * y <= 6])
    tried = set()
    for across in np.linspace(0.003, 0.2, 20):
        for lower in (0.0, 0.02, 0.04, 0.06):
            figures = _figures([(0, 10), (across, 9.999)])
            scene = replace(_scene([]), camera=camera, people=2,
                            figures=replace(figures, stature=np.array([1.74, 1.74 - lower])))  # fmt: skip
            distance = np.hypot(*(grid - np.array([across, lower]) / 0.12).T)  # in head radii, to the nearer head
            if np.abs(distance - 1).min() > 0.02:  # rounding decides about probes on the edge
                free = int((distance > 1).sum())
                assert (0 in scene_annotations(scene, 0).track_ids) == (free >= 8), (across, lower)
                tried.add(free)
    assert {7, 8} <= tried


def test_scene_without_heads() -> None:
    empty = scene_annotations(_scene([(30, 10)]), 0)
    assert empty.points.shape == (0, 2) and empty.boxes.shape == (0, 4) and empty.track_ids.shape == (0,)
    assert render_frame(_scene([(30, 10)]), 0).shape == (288, 512, 3)


def test_presets_show_the_same_heads() -> None:
    scene = build_scene("sense", "dev", 3)
    mini, large = scene_annotations(scene, 2, "mini"), scene_annotations(scene, 2, "paper")
    assert mini.track_ids.tolist() == large.track_ids.tolist()
    scaled = (mini.points / 64 + 0.5) * 3.75 - 0.5
    assert np.abs(scaled - large.points / 64).max() <= 3.75 / 128 + 1 / 128 + 1e-9
    assert np.abs((mini.boxes / 64 + 0.5) * 3.75 - 0.5 - large.boxes / 64).max() <= 1.5 * 3.75
    assert render_frame(scene, 2, "paper").shape == (1080, 1920, 3)


@pytest.mark.parametrize("index", [0, 5])
def test_people_walk_steadily_and_things_stay(index: int) -> None:
    scene = build_scene("sense", "train", index)
    figures, people = scene.figures, scene.people
    x, y, z, _, face_y = np.array([_where(scene, t) for t in range(60)]).transpose(1, 0, 2)
    for value in (x, y, z):
        assert (value[:, people:] == value[0, people:]).all()
    assert (figures.kind[:people] == PERSON).all() and (figures.kind[people:] >= LOOKALIKE).all()
    step = np.hypot(np.diff(x, axis=0), np.diff(y, axis=0))[:, :people]
    speed = np.hypot(figures.vx, figures.vy)[:people]
    jump = step > scene.reach  # re-entering on the other side, out of view
    turn = (face_y[1:] * face_y[:-1] < 0)[:, :people]
    steady = ~jump & ~turn
    sway = (figures.sway * figures.rate)[:people] * 8 * np.hypot(0.31, 0.23) / FPS  # a wave climbs at most 8 per period
    assert (np.abs(step - speed / FPS) <= sway + 1e-9)[steady].all() and steady.mean() > 0.9
    assert np.median(np.abs(step / np.maximum(speed, 0.1) * FPS - 1)[steady & (speed > 0)]) < 0.1
    assert (speed <= 2.1).all() and 0.3 < (speed > 0).mean() < 1
    u, _, _ = scene.camera.project(x, y, z)
    assert (np.abs(u[:-1][:, :people][jump]) > 8 / 9).all() and (np.abs(u[1:][:, :people][jump]) > 8 / 9).all()


def test_groups_walk_together_and_flows_oppose() -> None:
    scene = build_scene("sense", "train", 1)
    people = slice(0, scene.people)
    velocity = np.stack([scene.figures.vx[people], scene.figures.vy[people]], axis=1)
    walking = velocity[(velocity != 0).any(axis=1)]
    assert (np.abs(walking[1:] - walking[:-1]).max(axis=1) == 0).sum() >= 3  # members share a velocity
    direction = walking / np.hypot(*walking.T)[:, None]
    assert (np.abs(direction @ direction.T + 1) < 1e-9).any()  # somebody walks straight against somebody


@pytest.mark.parametrize("domain", ["sense", "shb"])
def test_heads_grow_towards_the_lower_edge(domain: str) -> None:
    for index in range(4):
        scene = build_scene(domain, "train", index)
        x, y, z, *_ = _where(scene, 0)
        diameter = 2 * 0.12 * scene.camera.focal * 288 / scene.camera.project(x, y, z)[2]
        found = scene_annotations(scene, 0)
        row, shown = found.points[:, 1] / 64, diameter[found.track_ids]
        assert np.corrcoef(row, shown)[0, 1] > 0.95
        kind = DOMAINS[domain]  # sizes are set for heads 1.6 m above the ground; tall people are nearer to the camera
        assert 0.7 * kind.far[0] < shown.min() and 1.4 * shown.min() < shown.max() < 1.3 * kind.near[1]
        assert np.corrcoef(row, found.boxes[:, 2] - found.boxes[:, 0])[0, 1] > 0.5


def test_splits_share_scenes_only_in_fdst() -> None:
    assert len(set(SPLIT_SEEDS.values())) == len(SPLIT_SEEDS)
    cameras = {(split, i): build_scene("sense", split, i).camera for split in SPLIT_SEEDS for i in range(10)}
    assert len(set(cameras.values())) == len(cameras)
    train, test = build_scene("fdst", "train", 2), build_scene("fdst", "test", 2)
    again = build_scene("fdst", "train", 15)  # the second video of place 2
    assert train.camera == test.camera == again.camera != build_scene("fdst", "train", 3).camera
    things = [s.figures.x[s.people :] for s in (train, test, again)]
    assert things[0].tolist() == things[1].tolist() == things[2].tolist()
    assert train.figures.x[:5].tolist() != test.figures.x[:5].tolist() != again.figures.x[:5].tolist()


def test_still_images_have_no_lookalikes() -> None:
    kinds = [build_scene("sha", "dev", i).figures.kind for i in range(3)]
    assert all((k != LOOKALIKE).all() and (k > LOOKALIKE).any() for k in kinds)
    assert (build_scene("sense", "dev", 1).figures.kind == LOOKALIKE).sum() > 3


def test_difficulty_changes_clutter_and_is_named() -> None:
    bare = Difficulty(lookalikes=(0.0, 0.0), objects=(0.0, 0.0))
    scene = build_scene("sense", "dev", 1, bare)
    assert len(scene.figures) == scene.people == build_scene("sense", "dev", 1).people
    assert bare.fingerprint() != DIFFICULTY.fingerprint() == Difficulty().fingerprint()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 5000))
def test_any_frame_number_has_a_place_for_everybody(t: int) -> None:
    scene = build_scene("fdst", "train", 4)
    x, y, z, *_ = _where(scene, t)
    sway = scene.figures.sway + 1e-9
    assert (np.abs(x) <= scene.reach + sway).all() and np.isfinite(z).all()
    people = slice(0, scene.people)
    assert ((y >= scene.near - sway) & (y <= scene.far + sway))[people].all()


# pictures


def test_frames_are_pure_in_t() -> None:
    scene = build_scene("sense", "dev", 7)
    sequence = [render_frame(scene, t) for t in range(4)]
    build_scene.cache_clear()
    fresh = build_scene("sense", "dev", 7)
    assert fresh is not scene
    assert (render_frame(fresh, 3) == sequence[3]).all() and (render_frame(fresh, 1) == sequence[1]).all()
    assert (sequence[0] != sequence[1]).any()


def test_noise_is_new_in_each_frame_and_in_each_channel() -> None:
    noisy = Difficulty(lookalikes=(0, 0), objects=(0, 0), noise=(6.0, 6.0), blur=(0.5, 0.5), contrast=(1.0, 1.0),
                       lost_blocks=(0.0, 0.0), quality=(95, 95))  # fmt: skip
    scene = replace(_scene([(30, 10)]), difficulty=noisy)
    first, second = (render_frame(scene, t)[100:].astype(float) for t in (0, 1))
    gap = (first - second).std(axis=(0, 1)) / math.sqrt(2)
    assert ((3.0 < gap) & (gap < 7.5)).all()  # JPEG takes some of the 6 levels away, most from the colour
    quiet = replace(scene, difficulty=replace(noisy, noise=(0.0, 0.0)))
    assert np.abs(render_frame(quiet, 0).astype(int) - render_frame(quiet, 1)).max() == 0


def test_labels_sit_on_the_heads() -> None:
    """Painted without faults on an even ground, the pixel at the head point is head, not ground."""
    clean = Difficulty(lookalikes=(0, 0), objects=(0, 0), noise=(0, 0), blur=(0.4, 0.4), contrast=(1, 1),
                       far_contrast=(1, 1), lost_blocks=(0, 0), quality=(95, 95))  # fmt: skip
    with_people = replace(_scene([(-2, 8), (0, 10), (2.5, 14)]), difficulty=clean)
    without = replace(with_people, figures=_figures([(30, 10)]), people=1)
    gap = np.abs(render_frame(with_people, 0).astype(int) - render_frame(without, 0)).max(axis=2)
    found = scene_annotations(with_people, 0)
    assert len(found.points) == 3
    for (x, y), (x1, y1, x2, _) in zip(found.points / 64, found.boxes / 64, strict=True):
        assert gap[round(y), round(x)] > 15
        above = gap[: int(y1) - 1, int(x1) : int(x2)]
        assert (above < 15).all()  # nothing of the person rises above the box


def test_lost_blocks_are_flat_and_others_in_each_frame() -> None:
    faults = replace(DIFFICULTY, lost_blocks=(0.1, 0.1), quality=(95, 95), noise=(5.0, 5.0))
    scene = replace(build_scene("sense", "dev", 2), difficulty=faults)
    grey = [cv2.cvtColor(render_frame(scene, t), cv2.COLOR_RGB2GRAY) for t in (0, 1)]
    flat = [image.reshape(18, 16, 32, 16).std(axis=(1, 3)) < 1.0 for image in grey]
    assert all(20 <= lost.sum() <= 60 for lost in flat)  # 57 are asked for, runs overlap and leave the image
    assert (flat[0] & flat[1]).sum() < 0.4 * flat[0].sum()


# storage


def _small(monkeypatch: pytest.MonkeyPatch, videos: int, frames: int) -> None:
    """Shrink the dev split of `sense`; only for what happens in this process."""
    domain = DOMAINS["sense"]
    small = replace(domain, videos={**domain.videos, "dev": videos}, frames={**domain.frames, "dev": frames})
    monkeypatch.setitem(DOMAINS, "sense", small)
    monkeypatch.setattr(manifest_module, "read_manifest", lambda: None)
    build_scene.cache_clear()


@pytest.fixture
def small_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _small(monkeypatch, 2, 3)
    for index in range(2):
        scene = build_scene("sense", "dev", index)
        write_scene(split_folder(tmp_path, "mini", "sense", "dev") / scene.name, scene, "mini")
    yield tmp_path
    build_scene.cache_clear()


def test_load_gives_clips_that_repeat_the_ends(small_root: Path) -> None:
    data = load("synthcrowd", small_root, "dev")
    assert len(data) == 6 and data.name == "synthcrowd-sense"
    assert data[0].frame_ids == tuple(f"sense-dev-scene000/{n:03d}" for n in (0, 0, 1))
    assert data[2].frame_ids == tuple(f"sense-dev-scene000/{n:03d}" for n in (1, 2, 2))
    assert data[3].frame_ids == tuple(f"sense-dev-scene001/{n:03d}" for n in (0, 0, 1))
    clip = data[4]
    scene = build_scene("sense", "dev", 1)
    assert (clip.frames == np.stack([render_frame(scene, t) for t in range(3)])).all()
    assert (clip.points * 64 == scene_annotations(scene, 1).points).all()
    assert (clip.boxes * 64 == scene_annotations(scene, 1).boxes).all()
    assert (clip.points * 64 % 1 == 0).all() and clip.track_ids.dtype == np.int64
    assert load("synthcrowd", small_root, "dev", num_frames=1)[0].frames.shape == (1, 288, 512, 3)


def test_a_finished_split_is_left_alone(small_root: Path) -> None:
    files = {p: p.stat().st_mtime_ns for p in small_root.rglob("*") if p.is_file()}
    assert len(files) == 10
    generate(small_root, splits=("dev",), progress=False)
    assert {p: p.stat().st_mtime_ns for p in small_root.rglob("*") if p.is_file()} == files
    folder = split_folder(small_root, "mini", "sense", "dev") / "scene001"
    assert is_current(folder, 3, None) and not is_current(folder, 4, None) and not is_current(folder, 3, "other hash")
    (folder / "002.jpg").unlink()
    assert not is_current(folder, 3, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "no JSON"), ('{"frames": 3}', "lacks frames"), ("[]", "lacks frames"),
     ('{"difficulty": "x", "frames": [{"points": [[1, 2]], "boxes": [], "track_ids": []}]}', "do not fit"),
     ('{"difficulty": "x", "frames": [{"points": [[1]], "boxes": [[1, 2, 3, 4]], "track_ids": [0]}]}', "do not fit"),
     ('{"difficulty": "x", "frames": []}', "another difficulty"), ("[" * 100_000, "no JSON")],
)  # fmt: skip
def test_damaged_annotations_are_named(small_root: Path, content: str, message: str) -> None:
    path = split_folder(small_root, "mini", "sense", "dev") / "scene001" / "annotations.json"
    path.write_text(content)
    with pytest.raises(CrowdlocError, match=message) as error:
        load("synthcrowd", small_root, "dev")
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert not is_current(path.parent, 3, None)


def test_missing_and_misspelt_things_are_named(small_root: Path, tmp_path: Path) -> None:
    with pytest.raises(CrowdlocError, match="scene000 is missing"):
        load("synthcrowd", tmp_path / "nowhere", "dev")
    for options, message in (({"domain": "street"}, "'street' is unknown: choose sense"), ({"preset": "4k"}, "'4k'")):
        with pytest.raises(CrowdlocError, match=message):
            load("synthcrowd", small_root, "dev", **options)
    with pytest.raises(CrowdlocError, match="'tset' is unknown: choose dev, train, val, test"):
        load("synthcrowd", small_root, "tset")
    for arguments in (("street", "dev", 0), ("sense", "tset", 0), ("sense", "dev", 2)):
        with pytest.raises(CrowdlocError, match="unknown"):
            build_scene(*arguments)


@pytest.mark.parametrize("damage", ["emptied", "cut", "replaced", "one bit", "no record", "another record"])
def test_an_image_that_changed_is_named_and_made_again(small_root: Path, damage: str) -> None:
    folder = split_folder(small_root, "mini", "sense", "dev") / "scene000"
    path, record = folder / "001.jpg", folder / "images.json"
    whole = path.read_bytes()
    match damage:
        case "emptied":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(whole[:2000])
        case "replaced":
            path.write_bytes((folder / "002.jpg").read_bytes())
        case "one bit":
            path.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
        case "no record":
            record.unlink()
        case "another record":
            record.write_text("[" * 100_000)
    name = "images" if "record" in damage else r"001\.jpg is not what was generated"
    with pytest.raises(CrowdlocError, match=f"scene000/{name}.*: delete the folder and generate it again$"):
        load("synthcrowd", small_root, "dev")
    assert not is_current(folder, 3, None) and is_current(folder.with_name("scene001"), 3, None)
    write_scene(folder, build_scene("sense", "dev", 0), "mini")
    assert path.read_bytes() == whole and is_current(folder, 3, None)
    assert sorted(p.name for p in folder.parent.iterdir()) == ["scene000", "scene001"]


def test_files_are_synced_before_their_folder_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, names = tmp_path / "scene000", []
    sync = os.fsync

    def note(handle: int) -> None:
        names.append((Path(os.readlink(f"/proc/self/fd/{handle}")).name, folder.exists()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    write_scene(folder, build_scene("shb", "dev", 0), "mini")
    files = [("000.jpg", False), ("annotations.json", False), ("images.json", False)]
    assert names == [*files, (tmp_path.name, True)]


def test_checking_what_is_there_is_fast(small_root: Path) -> None:
    folder = split_folder(small_root, "mini", "sense", "dev") / "scene000"
    start = time.process_time()
    for _ in range(20):
        check_images(folder, 3)
    assert (time.process_time() - start) / 60 < 0.3 / 480  # a training split has 480 images


def test_a_full_disk_leaves_no_half_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    scene = build_scene("shb", "dev", 0)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CrowdlocError, match=r"scene000 cannot be written \(No space left on device\)"):
        write_scene(tmp_path / "scene000", scene, "mini")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_output_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mini").write_text("a file")
    with pytest.raises(CrowdlocError, match="cannot be written"):
        generate(tmp_path, domains=("shb",), splits=("dev",), progress=False)


def test_killed_generation_resumes(tmp_path: Path) -> None:
    command = (f"from crowdloc.datasets.synthcrowd import generate; "
               f"generate({str(tmp_path)!r}, domains=('shb',), splits=('dev',), progress=False)")  # fmt: skip
    folder = split_folder(tmp_path, "mini", "shb", "dev")
    process = subprocess.Popen([sys.executable, "-c", command], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 30
    while not list(folder.glob("scene*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1.5)  # its processes finish the scene at hand, then find that nobody listens
    done = sorted(folder.glob("scene*"))
    assert 0 < len(done) < DOMAINS["shb"].videos["dev"]
    assert all(is_current(scene, 1, None) for scene in done)
    stamps = {scene: (scene / "000.jpg").stat().st_mtime_ns for scene in done}
    left = folder / ".scene003.1.part"
    left.mkdir()
    os.utime(left, (1, 1))

    generate(tmp_path, domains=("shb",), splits=("dev",), progress=False)
    assert not left.exists()
    data = load_synthcrowd(tmp_path, "dev", domain="shb", num_frames=1)
    assert len(data) == 24
    assert {scene: (scene / "000.jpg").stat().st_mtime_ns for scene in done} == stamps
    scene = build_scene("shb", "dev", 20)
    assert (data.image(20) == render_frame(scene, 0)).all()  # a worker renders what this process renders
    assert verify_manifest(tmp_path, domains=("shb",), splits=("dev",)) == 24

    # one altered byte is an error, other pixels only a warning, a scene of another difficulty is made again
    folder = folder / "scene007"
    cv2.imwrite(str(folder / "000.jpg"), read_image(folder / "000.jpg")[..., ::-1] // 2)
    with pytest.warns(UserWarning, match="scene007: pixels differ"):
        verify_manifest(tmp_path, domains=("shb",), splits=("dev",))
    text = (folder / "annotations.json").read_text()
    (folder / "annotations.json").write_text(text.replace('"points":[[', '"points":[[1', 1))
    with pytest.raises(CrowdlocError, match="scene007 differs from the manifest"):
        verify_manifest(tmp_path, domains=("shb",), splits=("dev",))
    with pytest.raises(CrowdlocError, match=r"scene007/annotations\.json differs from the manifest"):
        load_synthcrowd(tmp_path, "dev", domain="shb")
    generate(tmp_path, domains=("shb",), splits=("dev",), progress=False)
    assert (folder / "annotations.json").read_text() == text


# the manifest


def test_manifest_describes_this_generator() -> None:
    manifest = read_manifest()
    assert manifest is not None, "settings changed: python -m crowdloc.datasets.synthcrowd manifest"
    for preset in PRESETS:
        for domain, kind in DOMAINS.items():
            for split, videos in kind.videos.items():
                assert len(manifest["scenes"][preset][domain][split]) == videos
                index = videos - 1
                text = annotation_text(build_scene(domain, split, index), preset)
                assert annotation_hash(text) == expected_hash(preset, domain, split, index)


def test_manifest_pixels_match(tmp_path: Path) -> None:
    manifest = read_manifest()
    assert manifest is not None
    for domain in ("sense", "sha"):
        scene = build_scene(domain, "val", 3)
        write_scene(tmp_path / domain, scene, "mini")
        means = manifest["scenes"]["mini"][domain]["val"][3][1]
        assert np.abs(np.array(coarse_means(tmp_path / domain)) - means).max() <= 2


def test_a_manifest_of_another_difficulty_does_not_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads(manifest_module.MANIFEST.read_text())
    other = tmp_path / "manifest.json"
    other.write_text(json.dumps({**content, "difficulty": "other"}))
    monkeypatch.setattr(manifest_module, "MANIFEST", other)
    read_manifest.cache_clear()
    assert read_manifest() is None and expected_hash("mini", "sense", "dev", 0) is None
    with pytest.raises(CrowdlocError, match="of another version"):
        verify_manifest(tmp_path)
    read_manifest.cache_clear()

"""SynthCrowd: a seeded generator of surveillance-like crowd video, a stand-in for data that cannot be embedded."""

from __future__ import annotations

from crowdloc.datasets.synthcrowd.annotate import Annotations, scene_annotations
from crowdloc.datasets.synthcrowd.building import build_scene
from crowdloc.datasets.synthcrowd.freezing import verify_manifest
from crowdloc.datasets.synthcrowd.loading import load_synthcrowd
from crowdloc.datasets.synthcrowd.production import generate
from crowdloc.datasets.synthcrowd.render import render_frame
from crowdloc.datasets.synthcrowd.scene import Scene
from crowdloc.datasets.synthcrowd.settings import DIFFICULTY, DOMAINS, PRESETS, SYNTHCROWD_VERSION, Difficulty

__all__ = [
    "DIFFICULTY",
    "DOMAINS",
    "PRESETS",
    "SYNTHCROWD_VERSION",
    "Annotations",
    "Difficulty",
    "Scene",
    "build_scene",
    "generate",
    "load_synthcrowd",
    "render_frame",
    "scene_annotations",
    "verify_manifest",
]

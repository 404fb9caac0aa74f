"""The stored manifest: what every machine must generate, down to the hash of the annotations."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from crowdloc.datasets.synthcrowd.settings import DIFFICULTY, SYNTHCROWD_VERSION

MANIFEST = Path(__file__).with_name("manifest.json")


def annotation_hash(text: str) -> str:
    """SHA-256 of a scene's annotation file."""
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=1)
def read_manifest() -> dict[str, Any] | None:
    """The stored manifest, or None where it describes another version or difficulty than this code has."""
    if not MANIFEST.is_file():
        return None
    content = json.loads(MANIFEST.read_text())
    current = (content["version"], content["difficulty"]) == (SYNTHCROWD_VERSION, DIFFICULTY.fingerprint())
    return content if current else None


def expected_hash(preset: str, domain: str, split: str, index: int) -> str | None:
    """The annotation hash that the manifest stores for a scene; None where no manifest applies."""
    manifest = read_manifest()
    return None if manifest is None else manifest["scenes"][preset][domain][split][index][0]

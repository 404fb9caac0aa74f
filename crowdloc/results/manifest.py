"""`results/MANIFEST.json`: the SHA-256 of every file below `results/`, so that any change of one is noticed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write, read_json

MANIFEST = "MANIFEST.json"
NOTE = (
    "SHA-256 of every file below results/ but this one; `crowdloc check` compares them. `crowdloc promote` keeps it up"
    " to date; after an edit by hand: python -m crowdloc.results.store FILE… (files, or folders with all they hold)"
)


def files_below(results: Path) -> dict[str, Path]:
    """Every file (and link) below `results` but the manifest, by its path within, sorted."""
    found = sorted(path for path in results.rglob("*") if path.is_symlink() or not path.is_dir())
    names = {path.relative_to(results).as_posix(): path for path in found}
    names.pop(MANIFEST, None)
    return dict(sorted(names.items()))


def sha256(path: Path) -> str:
    """Hash of a file's bytes; CrowdlocError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CrowdlocError(f"{path} cannot be read ({error.strerror}): restore it from version control") from None


def read_manifest(results: Path) -> dict[str, str]:
    """Path within `results` -> SHA-256.

    Raises:
        CrowdlocError: the file is missing, damaged, or not exactly what `write_manifest` writes.
    """
    path = results / MANIFEST
    content = read_json(path)
    files = content.get("files")
    if not isinstance(files, dict) or not all(re.fullmatch("[0-9a-f]{64}", str(value)) for value in files.values()):
        raise CrowdlocError(f"{path} holds no list of digests: restore it from version control")
    if path.read_bytes() != _text(files).encode():
        raise CrowdlocError(f"{path} is not as it was written: restore it from version control")
    return dict(files)


def write_manifest(results: Path, files: dict[str, str]) -> None:
    with atomic_write(results / MANIFEST) as temporary:
        temporary.write_bytes(_text(files).encode())


def _text(files: dict[str, str]) -> str:
    return json.dumps({"note": NOTE, "files": dict(sorted(files.items()))}, indent=1, ensure_ascii=False) + "\n"


def accept(results: Path, paths: Iterable[Path]) -> list[str]:
    """Bring the manifest up to date for these files or folders and for nothing else; returns what changed, by path.

    A manifest that is missing is begun; one that is damaged is an error.
    """
    before = read_manifest(results) if (results / MANIFEST).exists() else {}
    present = files_below(results)
    after = dict(before)
    for path in paths:
        try:
            name = path.absolute().relative_to(results.absolute()).as_posix()
        except ValueError:
            raise CrowdlocError(f"{path} does not lie below {results}: name a file or folder there") from None
        mine = [n for n in {**before, **present} if name == "." or n == name or n.startswith(f"{name}/")]
        if not mine and name != MANIFEST:
            raise CrowdlocError(f"{path} is neither a file nor in the manifest: name a file or folder below {results}")
        for each in mine:
            if each in present:
                after[each] = sha256(present[each])
            else:
                after.pop(each, None)
    write_manifest(results, after)
    return sorted(name for name in {**before, **after} if before.get(name) != after.get(name))

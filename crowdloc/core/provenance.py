"""Where a result comes from: versions, hardware and the state of the code; one schema for every stored record of it."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import digest
from crowdloc.core.paths import PACKAGE, ROOT

# Packages whose version can change a number or a picture.
PACKAGES = ("torch", "torchvision", "triton", "numba", "numpy", "scipy", "pandas", "pyarrow", "safetensors",
            "lightning-fabric", "opencv-python-headless", "matplotlib", "snakemake", "papermill")  # fmt: skip


def versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Installed versions of `names`; a package that is not there is left out."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit(root: Path = ROOT) -> str | None:
    """The git commit of a checkout, with `+changes` where tracked code differs from it; None outside git."""
    try:
        head = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "crowdloc", "Snakefile")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+changes" if changes else "")


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def processor() -> str:
    """The processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe() -> dict[str, Any]:
    """Provenance of a number computed now, as JSON values: code, versions, hardware; no host name, no path."""
    import torch

    from crowdloc import __version__

    cuda = torch.cuda.is_available()
    return {
        "crowdloc": __version__,
        "commit": commit(),
        "code": digest(PACKAGE),
        "python": platform.python_version(),
        "packages": versions(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if cuda else None,
    }


def measurement() -> dict[str, Any]:
    """Provenance of a timing that begins now: `describe`, the time, how busy the machine is, a GPU's clocks."""
    facts = describe()
    facts |= {"utc": datetime.now(UTC).isoformat(timespec="seconds"), "load": os.getloadavg()[0]}
    return facts | ({"clocks": _clocks()} if facts["gpu"] else {})


def _clocks() -> str | None:
    """What nvidia-smi says of the first GPU: name, clocks, power limit, driver."""
    query = "--query-gpu=name,clocks.sm,clocks.mem,power.limit,driver_version"
    try:
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.partition("\n")[0].strip() or None


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _hexadecimal(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _versions(value: object) -> bool:
    return isinstance(value, dict) and len(value) > 0 and all(map(_text, (*value, *value.values())))


def _time(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).utcoffset() is not None
    except ValueError:
        return False


def _or_none(valid: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or valid(value)


_Schema = dict[str, tuple[Callable[[object], bool], str]]  # field → (test, what it must be)
_FACTS: _Schema = {
    "crowdloc": (_text, "a version"),
    "commit": (_or_none(_hexadecimal(r"[0-9a-f]{40}(\+changes)?")), "a git commit or null"),
    "code": (_hexadecimal("[0-9a-f]{16}"), "a digest of 16 hexadecimal digits"),
    "python": (_text, "a version"),
    "packages": (_versions, "an object of versions"),
    "system": (_text, "a text"),
    "processor": (_text, "a text"),
    "cores": (_or_none(_whole), "a whole number from 1 on, or null"),
    "threads": (_whole, "a whole number from 1 on"),
    "memory_gib": (_number, "a number"),
    "gpu": (_or_none(_text), "a text or null"),
}
_MEASURED: _Schema = {"utc": (_time, "a time with its zone"), "load": (_number, "a number")}
_CLOCKS: _Schema = {"clocks": (_or_none(_text), "a text or null")}
FIELDS = frozenset({**_FACTS, **_MEASURED, **_CLOCKS})  # all that the schema knows


def validate(record: object, name: str | os.PathLike[str] = "provenance", *, measured: bool = False) -> None:
    """Check a stored record against the one schema: what `describe` gives or, if `measured`, what `measurement` gives.

    Fields that the schema does not know may stand beside its own (a training adds its seconds).

    Args:
        record: the record as JSON values.
        name: what the error calls it, such as its file.

    Raises:
        CrowdlocError: naming the first field that is missing or holds something else than it must.
    """
    remedy = "restore it from version control, or measure again"
    if not isinstance(record, Mapping):
        raise CrowdlocError(f"{name}: the provenance is no JSON object: {remedy}")
    required = _FACTS | (_MEASURED if measured else {})
    for field, (valid, kind) in (required | _MEASURED | _CLOCKS).items():
        if field not in record and field in required:
            raise CrowdlocError(f"{name}: the provenance has no field {field!r}: {remedy}")
        if field in record and not valid(record[field]):
            raise CrowdlocError(f"{name}: provenance field {field!r} is {record[field]!r}, not {kind}: {remedy}")


def summary() -> str:
    """One line for the foot of a notebook: versions and device."""
    facts = describe()
    shown = ("torch", "triton", "numba", "numpy")
    parts = [
        f"Python {facts['python']}",
        *(f"{n} {facts['packages'][n]}" for n in shown if n in facts["packages"]),
    ]
    device = facts["gpu"] or f"{facts['processor']}, {facts['threads']} threads"
    return f"crowdloc {facts['crowdloc']} ({(facts['commit'] or 'no git')[:8]}) · {' · '.join(parts)} · {device}"

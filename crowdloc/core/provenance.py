"""Where a result comes from: versions, hardware and the state of the code."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

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

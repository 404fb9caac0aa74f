"""Time and memory of the CPU backends: `python -m crowdloc.attention.benchmark [--json PATH]`.

Correctness comes first: no time is printed for a result that is wrong. Reference and Numba take turns in one run, so
that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crowdloc.attention import gaussian_neighbor_attention
from crowdloc.paths import ROOT, atomic_write

# B, T, C, H, W, S: the paper's width at test, with one frame and with a clip, and the mini preset while training
CASES = {
    "24x40x512 T=1 S=3": (1, 1, 512, 24, 40, 3),
    "24x40x512 T=3 S=3": (1, 3, 512, 24, 40, 3),
    "mini 6x24x32x128 T=3 S=1": (6, 3, 128, 24, 32, 1),
    "mini 6x24x32x128 T=1 S=1": (6, 1, 128, 24, 32, 1),
}
BACKENDS = ("numba", "reference")
TOLERANCE = 1e-5  # root-mean-square error over root-mean-square size, float32


def passes(case: tuple[int, ...]) -> dict[str, Callable[[str], tuple[Tensor, ...]]]:
    """Forward without gradients, and forward with backward, of K = V attention as in GNANet; P = 32, three foci."""
    batch, frames, channels, height, width, samples = case
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(batch, channels, height, width, generator=generator).requires_grad_()
    key = torch.randn(batch, frames, channels, height, width, generator=generator).requires_grad_()
    slope = torch.randn(query.shape, generator=generator)
    attend = partial(gaussian_neighbor_attention, query, key, key, num_samples=samples)

    def forward(backend: str) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (attend(backend=backend),)

    def both(backend: str) -> tuple[Tensor, ...]:
        out = attend(backend=backend)
        return (out.detach(), *torch.autograd.grad(out, (query, key), slope))

    return {"forward": forward, "forward+backward": both}


def error(got: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """Largest relative root-mean-square error over outputs and gradients."""
    return max(float((a - b).norm() / b.norm()) for a, b in zip(got, expected, strict=True))


def timings(call: Callable[[str], Any], repeats: int) -> dict[str, list[float]]:
    """Milliseconds at the 20, 50 and 80 % quantiles; the fast backend runs five times for each slow run."""
    times: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    for _ in range(repeats):
        for backend in ("numba",) * 5 + ("reference",):
            start = time.perf_counter()
            call(backend)
            times[backend].append(1e3 * (time.perf_counter() - start))
    quantiles = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    return {name: torch.tensor(t, dtype=torch.float64).quantile(quantiles).tolist() for name, t in times.items()}


def extra_memory(call: Callable[[], Any]) -> float | None:
    """MiB by which resident memory rises above its level before the call; None where Linux does not tell."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def resident(name: str) -> int:
        return int(status.read_text().split(name)[1].split()[0])

    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory that earlier calls freed must not hide what this one needs
        reset.write_text("5")
        before = resident("VmRSS:")
        call()
        return (resident("VmHWM:") - before) / 1024
    except (OSError, AttributeError, IndexError):
        return None


def metadata() -> dict[str, Any]:
    """Where and with what this was measured."""
    cpu = Path("/proc/cpuinfo")
    models = (
        [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if "model name" in line]
        if cpu.exists()
        else []
    )
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or None,
        "device": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numba", "numpy")},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m crowdloc.attention.benchmark", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results to this file")
    parser.add_argument("--repeats", type=int, default=5, help="runs of the reference per case (default 5)")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES), metavar="CASE")
    options = parser.parse_args(arguments)
    rows = []
    print(
        f"{'case':26}{'pass':18}{'numba ms':>10}{'reference ms':>14}{'ratio':>7}{'numba MiB':>11}{'reference MiB':>15}"
    )
    for case in options.cases:
        for name, call in passes(CASES[case]).items():
            wrong = error(call("numba"), call("reference"))
            if not wrong < TOLERANCE:
                raise SystemExit(f"{case}, {name}: numba differs from the reference by {wrong:.1e}; nothing was timed")
            times = timings(call, options.repeats)
            memory = {backend: extra_memory(partial(call, backend)) for backend in BACKENDS}
            ratio = times["reference"][1] / times["numba"][1]
            rows.append({"case": case, "pass": name, "error": wrong, "ms": times, "ratio": ratio, "extra_mib": memory})
            sizes = [f"{m:.1f}" if m is not None else "unknown" for m in memory.values()]
            print(
                f"{case:26}{name:18}{times['numba'][1]:10.1f}{times['reference'][1]:14.1f}{ratio:7.1f}{sizes[0]:>11}{sizes[1]:>15}"
            )
    if options.json:
        with atomic_write(options.json) as path:
            path.write_text(
                json.dumps({"metadata": metadata(), "quantiles": [0.2, 0.5, 0.8], "results": rows}, indent=1)
            )


if __name__ == "__main__":
    main()

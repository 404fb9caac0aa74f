"""The stored timings of the attention kernels (`results/kernels/`) as tables, and the check that comes before them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from crowdloc.attention import available_backends, gaussian_neighbor_attention
from crowdloc.benchmarks import steps
from crowdloc.benchmarks.attention import CASES, ratios
from crowdloc.benchmarks.metering import Meter
from crowdloc.core.files import read_json
from crowdloc.core.paths import RESULTS
from crowdloc.studies.neighborhoods import smooth_map

STEPS = "steps.json"
STORED = {"CPU": "attention_cpu.json", "GPU": "attention_gpu.json"}


def read(device: str) -> dict[str, Any] | None:
    """The stored benchmark of "CPU" or "GPU", None if it was never measured."""
    path = RESULTS / "kernels" / STORED[device]
    return read_json(path) if path.exists() else None


def backends_here() -> list[str]:
    """Backends that run natively on this machine: Triton's interpreter is for tests."""
    return [name for name in available_backends() if name != "triton" or torch.cuda.is_available()]


def agreement(shapes: Iterable[tuple[int, int, int, int]], *, seed: int = 0) -> pd.DataFrame:
    """Largest deviation of every backend here from the reference in float64: rows T×C×H×W, values and gradients.

    In units of the rounding error of the largest element, so that 1 means one float32 rounding.
    """
    rows = []
    for frames, channels, height, width in shapes:
        for boundary in ("clamp", "mask"):
            query, key = _maps(frames, channels, height, width, seed)
            exact = _run(query.double(), key.double(), "reference", boundary)
            for backend in backends_here():
                found = _run(query, key, backend, boundary)
                off = [
                    float((a - b).abs().max() / b.abs().max()) / torch.finfo(torch.float32).eps
                    for a, b in zip(found, exact, strict=True)
                ]
                columns = dict(zip(("output", "gradient of q", "gradient of k = v"), off, strict=True))
                rows.append(
                    {"T×C×H×W": f"{frames}×{channels}×{height}×{width}", "boundary": boundary, "backend": backend}
                    | columns
                )
    return pd.DataFrame(rows)


def side_by_side(*, seed: int = 0) -> dict[str, Tensor]:
    """One channel of the same attention by every backend here: {backend: (H, W)}."""
    maps = [smooth_map(16, 36, 64, seed=4 * seed + i) for i in range(4)]
    query, key = maps[0], torch.stack(maps[1:], dim=1)  # (1, C, H, W), (1, 3, C, H, W)
    return {name: _run(query, key, name, "clamp")[0][0, 0] for name in backends_here()}


def _maps(frames: int, channels: int, height: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(1, channels, height, width, generator=generator)
    return query, torch.randn(1, frames, channels, height, width, generator=generator)


def _run(query: Tensor, key: Tensor, backend: str, boundary: str) -> list[Tensor]:
    query, key = query.clone().requires_grad_(), key.clone().requires_grad_()
    out = gaussian_neighbor_attention(query, key, key, backend=backend, boundary=boundary, seed=7)
    slope = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).sin().view(out.shape)
    return [out.detach(), *torch.autograd.grad(out, (query, key), slope)]


def ratio_table(stored: dict[str, Any]) -> pd.DataFrame:
    """Median milliseconds and extra MiB of the fused backend and the eager reference, and their ratio."""
    fast = stored["backend"]
    rows = []
    for row in stored["ratios"]:
        ms, mib = row["ms"], row["extra_mib"]
        rows.append(
            {
                "case": row["case"],
                "pass": row["pass"],
                f"{fast} (ms)": ms[fast][1],
                "eager (ms)": ms["reference"][1],
                "times faster": row["ratio"],
                "memory (%)": 100 * mib[fast] / mib["reference"],
            }
        )
    return pd.DataFrame(rows)


def size_table(stored: dict[str, Any]) -> pd.DataFrame:
    """Tidy: method, cells, map, median ms and extra MiB of every forward pass that was run."""
    rows = [
        {
            "method": row["method"],
            "map": f"{row['height']}×{row['width']}",
            "cells": row["height"] * row["width"],
            "ms": row["ms"][1],
            "MiB": row["extra_mib"],
        }
        for row in stored["sizes"]
        if "ms" in row
    ]
    return pd.DataFrame(rows)


def size_text(stored: dict[str, Any], value: str = "ms") -> str:
    """One line per method, one column per map size; a dash where it was not run."""
    table = size_table(stored)
    wide = table.pivot(index="method", columns="map", values=value)
    order: Sequence[str] = list(dict.fromkeys(table["map"]))
    return wide.loc[list(dict.fromkeys(table["method"])), order].to_string(float_format="{:,.1f}".format, na_rep="–")


def roofline(stored: dict[str, Any]) -> pd.DataFrame:
    """Per measured attention: operations per byte of rows, and GFLOP/s of the kernel and of reading the rows alone.

    Both count what the method needs, whatever an implementation does besides: 4·C operations per row of C elements
    (score and sum), and for full attention 4·N²·C operations on N rows that need to be read once.
    """
    rows = []
    for row in stored["ceilings"]["gather"]:
        intensity = row["flop"] / row["bytes"]
        rows.append((f"GNA {row['case']}", intensity, row["flop"] / row["attention_ms"] / 1e6))
        rows.append((f"reading alone {row['case']}", intensity, row["flop"] / row["gather_ms"] / 1e6))
    eager = {row["case"]: row["ms"]["reference"][1] for row in stored["ratios"] if row["pass"] == "forward"}
    for row in stored["ceilings"]["gather"]:
        rows.append((f"eager {row['case']}", row["flop"] / row["bytes"], row["flop"] / eager[row["case"]] / 1e6))
    element = 4 if stored["backend"] == "numba" else 2
    for row in stored["sizes"]:
        if row["method"] == "full" and "ms" in row and (row["height"], row["width"]) in ((24, 40), (68, 120)):
            n, channels = row["height"] * row["width"], 512
            name = f"full {row['height']}x{row['width']}x{channels}"
            rows.append(
                (name, 4 * n * n * channels / (3 * n * channels * element), 4 * n * n * channels / row["ms"][1] / 1e6)
            )
    return pd.DataFrame(rows, columns=["what", "FLOP per byte", "GFLOP/s"])


def row_costs(stored: dict[str, Any]) -> pd.DataFrame:
    """Nanoseconds per drawn row, by its channels: reading it alone, the attention, and reading as a share of that."""
    rows = [
        {
            "channels": row["channels"],
            "reading (ns)": 1e6 * row["gather_ms"] / row["rows"],
            "attention (ns)": 1e6 * row["attention_ms"] / row["rows"],
            "share (%)": 100 * row["share"],
        }
        for row in stored["ceilings"]["widths"]
    ]
    return pd.DataFrame(rows)


def row_cost_line(stored: dict[str, Any]) -> str:
    """The straight line through those times: what a draw costs whatever its width, and what each channel adds."""
    table = row_costs(stored)
    parts = []
    for name in ("reading", "attention"):
        slope, fixed = np.polyfit(table["channels"], table[f"{name} (ns)"], 1)
        parts.append(f"{name} {fixed:.1f} ns a row and {slope:.3f} ns a channel")
    return "; ".join(parts)


def steps_table() -> pd.DataFrame:
    """Where the time of a training step goes (`python -m crowdloc.benchmarks.steps`), in per cent."""
    return steps.as_table(read_json(RESULTS / "kernels" / STEPS)["rows"])


def this_run(source: str, *, repeats: int = 3) -> str:
    """The first case of the benchmark measured now, as a table; nothing is measured at source "stored"."""
    if source == "stored":
        return 'not measured in this run: source is "stored"'
    backend = "triton" if torch.cuda.is_available() else "numba"
    rows = ratios(CASES[backend][0], backend, Meter("cuda" if backend == "triton" else "cpu"), repeats)
    return ratio_table({"backend": backend, "ratios": rows}).to_string(index=False, float_format="{:.1f}".format)


def where(stored: dict[str, Any] | None) -> str:
    """One line: device, threads, versions and commit of a stored benchmark; or that there is none."""
    if stored is None:
        return (
            "not measured: `python -m crowdloc.benchmarks.attention --json results/kernels/attention_gpu.json` on a GPU"
        )
    found = stored["metadata"]
    packages = found.get("packages", found)  # older records name versions and processor in their own way
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "triton", "numba") if name in packages)
    place = found.get("gpu") or f"{found.get('processor') or found['device']}, {found['threads']} threads"
    return f"{place} · {versions} · commit {(found['commit'] or 'unknown')[:8]} · {found['utc'][:10]}"

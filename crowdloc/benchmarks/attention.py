"""Time and memory of sampled attention: `python -m crowdloc.benchmarks.attention [--json PATH]`.

Numba on the CPU, Triton where there is a GPU, each against the eager reference; then the neighbourhoods against map
size; then the ceilings of the machine. Correctness comes first: no time is printed for a result that is wrong. What is
compared takes turns in one run, so that a busy machine slows all of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crowdloc.attention import (
    full_attention,
    gaussian_limit_attention,
    gaussian_neighbor_attention,
    local_attention,
    random_attention,
)
from crowdloc.benchmarks.ceilings import copy_bandwidth, gather_call, matrix_rate
from crowdloc.benchmarks.metering import Meter, quantiles
from crowdloc.core.files import write_json
from crowdloc.core.provenance import measurement

GAMMA, POINTS = (3.0, 5.0, 10.0), 32


@dataclass(frozen=True)
class Case:
    """K = V attention as in GNANet, with the paper's γ and P."""

    frames: int
    channels: int
    height: int
    width: int
    samples: int
    batch: int = 1
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        size = f"{self.height}x{self.width}x{self.channels}"
        return f"{f'{self.batch}x' * (self.batch > 1)}{size} T={self.frames} S={self.samples}"

    def maps(self, device: str) -> tuple[Tensor, Tensor]:
        """Random query (B, C, H, W) and key (B, T, C, H, W) that require gradients."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch, self.channels, self.height, self.width)
        query = torch.randn(shape, generator=generator).to(device, self.dtype)
        key = torch.randn(shape[0], self.frames, *shape[1:], generator=generator).to(device, self.dtype)
        return query.requires_grad_(), key.requires_grad_()


# The paper's width at test with one frame and with a clip, and a quarter of it while training; on a GPU a 1080p frame.
CASES = {
    "numba": [Case(1, 512, 24, 40, 3), Case(3, 512, 24, 40, 3), Case(1, 128, 36, 64, 1), Case(3, 128, 36, 64, 1)],
    "triton": [Case(frames, 512, 135, 240, 3, dtype=torch.bfloat16) for frames in (1, 3)],
}
WIDTHS = [16, 32, 64, 128, 256, 512]  # channels of a row
SIZES = [(12, 20), (24, 40), (36, 64), (48, 80), (68, 120), (135, 240)]
# relative root-mean-square error
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
LONGEST = 20.0  # seconds that one call of a sweep may be expected to take
SLOW = 3000.0  # milliseconds above which a call of a sweep is made once
MOST = 100  # calls of a sweep whose median is taken
LARGEST = 3 * 2**30  # bytes of gathered keys that the eager reference may make in a sweep


def passes(case: Case, device: str) -> dict[str, Callable[[str], tuple[Tensor, ...]]]:
    """Forward without gradients, and forward with backward, as functions of the backend."""
    query, key = case.maps(device)
    slope = torch.randn(query.shape, generator=torch.Generator().manual_seed(1)).to(query)
    attend = partial(
        gaussian_neighbor_attention, query, key, key, gamma=GAMMA, num_points=POINTS, num_samples=case.samples
    )

    def forward(backend: str) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (attend(backend=backend),)

    def both(backend: str) -> tuple[Tensor, ...]:
        out = attend(backend=backend)
        return (out.detach(), *torch.autograd.grad(out, (query, key), slope))

    return {"forward": forward, "forward+backward": both}


def error(got: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """Largest relative root-mean-square error over outputs and gradients."""
    return max(float((a - b).float().norm() / b.float().norm()) for a, b in zip(got, expected, strict=True))


def ratios(case: Case, backend: str, meter: Meter, repeats: int) -> list[dict[str, Any]]:
    """The backend against the reference, which run in turns, the faster one five times for each slow run."""
    rows = []
    for name, call in passes(case, meter.device).items():
        wrong = error(call(backend), call("reference"))
        if not wrong < TOLERANCE[case.dtype]:
            raise SystemExit(f"{case}, {name}: {backend} differs from the reference by {wrong:.1e}; nothing was timed")
        times: dict[str, list[float]] = {backend: [], "reference": []}
        for _ in range(repeats):
            for which in (backend,) * 5 + ("reference",):
                times[which].append(meter.milliseconds(partial(call, which)))
        ms = {which: quantiles(values) for which, values in times.items()}
        memory = {which: meter.extra_mib(partial(call, which)) for which in times}
        ratio = ms["reference"][1] / ms[backend][1]
        rows.append({"case": str(case), "pass": name, "error": wrong, "ms": ms, "ratio": ratio, "extra_mib": memory})
    return rows


def methods(case: Case, backend: str, device: str) -> dict[str, Callable[[], Tensor]]:
    """The forward pass of every neighbourhood on the same maps; random attention draws as many cells as GNA."""
    query, key = (x.detach() for x in case.maps(device))
    gna = partial(gaussian_neighbor_attention, query, key, key, gamma=GAMMA, num_points=POINTS)
    return {
        f"GNA, {backend}": partial(gna, backend=backend),
        "GNA, eager": partial(gna, backend="reference"),
        "random": partial(random_attention, query, key, key, num_points=len(GAMMA) * POINTS, backend=backend),
        "local 7x7": partial(local_attention, query, key, key, window=7, backend=backend),
        "full": partial(full_attention, query, key, key),
        "limit": partial(gaussian_limit_attention, query, key, key, gamma=GAMMA),
    }


def sweep(backend: str, meter: Meter, repeats: int, sizes: list[tuple[int, int]], channels: int = 512) -> list[Any]:
    """Every neighbourhood on maps of growing size: {"method", "height", "width", "ms", "extra_mib", "left_out"}."""
    rows: list[dict[str, Any]] = []
    last: dict[str, tuple[int, float]] = {}
    dtype = torch.float32 if backend == "numba" else torch.bfloat16
    for height, width in sizes:
        cells, case = height * width, Case(1, channels, height, width, 1, dtype=dtype)
        for name, call in methods(case, backend, meter.device).items():
            before, seconds = last.get(name, (cells, 0.0))
            gathered = cells * len(GAMMA) * POINTS * channels * dtype.itemsize if name == "GNA, eager" else 0
            left_out = ""
            if seconds * (cells / before) ** 2 > LONGEST:
                left_out = f"expected to take more than {LONGEST:.0f} s"
            if gathered > LARGEST:
                left_out = f"would gather {gathered / 2**30:.1f} GiB"
            row: dict[str, Any] = {"method": name, "height": height, "width": width, "left_out": left_out}
            if not left_out:
                first = meter.milliseconds(call)
                again = max(repeats, min(MOST, int(1000 / first))) if first < SLOW else 0  # short ones for a second
                times = quantiles([meter.milliseconds(call) for _ in range(again)] or [first])
                last[name] = cells, times[1] / 1e3
                row |= {"ms": times, "extra_mib": meter.extra_mib(call)}
            rows.append(row)
    return rows


def ceilings(cases: list[Case], backend: str, meter: Meter, repeats: int) -> dict[str, Any]:
    """Copy bandwidth, matrix rate, and reading against attention: of each case, and of rows of growing width."""
    dtype = cases[0].dtype
    widths = [Case(1, channels, 36, 64, 1, dtype=dtype) for channels in WIDTHS]
    return {
        "copy_gb_s": copy_bandwidth(meter.milliseconds, meter.device),
        "matrix_gflop_s": matrix_rate(meter.milliseconds, meter.device, dtype),
        "gather": [reading(case, backend, meter, repeats) for case in cases if case.batch == 1],
        "widths": [reading(case, backend, meter, repeats) | {"channels": case.channels} for case in widths],
    }


def reading(case: Case, backend: str, meter: Meter, repeats: int) -> dict[str, Any]:
    """The time of reading and adding up an attention's rows, as a share of the attention's; they run in turns."""
    query, key = (x.detach() for x in case.maps(meter.device))
    options: dict[str, Any] = {"gamma": GAMMA, "num_points": POINTS, "num_samples": case.samples}
    gather, rows = gather_call(key, backend=backend, **options)
    attend = partial(gaussian_neighbor_attention, query, key, key, **options, backend=backend)
    gather(), attend()
    times = [(meter.milliseconds(gather), meter.milliseconds(attend)) for _ in range(5 * repeats)]
    alone, attending = (quantiles(list(side))[1] for side in zip(*times, strict=True))
    return {
        "case": str(case),
        "rows": rows,
        "bytes": rows * case.channels * case.dtype.itemsize,
        "flop": 4 * rows * case.channels,
        "gather_ms": alone,
        "attention_ms": attending,
        "share": alone / attending,
    }


def _print(result: dict[str, Any], backend: str) -> None:
    print(f"{'case':24}{'pass':18}{backend + ' ms':>10}{'eager ms':>10}{'ratio':>7}{'MiB':>9}{'eager MiB':>11}")
    for row in result["ratios"]:
        ms, mib = ([row[key][name] for name in (backend, "reference")] for key in ("ms", "extra_mib"))
        sizes = "".join(f"{m:{n}.1f}" if m is not None else f"{'?':>{n}}" for m, n in zip(mib, (9, 11), strict=True))
        print(f"{row['case']:24}{row['pass']:18}{ms[0][1]:10.2f}{ms[1][1]:10.1f}{row['ratio']:7.1f}{sizes}")
    if result["sizes"]:
        print(f"\n{'forward, ms':14}" + "".join(f"{f'{h}x{w}':>10}" for h, w in SIZES))
    for name in dict.fromkeys(row["method"] for row in result["sizes"]):
        cells = [
            f"{row['ms'][1]:10.1f}" if "ms" in row else f"{'–':>10}" for row in result["sizes"] if row["method"] == name
        ]
        print(f"{name:14}" + "".join(cells))
    for row in result["ceilings"].get("gather", []):
        rate = f"{row['bytes'] / row['attention_ms'] / 1e6:.0f} GB/s"
        print(f"\n{row['case']}: rows of {row['bytes'] / 2**20:,.0f} MiB, {rate}, {row['share']:.0%} of reading alone")


def main(arguments: list[str] | None = None) -> None:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m crowdloc.benchmarks.attention", description=__doc__)
    parser.add_argument("--backend", choices=list(CASES), default="triton" if on_gpu else "numba")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results to this file")
    parser.add_argument("--repeats", type=int, default=5, help="runs of the reference per case (default 5)")
    parser.add_argument("--only-ratios", action="store_true", help="leave out map sizes and ceilings")
    options = parser.parse_args(arguments)
    backend, cases = options.backend, CASES[options.backend]
    meter = Meter("cuda" if backend == "triton" and on_gpu else "cpu")
    result: dict[str, Any] = {"metadata": measurement(), "backend": backend, "quantiles": [0.2, 0.5, 0.8]}
    result["ratios"] = [row for case in cases for row in ratios(case, backend, meter, options.repeats)]
    result["sizes"] = [] if options.only_ratios else sweep(backend, meter, options.repeats, SIZES)
    result["ceilings"] = {} if options.only_ratios else ceilings(cases, backend, meter, options.repeats)
    _print(result, backend)
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()

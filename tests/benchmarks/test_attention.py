"""The benchmark: it refuses wrong results, and its ceiling reads the rows that the attention reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from crowdloc.attention import available_backends, sample_neighbors
from crowdloc.benchmarks import attention as benchmark
from crowdloc.benchmarks import ceilings
from crowdloc.benchmarks.metering import Meter, quantiles
from crowdloc.core.provenance import validate


def test_checks_before_it_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [benchmark.Case(2, 8, 6, 7, 1), benchmark.Case(1, 8, 6, 7, 1, batch=2)]
    monkeypatch.setitem(benchmark.CASES, "numba", cases)
    monkeypatch.setattr(benchmark, "SIZES", [(3, 4), (6, 7)])
    monkeypatch.setattr(benchmark, "WIDTHS", [1, 16])
    benchmark.main(["--backend", "numba", "--repeats", "1", "--json", str(tmp_path / "cpu.json")])
    stored = json.loads((tmp_path / "cpu.json").read_text())
    validate(stored["metadata"], measured=True)
    assert [row["pass"] for row in stored["ratios"]] == ["forward", "forward+backward"] * 2
    assert all(row["error"] < 1e-5 and len(row["ms"]["numba"]) == 3 for row in stored["ratios"])
    assert {row["method"] for row in stored["sizes"]} == {
        "GNA, numba", "GNA, eager", "random", "local 7x7", "full", "limit",
    }  # fmt: skip
    assert [row["case"] for row in stored["ceilings"]["gather"]] == ["6x7x8 T=2 S=1"]  # single maps only
    widths = stored["ceilings"]["widths"]
    assert [(row["channels"], row["rows"]) for row in widths] == [(c, 36 * 64 * 3 * 32) for c in (1, 16)]
    monkeypatch.setitem(benchmark.TOLERANCE, torch.float32, 0.0)
    with pytest.raises(SystemExit, match="nothing was timed"):
        benchmark.main(["--backend", "numba", "--only-ratios"])


def test_a_sweep_leaves_out_what_would_take_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "LONGEST", 0.0)
    monkeypatch.setattr(benchmark, "LARGEST", 0)
    rows = benchmark.sweep("numba", Meter("cpu"), 1, [(2, 3), (4, 6)], channels=4)
    assert all("ms" not in row and "would gather" in row["left_out"] for row in rows if row["method"] == "GNA, eager")
    others = [row for row in rows if row["method"] != "GNA, eager"]
    assert [("ms" in row, row["left_out"] == "") for row in others] == [(True, True)] * 5 + [(False, False)] * 5


@pytest.mark.parametrize("backend", ["numba", "triton"])
def test_the_ceiling_reads_the_rows_of_the_attention(backend: str) -> None:
    if backend not in available_backends():
        pytest.skip("needs triton, and a GPU or TRITON_INTERPRET=1")
    device = "cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    key = torch.randn(1, 2, 5, 3, 4, device=device)
    options = {"gamma": (1.0, 2.0), "num_points": 3, "num_samples": 2}
    call, rows = ceilings.gather_call(key, backend=backend, **options)
    named = sample_neighbors(3, 4, num_frames=2, seed=0, **options).flatten(1).tolist()
    flat = key[0].movedim(1, -1).reshape(-1, 5).cpu()
    assert rows == sum(map(len, named))
    torch.testing.assert_close(call().cpu(), torch.stack([flat[cells].sum(dim=0) for cells in named]))


def test_quantiles_and_memory_by_hand() -> None:
    assert quantiles([10.0, 0.0, 5.0]) == pytest.approx([2.0, 5.0, 8.0])
    used = Meter("cpu").extra_mib(lambda: torch.ones(2**23).sum())  # 32 MiB
    assert used is None or 30 < used < 40

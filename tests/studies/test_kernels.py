"""The stored timings as tables, and the agreement of the backends that is shown before them."""

from __future__ import annotations

import pytest
import torch

from crowdloc.attention import reference
from crowdloc.core.provenance import measurement
from crowdloc.studies import kernels

STORED = {
    "backend": "numba",
    "ratios": [
        {"case": "a", "pass": "forward", "ratio": 20.0, "ms": {"numba": [4, 5, 6], "reference": [90, 100, 110]},
         "extra_mib": {"numba": 2.0, "reference": 100.0}},
    ],
    "sizes": [
        {"method": "full", "height": 24, "width": 40, "left_out": "", "ms": [1, 2, 3], "extra_mib": 7.0},
        {"method": "full", "height": 99, "width": 40, "left_out": "expected to take more than 20 s"},
    ],
    "ceilings": {
        "gather": [{"case": "a", "bytes": 4e6, "flop": 4e6, "gather_ms": 2.0, "attention_ms": 4.0}],
        "widths": [
            {"channels": 16, "rows": 1000, "gather_ms": 0.002, "attention_ms": 0.010, "share": 0.2},
            {"channels": 32, "rows": 1000, "gather_ms": 0.004, "attention_ms": 0.016, "share": 0.25},
        ],
    },
}  # fmt: skip


def test_tables_by_hand():
    assert kernels.ratio_table(STORED).to_dict("records") == [
        {"case": "a", "pass": "forward", "numba (ms)": 5, "eager (ms)": 100, "times faster": 20.0, "memory (%)": 2.0}
    ]
    assert kernels.size_table(STORED).to_dict("records") == [
        {"method": "full", "map": "24×40", "cells": 960, "ms": 2, "MiB": 7.0}
    ]
    points = kernels.roofline(STORED).set_index("what")
    assert points.loc["GNA a"].tolist() == [1.0, 1.0]  # 4 MFLOP in 4 ms
    assert points.loc["reading alone a", "GFLOP/s"] == 2.0
    assert points.loc["eager a", "GFLOP/s"] == 0.04
    # 4·960²·512 operations on three maps of 960 rows of 512 float32: 960 / 3 per byte; in 2 ms
    assert points.loc["full 24x40x512"].tolist() == pytest.approx([320.0, 4 * 960**2 * 512 / 2e6])


def test_what_a_row_costs_by_hand():
    assert kernels.row_costs(STORED).to_numpy().tolist() == [[16, 2.0, 10.0, 20.0], [32, 4.0, 16.0, 25.0]]
    line = kernels.row_cost_line(STORED).replace("-0.0", "0.0")
    assert line == "reading 0.0 ns a row and 0.125 ns a channel; attention 4.0 ns a row and 0.375 ns a channel"


@pytest.mark.parametrize("device", kernels.STORED)
def test_every_stored_benchmark_was_right_before_it_was_timed(device):
    stored = kernels.read(device)
    if stored is None:
        assert kernels.where(None).startswith("not measured")
        return
    assert all(row["error"] < 1e-5 for row in stored["ratios"]) or stored["backend"] == "triton"
    assert {"commit", "utc", "threads", "load"} <= set(stored["metadata"])
    assert all(bool(row["left_out"]) != ("ms" in row) for row in stored["sizes"])
    assert stored["metadata"].get("packages", stored["metadata"])["torch"] in kernels.where(stored)


def test_where_names_machine_and_versions_of_a_new_measurement():
    facts = measurement() | {"gpu": None}
    line = kernels.where({"metadata": facts})
    assert f"{facts['processor']}, {facts['threads']} threads · torch {facts['packages']['torch']}" in line


def test_agreement_sees_a_wrong_backend(monkeypatch):
    shapes = [(2, 4, 5, 6)]
    good = kernels.agreement(shapes).drop(columns=["T×C×H×W", "boundary", "backend"])
    assert 0 < good.max().max() < 16  # roundings
    attend = reference.attend
    monkeypatch.setattr(
        reference, "attend", lambda q, *rest: attend(q * (1 + 1e-4 * (q.dtype == torch.float64)), *rest)
    )
    wrong = kernels.agreement(shapes).drop(columns=["T×C×H×W", "boundary", "backend"])
    assert wrong.max().max() > 50


def test_nothing_is_measured_at_source_stored():
    assert kernels.this_run("stored").startswith("not measured")
    assert set(kernels.side_by_side()) == set(kernels.backends_here())

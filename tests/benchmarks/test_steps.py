"""Shares of a step's time: whose time an operation's is, that they add up, and one real training watched."""

from __future__ import annotations

import pytest
from helpers import disc_video

from crowdloc.benchmarks import steps


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::mkldnn_convolution", "convolution"),
        ("aten::convolution_backward", "convolution"),
        ("crowdloc::neighbor_attention_backward", "attention"),
        ("aten::native_batch_norm", "batch norm"),
        ("aten::_foreach_addcmul_", "optimizer"),
        ("aten::copy_", steps.REST),
    ],
)
def test_kinds(operation: str, kind: str) -> None:
    assert steps.kind_of(operation) == kind


def test_shares_by_hand() -> None:
    found = steps.shares({"aten::convolution": 2.0, "aten::add": 1.0, "crowdloc::neighbor_attention": 3.0}, 10.0)
    assert found == pytest.approx(
        {"attention": 0.3, "convolution": 0.2, "batch norm": 0, "optimizer": 0, "rest": 0.1, "outside": 0.4}
    )


def test_a_training_is_watched(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("crowdloc.inference.maps.BUILD", tmp_path / "build")
    data = disc_video(tmp_path / "discs", frames=3)
    case = steps.Case("tiny", "gnanet", {"width": 1 / 64, "batch_size": 1})
    row = steps.measure_case(case, data, steps=3)
    assert (row["training"], row["images"], row["pixels"]) == ("tiny", 3, "whole frames")
    parts = [row[kind] for kind in (*steps.KINDS, steps.REST, steps.OUTSIDE)]
    assert sum(parts) == pytest.approx(1, abs=1e-3) and row["attention"] > 0 < row["convolution"]
    table = steps.as_table([row])
    assert list(table)[:5] == ["training", "images", "pixels", "seconds per step", "attention %"]

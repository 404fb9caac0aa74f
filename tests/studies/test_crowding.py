"""Accuracy by how crowded the images are."""

from pathlib import Path

import numpy as np
import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.results.evidence import Evidence
from crowdloc.results.experiments import Experiment
from crowdloc.results.runs import Run
from crowdloc.studies.crowding import crowding_table

HEADS = [2, 30, 1, 10]


def run(found: list[int]) -> Run:
    """A run that finds that many heads of each image, all exactly, with scores of .9, and nothing else."""
    flags = [np.ones((3, 10, n), dtype=bool) for n in found]
    evidence = Evidence(
        [f"{k}" for k in range(4)], list("aabb"), np.array(HEADS), [np.full(n, 0.9) for n in found], flags
    )
    return Run(Experiment("shanghaitech_b", "mini", "raznet", 0), "stored", evidence, None, 0.5, {}, Path())


def test_parts_are_cut_by_heads_and_judged_alone():
    rows = crowding_table({"raznet": [run([2, 15, 1, 10])], "nothing": []}, parts=2)
    assert rows["images"].tolist() == ["2 of 1-2 heads", "2 of 10-30 heads"]
    assert rows["mAR σ20"].tolist() == ["1.000", "0.625"]  # 25 of 40 heads
    assert rows["count error (%)"].tolist() == ["0.0", "37.5"]
    assert rows["bias (%)"].tolist() == ["+0.0", "-37.5"]


def test_errors_of_both_signs_add_up_and_biases_cancel():
    flags = np.zeros((3, 10, 4), dtype=bool)
    evidence = Evidence(["a", "b"], ["s", "s"], np.array([2, 6]), [np.full(4, 0.9)] * 2, [flags] * 2)
    (row,) = crowding_table(
        {"raznet": [Run(Experiment("mall", "mini", "raznet", 0), "stored", evidence, None, 0.5, {}, Path())]}, parts=1
    ).to_dict("records")
    assert (row["count error (%)"], row["bias (%)"], row["mAP σ20"]) == ("50.0", "+0.0", "0.000")


def test_fewer_images_than_parts_is_an_error():
    with pytest.raises(CrowdlocError, match="4 images cannot be cut into 5 parts"):
        crowding_table({"raznet": [run(HEADS)]}, parts=5)

"""bfloat16 in the front-end: chosen by a rule, close to float32 by stated bounds, and in nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from crowdloc.core.errors import CrowdlocError
from crowdloc.inference import precision
from crowdloc.inference.windows import encode, predict_frames
from crowdloc.models import normalise
from crowdloc.results.networks import open_network
from crowdloc.studies import footage


def test_auto_is_bf16_only_where_the_processor_has_it(monkeypatch):
    for capabilities, chosen in (
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({"avx512_f": True, "avx512_bf16": False}, "fp32"),
        ({}, "fp32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=capabilities: known, raising=False)
        assert (precision.choose("auto"), precision.choose("bf16"), precision.choose("fp32")) == (
            chosen,
            "bf16",
            "fp32",
        )
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)  # an older PyTorch, which cannot tell
    assert precision.choose("auto") == "fp32"
    with pytest.raises(CrowdlocError, match="precision 'fp16' is unknown: choose one of auto, fp32, bf16"):
        precision.choose("fp16")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Frames (240, 320, 3) of the drawn film, which the stored networks find most heads in."""
    folder = footage.draw(tmp_path_factory.mktemp("film"), frames=6)
    return [sample.image for sample in footage.samples(folder, (0, 1, 2))]


@pytest.mark.parametrize("method", ["raznet", "gnanet"])
def test_bf16_moves_points_by_hundredths_of_a_pixel(film, method):
    """Of every detection that counts in float32 there is one in bfloat16 within these bounds."""
    model = open_network(method=method).method
    found = {}
    for name in ("fp32", "bf16"):
        found[name] = [p for _, p in predict_frames(model, film, image=lambda image: image, precision=name)]
    distances, changes = [], []
    for before, after in zip(found["fp32"], found["bf16"], strict=True):
        counted = before.scores >= 0.3
        distance = cdist(before.points[counted], after.points)
        nearest = distance.argmin(axis=1)
        distances += [*distance.min(axis=1)]
        changes += [*np.abs(before.scores[counted] - after.scores[nearest])]
    assert len(distances) > 20 and max(distances) > 0  # it is another arithmetic
    assert np.median(distances) < 0.05 and np.max(distances) < 1.0
    assert np.median(changes) < 0.003 and np.max(changes) < 0.1


def test_maps_are_float32_and_float32_is_untouched(film):
    model = open_network(method="raznet").method
    with torch.inference_mode():
        plain = model.encode(normalise(torch.from_numpy(film[0]))[None])
    same, other = (encode(model, film[0], precision=name).maps for name in ("fp32", "bf16"))
    assert {stage.dtype for stage in (*same, *other)} == {torch.float32}
    for before, after, rounded in zip(plain, same, other, strict=True):
        assert torch.equal(before[0], after)
        error = (after - rounded).norm() / after.norm()
        assert 0 < error < 0.02

"""What enters the head of the stored GNANet: shares that add to one, inputs of the shapes that the docstring states."""

from __future__ import annotations

import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.studies import diagnosis


def test_terms_of_the_stored_network():
    table = diagnosis.fusion_terms("synthcrowd-sense-mini/gnanet/seed0", images=1)
    terms = table.drop(index="sum")
    assert terms["share of sum"].sum() == pytest.approx(1, abs=1e-5)
    assert table["fine share"].between(0, 1).all()
    assert table["fine"].to_numpy() == pytest.approx((table["fine share"] * table["variance"]).to_numpy())
    assert table.loc["keyframe feature", "variance"] == 1
    assert table["like a plain average"].dropna().between(-1, 1).all()


def test_only_a_gnanet_has_attention_to_look_at():
    with pytest.raises(CrowdlocError, match="no GNANet with keyframe and temporal attention"):
        diagnosis.attention_inputs("synthcrowd-sense-mini/raznet/seed0", images=1)


def test_inputs_have_one_keyframe_and_one_context_per_clip():
    model, inputs = diagnosis.attention_inputs("synthcrowd-sense-mini/gnanet/seed0", images=2)
    batch, frames = inputs["clips"].shape[:2]
    assert (batch, frames) == (2, len(model.offsets))
    assert inputs["context"].shape == inputs["keyframe"].shape == inputs["clips"][:, 0].shape
    assert (inputs["keyframe"] == inputs["clips"][:, frames // 2]).all()

"""The variants of GNANet: each differs from it in what its name says, and starts where the others start."""

from __future__ import annotations

import pytest
import torch

from crowdloc.attention import local_attention, module_seed, random_attention
from crowdloc.models import METHODS, build_model
from crowdloc.models.localizer import initialise
from crowdloc.models.parts.fusion import FUSIONS, Fusion
from crowdloc.models.parts.neighbors import ATTENTIONS, build_attention

SMALL = {"width": 1 / 64, "norm": "none"}
VARIANTS = list(METHODS["gnanet"].variants)


def features(model, frames=3, seed=0):
    return torch.rand(2, frames, model.channels, 5, 7, generator=torch.Generator().manual_seed(seed))


def made(variant="", **options):
    model = build_model("gnanet", **SMALL, **METHODS["gnanet"].options(variant), **options)
    initialise(model, 0)
    return model


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns_with_all_it_has(variant):
    model = made(variant).train()
    model.localize(features(model), step=1).square().mean().backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None and not n.startswith("backbone")]
    assert idle == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_variants_share_starts_alike(variant):
    ours, theirs = made(variant).state_dict(), made("gamma5").state_dict()
    shared = [name for name in ours if name in theirs]
    assert any(name.startswith("combine") for name in shared)
    assert all(torch.equal(ours[name], theirs[name]) for name in shared)


def test_attention_is_replaced_in_all_three_places():
    query, value = torch.rand(2, 8, 5, 7), torch.rand(2, 3, 8, 5, 7)
    options = {"window": 3, "num_points": 4, "num_samples": 3}
    random = build_attention("random", 8, **options)
    expected = random_attention(query, value, value, num_points=4, num_samples=1, seed=5)
    assert torch.equal(random.train()(query, value, value, seed=5), expected)
    expected = random_attention(query, value, value, num_points=4, num_samples=3, seed=5)
    assert torch.equal(random.eval()(query, value, value, seed=5), expected)
    local = build_attention("local", 8, **options)
    assert torch.equal(local(query, value, value, seed=5), local_attention(query, value, value, window=3))
    for kind in ATTENTIONS:
        model = build_model("gnanet", **SMALL, attention=kind, gamma=[5.0])
        modules = {type(getattr(model, name)) for name in ("scene_gna", "keyframe_gna", "temporal_gna")}
        assert len(modules) == 1
    assert model.temporal_gna.num_frames == 3 and model.keyframe_gna.num_frames == 1  # deformable, the last
    with pytest.raises(ValueError, match="attention must be one of gaussian, random"):
        build_model("gnanet", **SMALL, attention="axial")


@pytest.mark.parametrize("kind", FUSIONS)
def test_fusions_by_hand(kind):
    feature, attended = torch.full((1, 2, 1, 1), 3.0), [torch.full((1, 2, 1, 1), 1.0), torch.full((1, 2, 1, 1), 2.0)]
    fusion = Fusion(2, 2, kind=kind)
    if kind == "gated":
        assert torch.equal(fusion(feature, attended), feature)  # starts without attention
        fusion.gate.data[:] = torch.tensor([0.5, -1.0])
    if kind == "project":
        assert torch.equal(fusion(feature, attended), feature)
        fusion.projections[0].weight.data[:, :, 0, 0] = torch.eye(2)
    if kind == "concat":
        fusion.mix.weight.data[:] = 0.5
        fusion.mix.bias.data[:] = 1.0
    # 3 + 1 + 2; a third of it; 3 + .5·1 − 1·2; 3 + 1; 3 + (3 − 1) + (3 − 2); 1 + .5·2·(3 + 1 + 2)
    expected = {"sum": 6.0, "mean": 2.0, "gated": 1.5, "project": 4.0, "difference": 6.0, "concat": 7.0}[kind]
    assert fusion(feature, attended).flatten().tolist() == pytest.approx([expected] * 2)


def test_stacked_frames_take_the_place_of_the_keyframe():
    model = made("stacked", fusion="gated").eval()  # its gates are 0: no attention
    maps = features(model)
    assert torch.equal(model.aggregate(maps, None), model.scene(maps))
    model.stacked = False
    assert torch.equal(model.aggregate(maps, None), maps[:, model.keyframe])


def test_scene_modelling_alone_sends_the_context_to_the_head():
    model = made("scene").eval()
    maps = features(model)
    scene = model.scene(maps)
    attended = model.scene_gna(scene, scene, scene, seed=module_seed(model.run_seed, "scene", None))
    assert torch.equal(model.aggregate(maps, None), model.context(torch.cat([attended, scene], dim=1)))


def test_components_are_switched_off():
    assert made("keyframe").temporal_gna is None and made("temporal").keyframe_gna is None
    assert made("gamma10").scene_gna.gamma == (10.0,) and made("points8").scene_gna.num_points == 8
    assert made().scene_gna.gamma == (3.0, 5.0, 10.0)

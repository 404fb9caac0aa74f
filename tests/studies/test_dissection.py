"""Networks taken apart: what is replaced is replaced and put back, cells by hand, areas against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from crowdloc.core.errors import CrowdlocError
from crowdloc.models import build_model, initialise
from crowdloc.studies import dissection as d


def made(name="gnanet", **options):
    small = {"gamma": (2.0,), "num_points": 6} if name == "gnanet" else {}
    model = build_model(name, width=1 / 32, **(options | small))
    initialise(model, 0)
    return model.eval()


@pytest.fixture
def clip():
    return torch.rand(3, 16, 6, 9, generator=torch.Generator().manual_seed(0))


def answer(model, clip):
    with torch.inference_mode():
        return model.aggregate(clip[None], None)


def still(clip):
    return clip[1:2].expand_as(clip).contiguous()


@pytest.mark.parametrize("name", ["gnanet", "frame-stack"])
def test_parts_are_replaced_and_put_back(name, clip):
    model = made(name)
    before = answer(model, clip)
    for part in d.parts_of(model):
        with part.replaced(model):
            changed = answer(model, clip)
        assert torch.equal(changed, before) == (part is d.UNTOUCHED), part.name
        assert torch.equal(answer(model, clip), before)


def test_a_stack_without_neighbours_is_one_of_still_frames(clip):
    model = made("frame-stack")
    with d.stack_without_neighbours(model):
        alone = answer(model, clip)
    assert torch.equal(alone, answer(model, still(clip)))


def test_a_gnanet_whose_parts_all_see_the_keyframe_is_one_of_still_frames(clip):
    model = made()
    with d.stack_without_neighbours(model):
        one = answer(model, clip)
        with d.values_without_neighbours(model):
            both = answer(model, clip)
    assert torch.equal(both, answer(model, still(clip))) and not torch.equal(one, both)


def test_flat_attention_and_a_plain_average(clip):
    model = made(temporal=False)
    keyframe = clip[1:2]
    with d.flat_attention(model):
        rest = answer(model, clip) - keyframe
    assert rest.std(dim=(2, 3)).max() < 1e-6
    plain = model.keyframe_gna(torch.zeros_like(keyframe), keyframe, keyframe, seed=model._seed("keyframe", None))
    with d.plain_average(model):
        torch.testing.assert_close(answer(model, clip) - keyframe, plain)


def test_maps_inside_end_with_what_the_head_is_given(clip):
    titles = {
        "raznet": [d.FEATURE],
        "frame-stack": [d.FEATURE, "stacked convolution"],
        "gnanet": [d.FEATURE, "stacked convolution", "scene attention", "scene context M", "temporal attention",
                   "keyframe attention", d.SUM],
    }  # fmt: skip
    for name, expected in titles.items():
        model = made(name)
        window = clip if name != "raznet" else clip[1:2]
        with torch.inference_mode():
            inside = d.maps_inside(model, window)
        assert list(inside) == expected
        torch.testing.assert_close(inside[expected[-1]], answer(model, window))
    total = inside[d.FEATURE] + inside["temporal attention"] + inside["keyframe attention"]
    torch.testing.assert_close(total, inside[d.SUM])


def test_the_pull_at_what_is_added_up_is_its_share_of_the_norm(clip):
    """The gradient of a sum is that of each of its terms."""
    model = made()
    found = d.pulls(model, clip, np.array([[20.0, 20.0]]), (48, 72))
    with torch.inference_mode():
        inside = d.maps_inside(model, clip)
    share = float(inside["temporal attention"].norm() / inside[d.SUM].norm())
    assert found[d.SUM] == 100 and found["temporal attention"] == pytest.approx(100 * share, rel=1e-4)
    assert all(pull > 0 for pull in found.values())


def test_cells_by_hand():
    """A map of 5×8 cells: a head in cell (1, 1), a look-alike beside it, one far away and one outside."""
    heads, figures = np.array([[12.0, 12.0]]), np.array([[20.0, 12.0], [60.0, 36.0], [200.0, 12.0]])
    cells = d.cells_to_tell(heads, figures, (5, 8))
    assert cells.moves.tolist() == [9, 39] and cells.person.tolist() == [True, False]
    ring = [3, 11, 19, 24, 25, 26, 27]  # column 3, row 3; the rest of the ring lies outside of the map
    assert sorted(cells.where[~cells.own].tolist()) == ring and cells.where[cells.own].tolist() == [9]
    empty = d.cells_to_tell(np.empty((0, 2)), figures[:0], (5, 8))
    assert len(empty.moves) == len(empty.where) == 0


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_area_under_the_curve(samples):
    score, positive = np.array([float(s) for s, _ in samples]), np.array([p for _, p in samples])
    if positive.all() or not positive.any():
        return
    u = mannwhitneyu(score[positive], score[~positive]).statistic
    assert d.auc(score, positive) == pytest.approx(u / (positive.sum() * (~positive).sum()))


def test_a_linear_rule_finds_the_direction_and_no_more_than_there_is():
    random = np.random.default_rng(0)
    positive, fold = random.random(4000) < 0.3, random.integers(0, 2, 4000)
    x = random.normal(size=(4000, 3)) * (1.0, 5.0, 1.0)
    assert d.told_apart(x, positive, fold) == pytest.approx(0.5, abs=0.03)
    x[:, 0] += 2 * positive  # two standard deviations apart: Φ(√2) = .921
    assert d.told_apart(x, positive, fold) == pytest.approx(0.921, abs=0.01)
    direction = d.linear_rule(x, positive)
    assert abs(direction[0]) > 10 * abs(direction[1:]).max()


def test_only_frozen_networks_on_generated_data():
    with pytest.raises(CrowdlocError, match="no localizer behind a frozen backbone"):
        d._opened(d.Experiment.parse("mall-mini/gnanet/seed0"))
    assert d._scene_of(type("Frame", (), {"id": "sense-val-scene003/005"})) == (3, 5)


def test_texts_of_stored_studies(store_study):
    store_study(
        "known_g",
        "network,map,moves,where,pull\nraznet,keyframe feature,0.6,0.99,\n"
        "gnanet.temporal,sum,0.58,0.98,100.0\ngnanet.gamma5,temporal attention,0.52,0.9,48.6\n",
    )
    first = d.known_text("g").splitlines()
    assert first[0] == "person or still figure (AUC)"
    assert first[1].split() == "RAZNet SM + T-GNA SM + K-GNA + T-GNA".split()
    assert [line.split()[-1] for line in first[2:5]] == ["0.600", "0.520", "0.580"]  # the sum is last
    assert d.pulls_text("g").splitlines()[1].split() == ["temporal", "attention", "49"]
    store_study(
        "interventions_g",
        "network,replaced,mAP σ5,mAP σ20,mAP σ40\nframe-stack,as trained,0.4,0.8,0.9\n"
        "frame-stack,other,0.4,0.75,0.9\nraznet,as trained,0.3,0.7,0.8\n",
    )
    lines = d.interventions_text("g").splitlines()
    assert lines[1].split()[-3:] == ["0.400", "0.800", "0.900"] and lines[2].split()[-1] == "-0.050"
    assert lines[3].split()[-1] == "0.800"

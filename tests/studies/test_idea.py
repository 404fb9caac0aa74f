"""What notebook 00 tells: draws, weights and gradients by hand, its twenty lines against the package, its exercises."""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import disc_video
from torch import nn

from crowdloc.attention import (
    GaussianNeighborAttention,
    full_attention,
    gaussian_limit_attention,
    gaussian_neighbor_attention,
    local_attention,
    random_attention,
    sample_neighbors,
)
from crowdloc.core.errors import CrowdlocError
from crowdloc.models import build_model, initialise
from crowdloc.results import runs
from crowdloc.results.experiments import Experiment
from crowdloc.studies import diagnosis, idea, neighborhoods, plain, toy

ID = "synthcrowd-sense-mini/gnanet/seed0"
SIZE = (9, 14)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A network with random weights instead of the stored one, on frames with discs."""

    def load_model(experiment, path):
        model = build_model(experiment.method, width=1 / 64, **options)
        initialise(model, experiment.seed)
        return model.eval()

    options: dict = {}
    monkeypatch.setattr(runs, "load_model", load_model)
    monkeypatch.setattr(Experiment, "load", lambda self, split: disc_video(tmp_path, frames=5))
    return options


def one_hot(place: tuple[int, int]) -> torch.Tensor:
    """(1, 1, H, W), 1 at a place: as a value it makes attention tell the weight of that place."""
    value = torch.zeros(1, 1, *SIZE)
    value[0, 0, *place] = 1
    return value


def test_foci_draw_apart_and_the_border_rule_marks_what_it_moved():
    rows = idea.clouds((40, 60), [(20, 30), (1, 58)], (3.0, 6.0), num_points=500)
    middle, wide = rows[0]
    assert not (2 * (middle.cells - (30, 20)) == wide.cells - (30, 20)).all()  # not one cloud, scaled
    assert middle.moved.sum() == 0 and 0.3 < rows[1][1].moved.mean() < 0.8
    for one in rows[1]:
        x, y = one.cells[one.moved].T
        assert ((x == 59) | (x == 0) | (y == 0) | (y == 39)).all() and len(one.cells) == 500
    distance = np.linalg.norm(middle.cells - (30, 20), axis=1)
    assert (distance < 3.0).mean() == pytest.approx(1 - np.exp(-0.5), abs=0.06)
    assert (distance < 6.0).mean() == pytest.approx(1 - np.exp(-2), abs=0.05)


def test_the_sliders_cloud_is_one_of_them_and_stays_on_the_map():
    one = idea.cloud(SIZE, γ=3.0, P=7, seed=4, x=99, y=-1)
    same = idea.clouds(SIZE, [(0, 13)], (3.0,), num_points=7, seed=4)[0][0]
    assert one.query == (0, 13) and (one.cells == same.cells).all() and (one.moved == same.moved).all()
    assert (idea.cloud(SIZE, γ=3.0, P=30, seed=4, x=13, y=0).cells[:7] == one.cells).all()


@pytest.mark.parametrize("query", [(4, 6), (0, 13)])
def test_four_ways_are_those_of_the_package(query):
    """Without scores every key weighs alike, so weights count how often a cell is looked at."""
    key = torch.zeros(1, 1, *SIZE)
    ways = dict(zip(("full", "local", "random", "gaussian"), idea.ways(SIZE, query).values(), strict=True))
    for place in [query, (3, 6), (0, 12), (8, 0)]:
        value = one_hot(place)
        found = {
            "full": full_attention(key, key, value),
            "local": local_attention(key, key, value, window=9),
            "random": random_attention(key, key, value, num_points=96),
            "gaussian": gaussian_neighbor_attention(key, key, value),
        }
        for name, out in found.items():
            expected = (ways[name] == place[::-1]).all(axis=1).mean()
            assert out[0, 0, *query].item() == pytest.approx(expected, abs=1e-6), (name, place)
    assert len(ways["full"]) == 9 * 14 and len(ways["random"]) == len(ways["gaussian"]) == 96


def test_draws_come_to_their_limit_and_random_draws_to_full_attention():
    smooth = neighborhoods.smooth_map(16, *SIZE)
    table = idea.towards(smooth, smooth, gamma=2.0, points=(16, 1024), seeds=2)
    few, many = table.loc[16], table.loc[1024]
    assert few["GNA to its limit"] / many["GNA to its limit"] == pytest.approx(8, rel=0.35)  # √64
    assert many["random to full attention"] < 0.3 * few["random to full attention"]
    limit = gaussian_limit_attention(smooth, smooth, smooth, gamma=2.0) - full_attention(smooth, smooth, smooth)
    unit = smooth.var(dim=(-2, -1)).mean()
    assert many["GNA to full attention"] == pytest.approx((limit.square().mean() / unit).sqrt().item(), rel=0.1)


def test_a_followed_query_adds_up_to_the_output(small):
    walk = idea.follow(ID, 2, (3, 4))
    assert walk.draws.sum() == 3 * 32 and walk.weights.sum() == pytest.approx(1, abs=1e-5)
    assert ((walk.weights > 0) <= (walk.draws > 0)).all()
    assert walk.output[walk.query] == pytest.approx(np.linalg.norm(walk.answer), rel=1e-5)
    model, validation = diagnosis.network(ID)
    with torch.inference_mode():
        key = diagnosis.features(model, validation, 2)[model.keyframe].double().numpy()
    np.testing.assert_allclose(np.einsum("chw,hw->c", key, walk.weights), walk.answer, rtol=1e-3, atol=1e-6)
    assert list(walk.maps) and all(values.shape == key.shape[1:] for values in walk.maps.values())
    assert walk.foci["largest weight"].between(0, 1).all() and (walk.foci["keys that share"] >= 1).all()


def test_what_a_focus_found_by_hand():
    """Cells 0 (drawn twice, .3 each) and 5 (.4) on a map 4 wide: cell 0 is the heaviest."""
    cells, weights = torch.tensor([[0, 5, 0]]), torch.tensor([[0.3, 0.4, 0.3]])
    row = idea._foci([3.0], cells, weights, (1, 0), 4, np.array([[3.5, 9.5], [50.0, 0.0]])).loc["3"]
    assert row.tolist() == pytest.approx([1 / (0.36 + 0.16), 0.6, 1.0, 6.0])


def test_only_gaussian_attention_is_followed(small):
    small["attention"] = "deformable"
    with pytest.raises(CrowdlocError, match="attends in another way"):
        idea.follow(ID, 2, (3, 4))


def test_gradients_reach_what_the_notebook_says():
    found = idea.reached((3, 4), SIZE)
    assert len(found) == 4 and all(found.values())
    assert idea.check_gradient() and idea.check_gradient(GaussianNeighborAttention(gamma=(1.0,), num_points=3))

    class Wrong(nn.Module):
        def forward(self, query, key, value, *, seed):
            return (query * key).detach() * value

    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        idea.check_gradient(Wrong())


def test_toy_images_label_every_spot_with_the_colour_of_the_square():
    images, labels = toy.make_images(6, seed=3)
    assert images.shape == (6, 3, 96, 96) and labels.shape == (6, 24, 24)
    assert ((labels >= 0).sum(dim=(1, 2)) == 6).all()
    for image, label in zip(images, labels, strict=True):
        (colour,) = label[label >= 0].unique().tolist()
        loud = (image > 0.85).sum(dim=(1, 2))
        assert loud[colour] > 60 > 10 > loud[1 - colour]
        for y, x in (label >= 0).nonzero().tolist():
            assert image[:, 4 * y + 1 : 4 * y + 3, 4 * x + 1 : 4 * x + 3].abs().max() == 0
    assert set(labels.flatten(1).amax(dim=1).tolist()) == {0, 1}
    again = toy.make_images(6, seed=3)
    assert (again[0] == images).all() and not (toy.make_images(6, seed=4)[0] == images).all()


def test_a_toy_model_that_sees_everything_learns_and_a_blind_one_guesses():
    class Sees(nn.Module):
        def __init__(self, all_of_it):
            super().__init__()
            self.last, self.all_of_it = nn.Linear(3, 2), all_of_it

        def forward(self, images, step=None):
            seen = (images > 0.85).float().mean(dim=(2, 3)) * 40 * self.all_of_it
            return self.last(seen)[:, :, None, None].expand(-1, -1, 24, 24)

    torch.manual_seed(0)
    accuracy = {seen: toy.accuracy(toy.train(Sees(seen), steps=40, rate=0.1)) for seen in (True, False)}
    assert accuracy[True] == 1 and 0.3 < accuracy[False] < 0.7


def test_the_notebooks_twenty_lines_are_the_package():
    gna = plain.gna
    assert len(inspect.getsource(gna).splitlines()) <= 20
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 5, *SIZE), torch.randn(2, 3, 5, *SIZE), torch.randn(2, 3, 5, *SIZE)
    cells = sample_neighbors(*SIZE, num_frames=3, gamma=(3.0, 5.0, 10.0), num_points=32, seed=7)
    out = gaussian_neighbor_attention(query, key, value, seed=7, backend="reference")
    torch.testing.assert_close(gna(query, key, value, cells=cells), out, atol=1e-5, rtol=1e-4)
    # its own draws have the same distribution
    limit = gaussian_limit_attention(query, key, value, gamma=(1.0, 2.0))
    far = gna(query, key, value, gamma=(1.0, 2.0), P=4) - limit
    near = gna(query, key, value, gamma=(1.0, 2.0), P=1024) - limit
    assert near.square().mean() < 0.02 * far.square().mean()


def test_exercise_samplings_are_not_points():
    smooth = neighborhoods.smooth_map(16, *SIZE)
    options = {"gamma": 5.0, "seed": 0}
    three = gaussian_neighbor_attention(smooth, smooth, smooth, num_points=32, num_samples=3, **options)
    more = gaussian_neighbor_attention(smooth, smooth, smooth, num_points=96, **options)
    assert not torch.allclose(three, more, atol=0.01)


def test_exercise_frames_have_no_order():
    torch.manual_seed(0)
    query, key = torch.randn(1, 5, *SIZE), torch.randn(1, 3, 5, *SIZE)
    forth, back = (gaussian_limit_attention(query, k, k, gamma=3.0) for k in (key, key.flip(1)))
    torch.testing.assert_close(forth, back, atol=1e-5, rtol=1e-4)
    drawn, again = (gaussian_neighbor_attention(query, k, k, gamma=3.0) for k in (key, key.flip(1)))
    assert not torch.allclose(drawn, again, atol=0.01)


def test_backends_agree_with_the_twenty_lines_and_a_difference_is_seen(monkeypatch):
    assert set(idea.agreement(size=SIZE).items()) == {("reference", True), ("numba", True)}
    right = plain.gna
    monkeypatch.setattr(plain, "gna", lambda *arguments, **options: 1.001 * right(*arguments, **options))
    assert set(idea.agreement(size=SIZE).values()) == {False}


def test_the_strip_names_what_it_shows():
    ((first, second),), titles = idea.strip(SIZE, (3.0, 7, 4, 13, 0), (2.5, 3, 0, 1, 2))
    assert titles == ["γ = 3, P = 7, seed = 4, x = 13, y = 0", "γ = 2.5, P = 3, seed = 0, x = 1, y = 2"]
    assert (first.cells == idea.cloud(SIZE, γ=3.0, P=7, seed=4, x=13, y=0).cells).all() and second.query == (2, 1)


def test_sources_are_shown_as_code():
    shown = idea.source(plain.gna)._repr_markdown_()
    assert shown.startswith("```python\ndef gna(query") and shown.endswith("reshape(query.shape)\n```")


def test_gna_is_one_line_of_the_toy_network_and_both_start_alike():
    torch.manual_seed(0)
    blind = toy.Spots(look=False).eval()
    torch.manual_seed(0)
    seeing = toy.Spots(look=True).eval()
    assert blind.state_dict().keys() == seeing.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(blind.parameters(), seeing.parameters(), strict=True))
    images, labels = toy.make_images(1, 0)
    assert blind(images).shape == (1, 2, *labels.shape[1:])
    assert not torch.allclose(blind(images), seeing(images))
    assert torch.equal(seeing(images), seeing(images)) and not torch.equal(seeing(images), seeing(images, step=3))


def test_a_comparison_leaves_the_random_state_alone_and_shows_one_image():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    outcome = toy.compare(steps=1)
    assert torch.rand(1) == expected
    assert outcome.accuracy.keys() == outcome.answers.keys() and outcome.image.shape == (96, 96, 3)
    assert all(answer.shape == outcome.truth.shape for answer in outcome.answers.values())


def test_sliders_start_where_the_map_has_its_middle():
    controls = idea.explore(SIZE, seed=30).controls
    assert {name: control.value for name, control in controls.items()} == {"γ": 5, "P": 32, "seed": 30, "x": 7, "y": 4}
    assert (controls["x"].max, controls["y"].max) == (13, 8)


def test_distances_on_maps_are_those_of_each(small):
    tables = idea.towards_on_maps(ID, size=SIZE, seed=2)
    smooth = neighborhoods.smooth_map(64, *SIZE, seed=2)
    pd.testing.assert_frame_equal(tables["smooth random map"], idea.towards(smooth, smooth, gamma=5.0))
    text = idea.towards_text(tables)
    assert all(title in text for title in tables) and "2048" in text


def test_evidence_is_what_the_tables_say(monkeypatch):
    tables = {
        "II": {"gnanet": "abc", "raznet": "ab", "frame-stack": "abcde"},
        "IX": {"gnanet.gamma5": "abc", "gnanet.random": "a", "gnanet.local": ""},
        "Mall": {"gnanet": "abc", "raznet": "abc", "s-gnanet": "abc"},
    }
    asked = []

    def steps(table, pairs, *, sigmas, replicates):
        asked.append((table, replicates))
        return pd.DataFrame([{"comparison": t, "σ": s, "metric": "mAP", "verdict": "?"} for t in pairs for s in sigmas])

    monkeypatch.setattr(idea, "read_table", lambda number, data: tables[number])
    monkeypatch.setattr(idea, "steps", steps)
    found = idea.evidence(replicates=7)
    assert asked == [(table, 7) for table in tables.values()]
    assert list(found) == ["video", "comparison", "σ", "seeds", "verdict"]
    assert found["seeds"].tolist() == [2, 2, 2, 2, 3, 3, 1, 0, 3, 3]
    assert found["video"].value_counts().to_dict() == {"SynthCrowd": 8, "Mall (real)": 2}

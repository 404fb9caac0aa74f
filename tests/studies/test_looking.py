"""What attention looks at: the shown draws and weights give the network's own output again; kinds of cells by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from crowdloc.attention import module_seed
from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import Frame
from crowdloc.models import build_model, initialise
from crowdloc.studies import looking


def annotated(*points: tuple[float, float], tracks: tuple[int, ...] = ()) -> Frame:
    """Heads of 8 pixels."""
    at = np.array(points, dtype=float).reshape(-1, 2)
    return Frame("a", "a", Path("a"), at, np.hstack([at - 4.4, at + 4.4]), np.array(tracks, dtype=int))


@pytest.fixture(scope="module")
def model():
    made = build_model("gnanet", width=1 / 32, gamma=(1.0, 3.0), num_points=5, num_samples=2)
    initialise(made, 0)
    return made.eval()


@pytest.fixture(scope="module")
def seen(model):
    generator = torch.Generator().manual_seed(0)
    features = 3 * torch.rand(3, model.channels, 6, 9, generator=generator)
    context = 3 * torch.rand(model.channels, 6, 9, generator=generator)
    frames = [annotated((20, 20), (60, 20), tracks=(4, 7)), annotated((28, 20), (60, 20), tracks=(4, 7)),
              annotated((36, 20), tracks=(4,))]  # fmt: skip
    return looking.Scene(frames, np.zeros((3, 48, 72, 3), np.uint8), context, features)


def test_shown_weights_give_the_output_of_the_network(model, seen):
    queries = np.array([0, 13, 53, 30])
    found = looking.draws(model, seen, queries)
    assert found.weight.shape == (4, 2, 2 * 3 * 5)
    assert found.weight.sum(axis=-1) == pytest.approx(np.ones((4, 2)))
    seed = module_seed(model.run_seed, "temporal", None)
    with torch.inference_mode():
        output = model.temporal_gna(seen.context[None], seen.features[None], seen.features[None], seed=seed)
    values = seen.features.flatten(2).movedim(1, 2)[found.frame, found.cell]  # (Q, F, draws, C)
    mine = (torch.from_numpy(found.weight)[..., None] * values).sum(2).mean(1)
    torch.testing.assert_close(mine.float(), output[0].flatten(1).T[queries], rtol=1e-5, atol=1e-5)


def test_cells_and_their_middles():
    cells = looking.cells_of(np.array([[0.0, 0], [7.49, 0], [7.51, 0], [0, 8], [71, 47], [90, 90]]), (6, 9))
    assert cells.tolist() == [0, 0, 1, 9, 53, 53]
    assert looking.centres(np.array([0, 1, 10]), (6, 9)).tolist() == [[3.5, 3.5], [11.5, 3.5], [11.5, 11.5]]


def test_a_cell_belongs_to_the_head_on_which_it_lies(seen):
    first, _, last = looking.owners(seen)
    grid = first.reshape(6, 9)
    assert grid[2, 2] == 4 and grid[2, 7] == 7 and grid[0, 0] == -1  # middle (19.5, 19.5), (59.5, 19.5), (3.5, 3.5)
    assert set(last) == {-1, 4}
    # within 4 + 4 pixels of the centre: 8 above is just outside of it, (20, 20) to (19.5, 11.5)
    assert grid[1, 2] == -1


def test_a_frame_without_heads_has_no_owner(seen):
    empty = Frame("a", "a", Path("a"), np.empty((0, 2)), np.empty((0, 4)), np.empty(0))
    alone = looking.Scene([empty], seen.images[:1], seen.context, seen.features[:1])
    assert set(looking.owners(alone)[0]) == {-1}


def test_shares_of_draws_and_weights(model, seen, monkeypatch):
    monkeypatch.setattr(looking, "scene", lambda model, dataset, index: seen)
    table = looking.attended(model, None, [0, 1])
    assert table.groupby("γ")[["draws", "weight"]].sum().to_numpy() == pytest.approx(100)
    found = looking.draws(model, seen, looking.cells_of(seen.frames[1].points, seen.size))
    owner = np.stack(looking.owners(seen))[found.frame, found.cell]
    same = (owner == np.array([4, 7])[:, None, None]).mean(axis=(0, 2))
    assert table.xs("the same person", level="on")["draws"].to_numpy() == pytest.approx(100 * same)
    spread = table["as many as"].dropna()
    assert len(spread) == 2 and spread.between(1, 15).all()  # 3 frames × 5 points in one softmax
    assert "another head" in looking.attended_text(table)


def test_equal_weights_are_as_many_as_there_are(model):
    found = looking.Draws(np.zeros((1, 2, 30), int), np.zeros((1, 2, 30), int), np.full((1, 2, 30), 1 / 30))
    assert looking._spread(found, model)[0] == pytest.approx([15, 15])
    one = np.zeros((1, 2, 30))
    one[..., [0, 15]] = 0.5  # each sampling looks at a single cell
    assert looking._spread(found._replace(weight=one), model)[0] == pytest.approx([1, 1])


def test_the_picture_is_of_the_head_in_the_middle(model, seen, monkeypatch):
    monkeypatch.setattr(looking, "scene", lambda model, dataset, index: seen)
    shown = looking.central(model, None, 0)
    assert shown["query"] == (28, 20) and shown["keyframe"] == 1  # the middle is (35.5, 23.5)
    assert [name for name, *_ in shown["draws"]] == ["1", "3"]
    assert all(len(part) == 30 for _, *parts in shown["draws"] for part in parts)


def test_only_temporal_draws_can_be_shown():
    with pytest.raises(CrowdlocError, match="no stored GNANet with temporal attention"):
        looking.network("synthcrowd-sense-mini/raznet/seed0")

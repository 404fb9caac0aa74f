"""LSTN: blocks of the map, their transformation, similarity of frames, and the loss made of them."""

import numpy as np
import pytest
import torch
from torch import nn

from crowdloc.models import build_model, initialise
from crowdloc.models.method import Sample
from crowdloc.models.parts.block_transformer import BlockTransformer, IdentityAffine
from crowdloc.models.parts.frontend import IMAGENET_STD

SMALL = {"width": 1 / 16, "norm": "batch"}


def shapes(transformer, height, width):
    rows = transformer.divide(height, width)
    return [[(down.stop - down.start, across.stop - across.start) for down, across in row] for row in rows]


def test_blocks_divide_rows_and_columns_as_they_are_called():
    assert shapes(BlockTransformer(blocks=(1, 2)), 90, 160) == [[(90, 80), (90, 80)]]
    assert shapes(BlockTransformer(blocks=(2, 1)), 90, 160) == [[(45, 160)], [(45, 160)]]
    assert shapes(BlockTransformer(blocks=(2, 2)), 9, 7) == [[(4, 3), (4, 4)], [(5, 3), (5, 4)]]
    assert shapes(BlockTransformer(blocks=(2, 2)), 1, 1) == [[(1, 1)]]


@pytest.mark.parametrize("size", [(12, 16), (9, 7), (1, 1)])
def test_transformation_starts_as_the_identity(size):
    transformer = BlockTransformer()
    density = torch.rand(2, *size)
    torch.testing.assert_close(transformer(density), density, atol=1e-5, rtol=1e-5)


def test_initialisation_keeps_the_identity():
    model = build_model("lstn", **SMALL)
    initialise(model, 5)
    last = model.transformer.locate[-1]
    assert isinstance(last, IdentityAffine)
    assert last.bias.tolist() == [1, 0, 0, 0, 1, 0] and not last.weight.any()


def test_blocks_move_on_their_own_and_nothing_comes_from_outside():
    transformer = BlockTransformer(blocks=(1, 2))
    with torch.no_grad():
        transformer.locate[-1].bias[2] = 0.5  # sample a quarter of a block further to the right: content moves left
    density = torch.arange(16.0).view(1, 1, 16).expand(1, 4, 16).contiguous()
    expected = [2, 3, 4, 5, 6, 7, 0, 0, 10, 11, 12, 13, 14, 15, 0, 0]
    np.testing.assert_allclose(transformer(density)[0, 1].detach(), expected, atol=1e-4)


def test_similarity_counts_grey_levels_of_each_block():
    model = build_model("lstn", blocks=(1, 2), **SMALL)
    images = torch.randn(1, 1, 3, 8, 16).repeat(1, 2, 1, 1, 1)
    step = 30 / (255 * torch.tensor(IMAGENET_STD)).view(3, 1, 1)  # 30 grey levels
    images[:, 1, :, :, 8:] += step
    weights = model.weights(images)
    assert weights.shape == (1, 1, 2, 4)
    np.testing.assert_allclose(weights[0, 0], [[1, 1, np.exp(-0.5), np.exp(-0.5)]] * 2, rtol=1e-4)


def test_the_tie_compares_with_the_heads_of_the_next_frame():
    model = build_model("lstn", tie=1.0, **SMALL)
    images = torch.randn(1, 1, 3, 32, 32).repeat(1, 2, 1, 1, 1)
    heads = torch.tensor([[10.0, 10.0]], dtype=torch.float64)
    sample = Sample(images, None, [[heads, heads]], None, (32, 32))
    target = model.target(sample, 0)
    model.features = lambda _: (torch.stack([target, target], dim=1)[:, :, None],)  # a perfect regression

    def terms(of):
        return {name: term.item() for name, term in model.loss(of, 0).items()}

    assert max(terms(sample).values()) < 1e-10
    moved = sample._replace(points=[[heads, heads + 12]])
    whole = terms(moved)
    assert whole["transformer"] == pytest.approx(2 * whole["density"], rel=1e-4)  # one frame of two is wrong
    model.tie = 0.001
    assert terms(moved)["transformer"] == pytest.approx(1e-3 * whole["transformer"], rel=1e-4)


def test_two_poolings_make_stride_four_with_torchvisions_names():
    with torch.device("meta"):
        model = build_model("lstn")
    names = {n for n, _ in model.backbone.named_parameters()}
    assert {"features.0.weight", "features.17.weight", "features.21.bias"} <= names
    assert sum(isinstance(m, nn.MaxPool2d) for m in model.backbone.modules()) == 2
    assert build_model("lstn", **SMALL).eval().encode(torch.randn(1, 3, 33, 47))[0].shape == (1, 1, 9, 12)


def test_it_cannot_train_on_kept_maps():
    model = build_model("lstn", **SMALL)
    maps = (torch.rand(1, 2, 1, 4, 4),)
    with pytest.raises(ValueError, match="cannot train on kept maps"):
        model.loss(Sample(None, maps, [[torch.zeros(0, 2)] * 2], None, (16, 16)), 0)

"""The Bayesian loss: posterior probabilities, background, empty images, and the network."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from crowdloc.models import build_model
from crowdloc.models.bayesian import posterior

SMALL = {"width": 1 / 32, "norm": "batch"}


def points(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 2)


@pytest.mark.parametrize("background", [None, 64.0])
def test_every_cell_belongs_to_someone(background):
    found = posterior(points((4, 4), (30, 20), (30, 20)), (6, 8), stride=8, sigma=8.0, background=background)
    assert found.shape == (3 + (background is not None), 6, 8)
    torch.testing.assert_close(found.sum(dim=0), torch.ones(6, 8))
    torch.testing.assert_close(found[1], found[2])  # heads on one spot share its cells


def test_it_is_the_published_formula():
    heads, sigma, background = points((5, 9), (40, 21)), 8.0, 48.0
    found = posterior(heads, (6, 8), stride=8, sigma=sigma, background=background)
    for row, column in ((0, 0), (2, 5), (5, 7)):
        centre = np.array([8 * column + 3.5, 8 * row + 3.5])  # pixel centres are whole numbers
        squared = ((heads.numpy() - centre) ** 2).sum(axis=1)
        squared = np.append(squared, background**2 / (squared.min() + 1e-5))
        likelihood = np.exp(-squared / (2 * sigma**2))
        np.testing.assert_allclose(found[:, row, column], likelihood / likelihood.sum(), rtol=1e-4, atol=1e-7)


def test_far_from_heads_is_background_and_near_them_is_not():
    found = posterior(points((3.5, 3.5)), (8, 32), stride=8, sigma=8.0, background=64.0)
    assert found[0, 0, 0] > 0.99
    assert found[1, 0, 31] > 0.99
    assert found[1, 0].diff().min() >= -1e-6  # grows with the distance


def test_without_heads_all_is_background():
    assert torch.equal(posterior(points(), (3, 4), stride=8, sigma=8.0, background=50.0), torch.ones(1, 3, 4))
    assert posterior(points(), (3, 4), stride=8, sigma=8.0, background=None).shape == (0, 3, 4)


def test_a_perfect_map_has_no_error_and_others_have():
    model = build_model("bayesian", **SMALL)
    heads = points((12, 12), (100, 60))
    density = torch.zeros(12, 16)
    density[1, 1] = density[7, 12] = 1
    errors = model.count_errors(density, heads, side=96)
    assert errors.shape == (3,) and errors.max() < 1e-3
    doubled = model.count_errors(2 * density, heads, side=96)
    np.testing.assert_allclose(doubled, [1, 1, 0], atol=2e-3)
    stray = density.clone()
    stray[11, 0] = 0.5  # nobody is there: it is counted as background
    np.testing.assert_allclose(model.count_errors(stray, heads, side=96), [0, 0, 0.5], atol=0.05)


def test_an_empty_image_pays_for_all_that_it_counts():
    model = build_model("bayesian", **SMALL)
    assert model.count_errors(torch.full((3, 4), 0.25), points(), side=24).tolist() == [3.0]
    model = build_model("bayesian", background=0.0, **SMALL)
    assert model.count_errors(torch.full((3, 4), 0.25), points(), side=24).sum() == 0


def test_the_network_is_vgg19_with_torchvisions_names():
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        model, whole = build_model("bayesian"), torchvision.models.vgg19()
    wanted = {k: v.shape for k, v in whole.state_dict().items() if k.startswith("features.")}
    assert {k: v.shape for k, v in model.backbone.state_dict().items()} == wanted
    assert sum(isinstance(m, nn.MaxPool2d) for m in model.backbone.modules()) == 4


def test_density_is_never_negative():
    model = build_model("bayesian", **SMALL).eval()
    model.reset_output(-1.0)
    assert (model.density(model.encode(torch.randn(1, 3, 33, 47))[0][:, None]) > 0).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-20, 70), st.floats(-20, 50)), max_size=6),
    st.integers(1, 6), st.integers(1, 8), st.floats(1, 30), st.sampled_from([None, 4.0, 48.0]), st.integers(0, 5),
)  # fmt: skip
def test_expected_counts_share_out_the_whole_map(heads, rows, columns, sigma, background, seed):
    if not heads and background is None:
        return  # nobody for a cell to belong to
    heads += heads[:1]  # a duplicate
    shares = posterior(points(*heads), (rows, columns), stride=8, sigma=sigma, background=background)
    assert len(shares) == len(heads) + (background is not None)
    assert ((shares >= 0) & (shares <= 1)).all()
    density = torch.from_numpy(np.random.default_rng(seed).random((rows, columns))).float()
    counts = (shares * density).sum(dim=(1, 2))
    assert counts.sum().item() == pytest.approx(density.sum().item(), rel=1e-4)
    if heads:  # heads on one spot have equal parts
        torch.testing.assert_close(shares[0], shares[len(heads) - 1])

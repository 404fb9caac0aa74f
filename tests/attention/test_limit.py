"""Attention without draws: closed forms, convergence of the sampled operator to it, gradients, the module."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from crowdloc.attention import GaussianNeighborAttention, gaussian_limit_attention, gaussian_neighbor_attention, limit
from crowdloc.attention.limit import log_mass


def maps(batch: int, frames: int, channels: int, height: int, width: int) -> list[Tensor]:
    torch.manual_seed(1)
    shapes = [(batch, channels, height, width)] + 2 * [(batch, frames, channels, height, width)]
    return [torch.randn(shape, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("gamma", [0.3, 1.0, 10.0])
def test_axis_masses_are_those_of_the_discrete_gaussian(gamma: float) -> None:
    size = 7
    steps = np.arange(size) - np.arange(size)[:, None]
    expected = stats.norm.cdf((steps + 0.5) / gamma) - stats.norm.cdf((steps - 0.5) / gamma)
    masked = log_mass(torch.tensor(gamma, dtype=torch.float64), size, "mask").exp().numpy()
    np.testing.assert_allclose(masked, expected, atol=1e-15)
    expected[:, 0] = stats.norm.cdf((steps[:, 0] + 0.5) / gamma)
    expected[:, -1] = stats.norm.sf((steps[:, -1] - 0.5) / gamma)
    clamped = log_mass(torch.tensor(gamma, dtype=torch.float64), size, "clamp").exp().numpy()
    np.testing.assert_allclose(clamped, expected, atol=1e-15)
    np.testing.assert_allclose(clamped.sum(1), 1, atol=1e-14)
    assert log_mass(torch.tensor(gamma), 1, "clamp").item() == 0


def test_equal_scores_give_the_gaussian_blur() -> None:
    _, key, value = maps(1, 1, 2, 6, 5)
    my, mx = (log_mass(torch.tensor(1.5, dtype=torch.float64), n, "clamp").exp() for n in (6, 5))
    out = gaussian_limit_attention(torch.zeros_like(key[:, 0]), key, value, gamma=1.5)
    torch.testing.assert_close(out, my @ value[:, 0] @ mx.T)


@pytest.mark.parametrize("boundary", ["clamp", "mask"])
@pytest.mark.parametrize("sampling", ["independent", "qmc"])
def test_sampled_attention_converges_to_the_limit(sampling: str, boundary: str) -> None:
    inputs = maps(1, 2, 6, 5, 6)
    exact = gaussian_limit_attention(*inputs, gamma=(1.0, 3.0), boundary=boundary)
    errors = []
    for points in (32, 512):
        call = partial(gaussian_neighbor_attention, *inputs, gamma=(1.0, 3.0), boundary=boundary, sampling=sampling)
        errors.append(torch.stack([call(num_points=points, seed=s) - exact for s in range(4)]).square().mean().sqrt())
    rate = math.log(errors[0] / errors[1]) / math.log(512 / 32)
    if sampling == "independent":
        assert 0.4 < rate < 0.6  # P^(-1/2)
    else:
        assert rate > 0.5
    assert errors[1] < 0.06


def test_qmc_has_less_variance_than_independent_draws() -> None:
    value = maps(1, 1, 4, 12, 12)[1][:, 0]
    smooth = torch.nn.functional.avg_pool2d(value, 5, 1, 2, count_include_pad=False)
    spread = []
    for sampling in ("qmc", "independent"):
        call = partial(gaussian_neighbor_attention, smooth, smooth, smooth, sampling=sampling)
        spread.append(torch.stack([call(seed=seed) for seed in range(12)]).var(0).mean())
    assert spread[0] < 0.8 * spread[1]


def test_more_samplings_converge_to_their_own_mean_not_to_the_limit() -> None:
    inputs = [4 * x for x in maps(1, 1, 6, 5, 5)[:1]] + maps(1, 1, 6, 5, 5)[1:]
    call = partial(gaussian_neighbor_attention, *inputs, gamma=2.0, num_points=4)
    bias = call(num_samples=2000, seed=0) - gaussian_limit_attention(*inputs, gamma=2.0)
    noise = call(num_samples=2000, seed=0) - call(num_samples=2000, seed=1)
    assert bias.square().mean().sqrt() > 5 * noise.square().mean().sqrt()


@pytest.mark.parametrize("boundary", ["clamp", "mask"])
def test_gradients_also_in_gamma(boundary: str) -> None:
    inputs = [x.requires_grad_() for x in maps(1, 2, 2, 3, 4)]
    gamma = torch.tensor([0.4, 2.0], dtype=torch.float64, requires_grad=True)
    call = lambda q, k, v, g: gaussian_limit_attention(q, k, v, gamma=g, boundary=boundary)  # noqa: E731
    assert torch.autograd.gradcheck(call, (*inputs, gamma))


def test_extreme_gammas_are_finite() -> None:
    query, key, value = maps(1, 2, 3, 4, 5)
    narrow = torch.tensor([0.0, 1e-6, 0.02], dtype=torch.float64, requires_grad=True)
    out = gaussian_limit_attention(query, key, value, gamma=narrow)
    scores = (query[:, None] * key).sum(2, keepdim=True) / math.sqrt(3)
    torch.testing.assert_close(out, (scores.softmax(1) * value).sum(1))  # only the own cell of each frame is left
    out.sum().backward()
    assert narrow.grad is not None and narrow.grad.isfinite().all()
    assert gaussian_limit_attention(query, key, value, gamma=1024.0).isfinite().all()


def test_tiles_and_truncation_equal_the_dense_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = maps(1, 2, 4, 21, 18)
    dense = gaussian_limit_attention(*inputs, gamma=(0.5, 1.0))
    monkeypatch.setattr(limit, "TILE", 4)
    torch.testing.assert_close(gaussian_limit_attention(*inputs, gamma=(0.5, 1.0)), dense, atol=1e-14, rtol=0)
    narrow = [x.float() for x in inputs]
    monkeypatch.setattr(limit, "TILE", 2)
    torch.testing.assert_close(
        gaussian_limit_attention(*narrow, gamma=0.5).double(),
        gaussian_limit_attention(*inputs, gamma=0.5),
        atol=1e-6,
        rtol=0,
    )
    assert limit._reach(torch.full((1, 1, 1, 4), 0.1), torch.full((1, 1, 1, 1, 4), 0.1), torch.tensor([0.5])) < 5


def test_shift_equivariance_in_the_interior() -> None:
    inputs = maps(1, 1, 3, 24, 25)
    whole = gaussian_limit_attention(*inputs, gamma=0.5)
    part = gaussian_limit_attention(*(x[..., 2:, 1:] for x in inputs), gamma=0.5)
    torch.testing.assert_close(part[..., 9:-9, 9:-9], whole[..., 11:-9, 10:-9], atol=1e-12, rtol=0)


def test_module_draws_once_in_training_and_more_often_at_test() -> None:
    query, key, value = (x.float() for x in maps(1, 2, 4, 6, 6))
    module = GaussianNeighborAttention(gamma=(1.0, 2.0), num_points=8, num_samples=3)
    call = partial(gaussian_neighbor_attention, query, key, value, gamma=(1.0, 2.0), num_points=8, seed=4)
    assert torch.equal(module(query, key, value, seed=4), call(num_samples=1))
    assert torch.equal(module.eval()(query, key, value, seed=4), call(num_samples=3))
    assert repr(module).startswith("GaussianNeighborAttention(gamma=(1, 2), num_points=8")
    assert list(module.parameters()) == []


def test_module_learns_gamma() -> None:
    query, key, value = maps(1, 1, 4, 9, 9)
    target = gaussian_limit_attention(query, key, value, gamma=2.0)
    module = GaussianNeighborAttention(gamma=(1.0,), sampling="limit", learn_gamma=True).double()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        (module(query, key, value, seed=0) - target).square().sum().backward()
        optimizer.step()
    assert module.gamma[0] == pytest.approx(2.0, abs=0.1)
    assert "learned=True" in repr(module)
    with pytest.raises(ValueError, match="learn_gamma"):
        GaussianNeighborAttention(learn_gamma=True)

"""Deformable attention: parameter counts, a hand-computed case, a loop oracle, gradients, errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from crowdloc.attention import DeformableAttention


def layer(channels: int, **options: int) -> DeformableAttention:
    """A module in float64 whose every parameter is random: offsets of fractions of cells, uneven weights."""
    torch.manual_seed(0)
    module = DeformableAttention(channels, **options).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def bilinear(image: Tensor, x: float, y: float) -> Tensor:
    """(C, H, W) at a fractional cell, zero outside."""
    total = torch.zeros_like(image[:, 0, 0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                total = total + (1 - abs(x - column)) * (1 - abs(y - row)) * image[:, row, column]
    return total


def oracle(module: DeformableAttention, query: Tensor, value: Tensor) -> Tensor:
    batch, channels, height, width = query.shape
    heads, frames, points = module.num_heads, module.num_frames, module.num_points
    part = channels // heads
    out = torch.zeros_like(query)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                q = query[b, :, y, x]
                offsets = (module.offsets.weight @ q + module.offsets.bias).view(heads, frames, points, 2)
                weights = (module.weights.weight @ q + module.weights.bias).view(heads, frames * points)
                joined = []
                for head in range(heads):
                    weight, total = weights[head].exp() / weights[head].exp().sum(), torch.zeros(part).double()
                    for frame in range(frames):
                        projected = torch.einsum("dc,chw->dhw", module.value_projection.weight, value[b, frame])
                        projected = (projected + module.value_projection.bias[:, None, None])[head * part :][:part]
                        for point in range(points):
                            dx, dy = offsets[head, frame, point].tolist()
                            total = total + weight[frame * points + point] * bilinear(projected, x + dx, y + dy)
                    joined.append(total)
                out[b, :, y, x] = module.output_projection.weight @ torch.cat(joined) + module.output_projection.bias
    return out


@pytest.mark.parametrize(("frames", "count"), [(1, 574_560), (3, 673_056)])
def test_parameter_counts(frames: int, count: int) -> None:
    assert sum(p.numel() for p in DeformableAttention(512, num_frames=frames).parameters()) == count


def test_starts_uniform_and_looks_around_the_compass() -> None:
    module = DeformableAttention(16, num_frames=3)
    bias = module.offsets.bias.detach().view(8, 3, 4, 2)
    directions = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    for step in range(4):
        expected = torch.tensor(directions).float() * (step + 1)
        for frame in range(3):
            torch.testing.assert_close(bias[:, frame, step], expected, atol=1e-5, rtol=0)
    assert not any(p.any() for p in (module.offsets.weight, module.weights.weight, module.weights.bias))
    limit = math.sqrt(6 / 32)
    for projection in (module.value_projection, module.output_projection):
        assert 0.5 * limit < projection.weight.abs().max() <= limit and not projection.bias.any()


def test_by_hand() -> None:
    """One head, one point: half a cell to the right, and beyond the last column half of it is zero."""
    module = DeformableAttention(1, num_heads=1, num_points=1)
    with torch.no_grad():
        module.offsets.bias.copy_(torch.tensor([0.5, 0.0]))
        module.value_projection.weight.fill_(2.0)
        module.output_projection.weight.fill_(10.0)
    value = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]).view(1, 1, 2, 3)
    expected = torch.tensor([[30.0, 60.0, 40.0], [240.0, 480.0, 320.0]]).view(1, 1, 2, 3)
    torch.testing.assert_close(module(torch.ones(1, 1, 2, 3), value, value), expected)


@pytest.mark.parametrize("options", [{"num_heads": 2, "num_points": 3}, {"num_frames": 3}], ids=["one", "frames"])
def test_agrees_with_loops(options: dict[str, int]) -> None:
    module = layer(8, **options)
    query, value = torch.randn(2, 8, 3, 4).double(), torch.randn(2, module.num_frames, 8, 3, 4).double()
    torch.testing.assert_close(module(query, value, value), oracle(module, query, value))


def test_gradients() -> None:
    module = layer(4, num_heads=2, num_points=2, num_frames=2)
    query = torch.randn(1, 4, 2, 3).double().requires_grad_()
    value = torch.randn(1, 2, 4, 2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda q, v: module(q, v, v), (query, value))
    module(query, value, value).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_key_seed_and_origin_change_nothing() -> None:
    module = layer(8)
    query, value = torch.randn(1, 8, 3, 3).double(), torch.randn(1, 8, 3, 3).double()
    out = module(query, value, value, seed=0)
    assert out.shape == query.shape
    assert torch.equal(out, module(query, query, value.unsqueeze(1), seed=7, origin=(2, 3)))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="channels"):
        DeformableAttention(12)
    with pytest.raises(ValueError, match="num_points"):
        DeformableAttention(16, num_points=0)
    module, query = DeformableAttention(8, num_frames=3), torch.zeros(1, 8, 2, 2)
    with pytest.raises(ValueError, match="query"):
        module(query[:, :4], query, query)
    with pytest.raises(ValueError, match="value"):
        module(query, query, query)

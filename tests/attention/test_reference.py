"""The reference against three plain loops, torch's own attention, finite differences and properties of the method."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from crowdloc.attention import (
    full_attention,
    gaussian_neighbor_attention,
    local_attention,
    random_attention,
    sample_neighbors,
)

reference = partial(gaussian_neighbor_attention, backend="reference")


def maps(*shape: int, frames: int = 0, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random float64 query, key and value of shape (B, C, H, W), with frames if asked for."""
    generator = torch.Generator().manual_seed(seed)
    several = (shape[0], frames, *shape[1:]) if frames else shape
    return tuple(torch.randn(s, generator=generator, dtype=torch.float64) for s in (shape, several, several))  # type: ignore[return-value]


def three_loops(query: Tensor, key: Tensor, value: Tensor, cells: Tensor) -> Tensor:
    """Paper eq. (2), cell by cell: one softmax per set of draws, mean over sets."""
    batch, channels, _, width = query.shape
    keys, values = (x.transpose(1, 2).reshape(batch, channels, -1) for x in (key, value))
    out = torch.zeros_like(query)
    for b in range(batch):
        for n, sets in enumerate(cells):
            q = query[b, :, n // width, n % width]
            for row in sets:
                named = [int(cell) for cell in row if cell >= 0]
                weight = [math.exp(float(q @ keys[b, :, cell]) / math.sqrt(channels)) for cell in named]
                for cell, w in zip(named, weight, strict=True):
                    out[b, :, n // width, n % width] += w / sum(weight) / len(sets) * values[b, :, cell]
    return out


@pytest.mark.parametrize("boundary", ["clamp", "mask"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 4)], ids=str)
def test_reference_is_three_loops(shape: tuple[int, int], boundary: str) -> None:
    query, key, value = maps(2, 3, *shape, frames=2)
    options = dict(gamma=(1.0, 4.0), num_points=3, num_samples=2, seed=11, boundary=boundary)
    expected = three_loops(query, key, value, sample_neighbors(*shape, num_frames=2, **options))  # type: ignore[arg-type]
    torch.testing.assert_close(reference(query, key, value, **options), expected, atol=1e-12, rtol=0)


def test_a_case_by_hand() -> None:
    # two cells in a row, window of three, border masked: each query sees both cells. C = 1, so scores are q·k
    query, key, value = (torch.tensor(v).view(1, 1, 1, 2) for v in ([0.0, math.log(3)], [0.0, 1.0], [2.0, 6.0]))
    torch.testing.assert_close(
        local_attention(query, key, value, window=3, backend="reference"), torch.tensor([4.0, 5.0]).view(1, 1, 1, 2)
    )
    # border clamped: cell 0 stands for 6 of the 9 window cells of query 0, cell 1 for 6 of those of query 1
    clamped = local_attention(query, key, value, window=3, boundary="clamp", backend="reference")
    torch.testing.assert_close(clamped, torch.tensor([10 / 3, (2 + 6 * 6) / 7]).view(1, 1, 1, 2))


def test_full_attention_is_scaled_dot_product_attention_and_a_window_over_everything() -> None:
    query, key, value = maps(2, 5, 3, 4, frames=2)
    rows = [
        x.transpose(1, 2).flatten(2).transpose(1, 2) if x.dim() == 5 else x.flatten(2).transpose(1, 2)
        for x in (query, key, value)
    ]
    expected = F.scaled_dot_product_attention(*rows).transpose(1, 2).view(query.shape)
    torch.testing.assert_close(full_attention(query, key, value), expected)
    torch.testing.assert_close(local_attention(query, key, value, window=9, backend="reference"), expected)


def test_random_attention_looks_everywhere_equally() -> None:
    # equal scores and one-hot values: the output of a query is how often it drew each cell
    height, width, points = 4, 6, 400
    value = torch.eye(24).view(1, 24, height, width)
    share = random_attention(torch.zeros_like(value), torch.zeros_like(value), value, num_points=points, seed=2)
    counts = share.flatten(2)[0].sum(1) * points  # over all queries, mean 400, deviation 19.6
    assert (counts - points).abs().max() < 100


@pytest.mark.parametrize("shared", [False, True], ids=["kv", "k=v"])
def test_gradients_by_finite_differences(shared: bool) -> None:
    query, key, value = (x.requires_grad_() for x in maps(2, 2, 2, 3, frames=2))
    for boundary in ("clamp", "mask"):
        call = partial(reference, gamma=(1.0, 3.0), num_points=3, boundary=boundary)
        if shared:
            assert torch.autograd.gradcheck(lambda q, k, call=call: call(q, k, k), (query, key))
        else:
            assert torch.autograd.gradcheck(call, (query, key, value))


def test_narrow_focus_gives_the_own_value() -> None:
    query, key, value = maps(1, 3, 4, 5)
    torch.testing.assert_close(reference(query, key, value, gamma=0.01), value)
    frames = maps(1, 3, 4, 5, frames=3)[2]
    torch.testing.assert_close(reference(query * 0, frames, frames, gamma=0.0), frames.mean(1))


def test_weights_sum_to_one_and_batches_are_independent() -> None:
    query, key, value = maps(3, 4, 5, 6)
    torch.testing.assert_close(reference(query, key, torch.ones_like(value)), torch.ones_like(query))
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(reference(query[order], key[order], value[order]), reference(query, key, value)[order])


def test_local_attention_is_shift_equivariant_and_sampled_attention_with_its_origin() -> None:
    query, key, value = maps(1, 3, 14, 15)
    calls = [
        lambda y, x, *m: local_attention(*m, window=3, backend="reference"),
        lambda y, x, *m: reference(*m, gamma=0.4, num_points=4, origin=(y, x)),  # no draw farther than 3 cells
    ]
    for call in calls:
        whole = call(0, 0, query, key, value)
        part = call(2, 3, *(x[..., 2:, 3:] for x in (query, key, value)))
        torch.testing.assert_close(part[..., 3:-3, 3:-3], whole[..., 5:-3, 6:-3])


def test_half_precision_is_widened_and_rounded_once() -> None:
    query, key, value = (x.to(torch.bfloat16) for x in maps(1, 8, 4, 4))
    expected = reference(query.float(), key.float(), value.float()).to(torch.bfloat16)
    assert torch.equal(reference(query, key, value), expected)

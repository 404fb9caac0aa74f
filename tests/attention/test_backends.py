"""The Numba backend against the reference: drawn cells exactly, outputs and gradients within float32 error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crowdloc.attention import (
    available_backends,
    checks,
    functional,
    gaussian_neighbor_attention,
    local_attention,
    ops,
    random_attention,
)
from crowdloc.attention.checks import neighborhood, seed_tensor
from crowdloc.attention.sampling import neighbor_cells
from crowdloc.attention.tables import thresholds

pytest.importorskip("numba", reason="the numba backend is not installed")

CALLS: dict[str, Callable[..., Tensor]] = {
    "gaussian": partial(gaussian_neighbor_attention, seed=-5, origin=(-3, 4)),
    "masked": partial(gaussian_neighbor_attention, boundary="mask", num_samples=2, num_points=5),
    "far masked": partial(gaussian_neighbor_attention, boundary="mask", gamma=(0.0, 60.0), num_points=2),
    "qmc": partial(gaussian_neighbor_attention, sampling="qmc", num_points=16, num_samples=2),
    "random": partial(random_attention, num_points=7, seed=3),
    "window masked": partial(local_attention, window=5),
    "window clamped": partial(local_attention, window=3, boundary="clamp"),
}


def maps(batch: int, frames: int, channels: int, height: int, width: int, shared: bool = False) -> list[Tensor]:
    torch.manual_seed(height * width + channels)
    query = torch.randn(batch, channels, height, width, requires_grad=True)
    key = torch.randn(batch, frames, channels, height, width, requires_grad=True)
    return [query, key] if shared else [query, key, torch.randn_like(key, requires_grad=True)]


def run(call: Callable[..., Tensor], inputs: list[Tensor], backend: str) -> list[Tensor]:
    """Output and all gradients of a fixed random loss."""
    out = call(*inputs, *([inputs[1]] if len(inputs) == 2 else []), backend=backend)
    slope = torch.linspace(-1, 1, out.numel()).sin().view(out.shape)
    return [out, *torch.autograd.grad((out.float() * slope).sum(), inputs)]


def assert_agree(got: list[Tensor], expected: list[Tensor], ratio: float = 3e-6) -> None:
    """Root-mean-square error against root-mean-square size, per tensor; and no element far off."""
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        error, size = (a.double() - b.double()).square().mean().sqrt(), b.double().square().mean().sqrt()
        assert error <= ratio * size + 1e-7
        assert (a - b).abs().max() <= 20 * ratio * b.abs().max() + 1e-6


@pytest.mark.parametrize("shared", [False, True], ids=["kv", "k=v"])
@pytest.mark.parametrize("name", CALLS)
def test_numba_agrees_with_the_reference(name: str, shared: bool) -> None:
    inputs = maps(2, 3, 20, 7, 9, shared)
    assert_agree(run(CALLS[name], inputs, "numba"), run(CALLS[name], inputs, "reference"))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (2, 2), (5, 25), (13, 12)], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 60])
def test_odd_shapes(shape: tuple[int, int], channels: int) -> None:
    call = partial(gaussian_neighbor_attention, gamma=(1.0, 20.0), num_points=9, boundary="mask")
    inputs = maps(1, 2, channels, *shape)
    assert_agree(run(call, inputs, "numba"), run(call, inputs, "reference"))


@pytest.mark.parametrize("shared", [False, True], ids=["kv", "k=v"])
@pytest.mark.parametrize("channels", [15, 16, 48, 64, 65, 128, 176, 208, 512])
def test_every_number_of_channels(channels: int, shared: bool) -> None:
    """Channels go in blocks of 128, 64 and 16, the last one padded."""
    call = partial(gaussian_neighbor_attention, gamma=(1.0, 3.0), num_points=5)
    inputs = maps(2, 2, channels, 4, 5, shared)
    assert_agree(run(call, inputs, "numba"), run(call, inputs, "reference"))


@pytest.mark.parametrize("points", [1, 7, 8, 9, 16, 17, 100])
def test_every_number_of_draws_in_one_block_or_many(points: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From frame to frame scores rise for half of the queries and fall for the others; the softmax follows both."""
    from crowdloc.attention import numba_backend

    query, key = (x.detach() for x in maps(1, 3, 20, 4, 6, shared=True))
    query[..., 3:] = -query[..., :3]
    key += 4 * query[..., :1].unsqueeze(1) * torch.arange(3).view(1, 3, 1, 1, 1)
    inputs, results = [query.requires_grad_(), key.requires_grad_()], []
    for boundary in ("clamp", "mask"):
        call = partial(gaussian_neighbor_attention, gamma=(0.5, 4.0), num_points=points, boundary=boundary)
        for block in (8, 24, 4096):
            monkeypatch.setattr(numba_backend, "_block", lambda rows, block=block: block)
            results.append(run(call, inputs, "numba"))
            assert_agree(results[-1], run(call, inputs, "reference"))


def test_borders_and_interior_agree_separately() -> None:
    out, expected = (run(CALLS["gaussian"], maps(1, 1, 16, 11, 13), b)[0] for b in ("numba", "reference"))
    for part in (..., 0, slice(None)), (..., -1, slice(None)), (..., 0), (..., -1), (..., slice(1, -1), slice(1, -1)):
        assert_agree([out[part]], [expected[part]])


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["independent", "qmc", "random", "window"]), gamma=st.floats(0, 64), masked=st.booleans(),
    size=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)), samples=st.integers(1, 3),
    seed=st.integers(-(2**63), 2**63 - 1), y0=st.integers(-(2**34), 2**34),
)  # fmt: skip
def test_numba_draws_the_same_cells(
    kind: str, gamma: float, masked: bool, size: tuple[int, int, int], samples: int, seed: int, y0: int
) -> None:
    from crowdloc.attention import numba_backend

    points = 9 if kind == "window" else 16
    where = neighborhood(kind, (gamma, 1.0), points, samples, "mask" if masked else "clamp", (y0, -7))
    expected = neighbor_cells(where, *size, seed_tensor(seed))
    assert torch.equal(numba_backend.sample(where, *size, seed_tensor(seed)), expected)


@pytest.mark.parametrize("gamma", [0.05, 15.0, 1024.0])
def test_numba_draws_the_same_cells_for_any_gamma(gamma: float) -> None:
    from crowdloc.attention import numba_backend

    where = neighborhood("independent", (3.0, gamma), 1000, 1, "mask", (0, 0))
    for seed in (seed_tensor(0), seed_tensor(-1)):
        assert torch.equal(numba_backend.sample(where, 1, 3, 70, seed), neighbor_cells(where, 1, 3, 70, seed))


def test_threshold_search_at_the_thresholds_themselves() -> None:
    from crowdloc.attention import numba_backend

    gammas, searched = (0.0, 0.3, 10.0, 64.0), set()
    for gamma, table, guide in zip(gammas, *numba_backend._tables(gammas), strict=True):
        exact = thresholds(gamma)
        for t in (0, 1, *exact, 2**32 - 1):
            for bits in {max(t - 1, 0), t}:
                expected = sum(other <= bits for other in exact) - len(exact) // 2
                found = numba_backend._step(np.uint64(bits), guide[None], 0)
                if found >= numba_backend.SEARCH // 2:
                    found = numba_backend._search(found, np.uint64(bits), table)
                    searched.add(gamma)
                assert found == expected
    assert searched == {10.0, 64.0}  # both ways are taken


@pytest.mark.parametrize(("dtype", "ratio"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)], ids=str)
def test_half_precision(dtype: torch.dtype, ratio: float) -> None:
    inputs = [x.detach().to(dtype).requires_grad_() for x in maps(2, 2, 32, 6, 7)]
    assert_agree(run(CALLS["gaussian"], inputs, "numba"), run(CALLS["gaussian"], inputs, "reference"), ratio)


def test_any_memory_layout_and_the_layout_of_the_query_is_kept() -> None:
    query, key, value = (x.detach() for x in maps(2, 2, 6, 5, 8))
    plain = CALLS["gaussian"](query, key, value, backend="numba")
    last = query.contiguous(memory_format=torch.channels_last)
    sliced = torch.stack([key, key], dim=-1)[..., 1]
    other = CALLS["gaussian"](last, sliced, value.transpose(0, 1).contiguous().transpose(0, 1), backend="numba")
    assert torch.equal(plain, other)
    assert plain.is_contiguous() and other.is_contiguous(memory_format=torch.channels_last)


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from crowdloc.attention import numba_threads

    inputs, threads = maps(2, 3, 33, 9, 11, shared=True), torch.get_num_threads()
    results = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        results.append(run(CALLS["gaussian"], inputs, "numba"))
    monkeypatch.setattr(numba_threads, "_openmp", lambda: None)  # on its own threads instead of torch's
    results.append(run(CALLS["gaussian"], inputs, "numba"))

    def fail(*_: object) -> None:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):  # an error in a thread is an error of the call
        numba_threads.in_threads(fail, 8, 2)
    monkeypatch.undo()
    with pytest.raises(MemoryError, match="no room"):
        numba_threads.in_threads(fail, 8, 2)
    torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_a_cell_that_a_query_does_not_name_does_not_touch_it(backend: str) -> None:
    query, key, value = (x.detach() for x in maps(1, 2, 5, 8, 8))
    asked, where = 27, neighborhood("independent", (1.0, 2.0), 4, 1, "clamp", (0, 0))
    unnamed = torch.ones(2 * 64, dtype=torch.bool)
    unnamed[neighbor_cells(where, 2, 8, 8, seed_tensor(0))[asked].flatten()] = False
    unnamed = unnamed.view(1, 2, 1, 8, 8)

    def outcome(other: float) -> list[Tensor]:
        """Output of the query and all gradients of it, with every cell that it does not name set to `other`."""
        inputs = [x.requires_grad_() for x in (query.clone(), key.where(~unnamed, other), value.where(~unnamed, other))]
        out = gaussian_neighbor_attention(*inputs, gamma=(1.0, 2.0), num_points=4, backend=backend)
        own = out[0, :, asked // 8, asked % 8]
        return [own, *torch.autograd.grad(own.square().sum(), inputs)]

    first, second = outcome(0.5), outcome(-7.0)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all((gradient * unnamed == 0).all() for gradient in first[2:])
    assert torch.equal(outcome(torch.nan)[0], first[0])


def test_nan_and_large_scores_are_not_hidden() -> None:
    query, key, _ = (x.detach() for x in maps(1, 1, 4, 3, 3))
    for scale in (1e3, 1e15):
        out, expected = (CALLS["gaussian"](query * scale, key, key, backend=b) for b in ("numba", "reference"))
        torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)
    query[0, 0, 1, 1] = torch.nan
    out = CALLS["gaussian"](query, key, key, backend="numba")
    assert out[0, :, 1, 1].isnan().all() and out.isnan().sum() == 4


def test_operators_are_registered_correctly() -> None:
    for shared in (False, True):
        query, key, value = maps(1, 2, 3, 3, 4)
        rows = [x.detach().movedim(-3, -1).contiguous().requires_grad_() for x in (query, key, value)]
        where = neighborhood("independent", (1.0, 2.0), 3, 1, "clamp", (0, 0))
        arguments = (*rows[:2], None if shared else rows[2], seed_tensor(1), "numba", *where)
        torch.library.opcheck(ops.neighbor_attention, arguments)


@pytest.mark.parametrize("shared", [False, True], ids=["kv", "k=v"])
def test_compiles_without_a_graph_break(shared: bool) -> None:
    inputs = maps(1, 2, 4, 5, 6, shared)
    compiled = torch.compile(CALLS["gaussian"], fullgraph=True, backend="aot_eager")
    assert_agree(run(compiled, inputs, "numba"), run(CALLS["gaussian"], inputs, "numba"), 0)


def test_seed_tensor_does_not_recompile() -> None:
    query, key, value = (x.detach() for x in maps(1, 1, 4, 5, 6))
    graphs: list[object] = []

    def count(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph

    step = torch.compile(lambda seed: gaussian_neighbor_attention(query, key, value, seed=seed), backend=count)
    outs = [step(torch.tensor(seed)) for seed in range(3)]
    assert len(graphs) == 1 and not torch.equal(outs[0], outs[1])


def test_backends_are_chosen_and_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_backends()[:2] == ["reference", "numba"]
    double = [x.detach().double() for x in maps(1, 1, 2, 2, 2)]
    assert gaussian_neighbor_attention(*double).dtype == torch.float64
    with pytest.raises(ValueError, match="numba"):
        gaussian_neighbor_attention(*double, backend="numba")
    monkeypatch.setattr(functional, "_INTERPRET", False)
    single = [x.float() for x in double]
    with pytest.raises(ValueError, match="triton"):
        gaussian_neighbor_attention(*single, backend="triton")
    monkeypatch.setitem(checks.INSTALLED, "numba", False)
    assert torch.equal(gaussian_neighbor_attention(*single), gaussian_neighbor_attention(*single, backend="reference"))
    with pytest.raises(ValueError, match="not installed"):
        gaussian_neighbor_attention(*single, backend="numba")

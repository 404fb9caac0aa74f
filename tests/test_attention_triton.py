"""The Triton backend against the reference: drawn cells exactly, outputs and gradients within float32 error.

Without a GPU Triton's interpreter runs the kernels, slowly, so maps are tiny. That proves logic and masks;
nothing here measures speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from crowdloc.attention import available_backends, gaussian_neighbor_attention, ops
from crowdloc.attention.checks import neighborhood, seed_tensor
from crowdloc.attention.sampling import Neighborhood, neighbor_cells

if "triton" not in available_backends():
    pytest.skip("needs triton, and a GPU or TRITON_INTERPRET=1", allow_module_level=True)

from crowdloc.attention import triton_backend

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
gaussian = partial(gaussian_neighbor_attention, seed=-5)


@pytest.fixture(params=[False, True], ids=["atomic", "deterministic"])
def deterministic(request: pytest.FixtureRequest) -> Iterator[bool]:
    torch.use_deterministic_algorithms(request.param)
    yield request.param
    torch.use_deterministic_algorithms(False)


def maps(batch: int, frames: int, channels: int, height: int, width: int, shared: bool = False) -> list[Tensor]:
    torch.manual_seed(42)
    query = torch.randn(batch, channels, height, width, device=DEVICE, requires_grad=True)
    key = torch.randn(batch, frames, channels, height, width, device=DEVICE, requires_grad=True)
    return [query, key] if shared else [query, key, torch.randn_like(key, requires_grad=True)]


def run(call: Callable[..., Tensor], inputs: list[Tensor], backend: str) -> list[Tensor]:
    """Output and all gradients of a fixed loss."""
    out = call(*inputs, *([inputs[1]] if len(inputs) == 2 else []), backend=backend)
    slope = torch.linspace(-1, 1, out.numel(), device=DEVICE).sin().view(out.shape)
    return [out, *torch.autograd.grad((out.float() * slope).sum(), inputs)]


def assert_agree(got: list[Tensor], expected: list[Tensor], ratio: float = 3e-6) -> None:
    """Root-mean-square error against root-mean-square size, per tensor; and no element far off."""
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        error, size = (a.double() - b.double()).square().mean().sqrt(), b.double().square().mean().sqrt()
        assert error <= ratio * size + 1e-7
        assert (a - b).abs().max() <= 20 * ratio * b.abs().max() + 1e-6


@pytest.mark.parametrize("masked", [False, True], ids=["clamp", "mask"])
@pytest.mark.parametrize("kind", ["independent", "qmc", "random", "window"])
def test_draws_the_same_cells(kind: str, masked: bool) -> None:
    where = Neighborhood(kind, (0.0, 30.0), 9 if kind == "window" else 4, 2, masked, 2**33 - 3, -4)
    seed = seed_tensor(0xFEDCBA9876543210).to(DEVICE)
    assert torch.equal(triton_backend.sample(where, 2, 2, 3, seed), neighbor_cells(where, 2, 2, 3, seed))


@pytest.mark.parametrize("gamma", [0.25, 3.0, 64.0, 1024.0])
def test_draws_the_same_cells_for_any_gamma(gamma: float) -> None:
    where = Neighborhood("independent", (gamma,), 64, 1, False, 0, 0)
    for seed in (0, -1):
        expected = neighbor_cells(where, 1, 1, 2, seed_tensor(seed).to(DEVICE))
        assert torch.equal(triton_backend.sample(where, 1, 1, 2, seed_tensor(seed).to(DEVICE)), expected)


def test_the_attention_kernel_reads_these_cells() -> None:
    """Zero scores and one-hot values: the output counts how often each cell was drawn."""
    query, value = torch.zeros(1, 12, 2, 3, device=DEVICE), torch.eye(12, device=DEVICE).view(1, 2, 2, 3, 12)
    out = gaussian(query, torch.zeros(1, 2, 12, 2, 3, device=DEVICE), value.movedim(-1, 2), gamma=(0.5, 2.0),
                   num_points=4, origin=(5, -6), backend="triton")  # fmt: skip
    where = neighborhood("independent", (0.5, 2.0), 4, 1, "clamp", (5, -6))
    cells = neighbor_cells(where, 2, 2, 3, seed_tensor(-5).to(DEVICE)).flatten(1)  # (N, F·T·P)
    expected = torch.nn.functional.one_hot(cells, 12).sum(1) / 16
    torch.testing.assert_close(out.flatten(2)[0].T, expected.float())


CASES = {
    "1x1": (partial(gaussian, gamma=3.0, num_points=4), (1, 1, 8, 1, 1)),
    "1x7 mask": (partial(gaussian, gamma=(0.0, 9.0), num_points=3, boundary="mask"), (1, 3, 20, 1, 7)),
}


@pytest.mark.parametrize("shared", [False, True], ids=["kv", "k=v"])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference(name: str, shared: bool, deterministic: bool) -> None:
    if deterministic != shared and name != "1x7 mask":
        pytest.skip("the other two of four combinations cover this case")
    call, shape = CASES[name]
    inputs = maps(*shape, shared)
    assert_agree(run(call, inputs, "triton"), run(call, inputs, "reference"))


def test_many_blocks_per_set(deterministic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two draws: the online softmax goes on over blocks, some of whose draws are all dropped."""
    monkeypatch.setattr(triton_backend, "TILE", 16)
    call = partial(gaussian, gamma=2.0, num_points=3, boundary="mask")
    inputs = maps(1, 3, 8, 1, 4, shared=True)
    assert_agree(run(call, inputs, "triton"), run(call, inputs, "reference"))


@pytest.mark.parametrize(("dtype", "ratio"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)], ids=str)
def test_half_precision(dtype: torch.dtype, ratio: float, deterministic: bool) -> None:
    inputs = [x.detach().to(dtype).requires_grad_() for x in maps(1, 2, 20, 2, 3)]
    call = partial(gaussian, gamma=2.0, num_points=4)
    assert_agree(run(call, inputs, "triton"), run(call, inputs, "reference"), ratio)


@pytest.mark.usefixtures("poisoned_memory")
def test_deterministic_gradients_repeat() -> None:
    call, inputs = partial(gaussian, gamma=2.0, num_points=8), maps(1, 1, 20, 2, 3, shared=True)
    first, second = run(call, inputs, "triton"), run(call, inputs, "triton")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert_agree(first, run(call, inputs, "reference"))


def test_any_memory_layout() -> None:
    query, key, value = (x.detach() for x in maps(1, 2, 6, 1, 3))
    call = partial(gaussian, gamma=1.0, num_points=3, backend="triton")
    last = query.contiguous(memory_format=torch.channels_last)
    sliced = torch.stack([key, key], dim=-1)[..., 1]
    assert torch.equal(call(query, key, value), call(last, sliced, value.mT.contiguous().mT))
    where = neighborhood("independent", 1.0, 3, 1, "clamp", (0, 0))
    rows = [x.movedim(-3, -1) for x in (query, key, value)]
    assert not rows[0].is_contiguous()
    out = triton_backend.forward(*rows, seed_tensor(-5), where)
    assert torch.equal(out.movedim(-1, -3), call(query, key, value))


def test_nan_stays_with_its_query() -> None:
    query, key = (x.detach() for x in maps(1, 1, 4, 1, 3, shared=True))
    query[0, 0, 0, 1] = torch.nan
    out = gaussian(query, key, key, num_points=3, backend="triton")
    assert out[0, :, 0, 1].isnan().all() and out.isnan().sum() == 4


def test_operators_are_registered_correctly() -> None:
    rows = [x.detach().movedim(-3, -1).contiguous().requires_grad_() for x in maps(1, 1, 3, 1, 2)]
    where = neighborhood("independent", 1.0, 2, 1, "clamp", (0, 0))
    torch.library.opcheck(ops.neighbor_attention, (*rows, seed_tensor(1), "triton", *where))


def test_seed_tensor_and_compile() -> None:
    inputs = maps(1, 1, 4, 1, 2)
    compiled = torch.compile(partial(gaussian, num_points=2), fullgraph=True, backend="aot_eager")
    assert_agree(run(compiled, inputs, "triton"), run(partial(gaussian, num_points=2), inputs, "triton"), 0)
    by_tensor = gaussian_neighbor_attention(*inputs, num_points=2, seed=torch.tensor(-5), backend="triton")
    assert torch.equal(by_tensor, gaussian(*inputs, num_points=2, backend="triton"))


def test_float64_is_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        gaussian(*(x.double() for x in maps(1, 1, 2, 1, 1)), backend="triton")

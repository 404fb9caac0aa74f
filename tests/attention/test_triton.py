"""The Triton backend against the reference: drawn cells exactly, outputs and gradients to within one rounding.

Without a GPU Triton's interpreter runs the kernels, at 20 to 100 ms per query and set, so maps are tiny. That proves
logic and masks; the last test adds that the kernels compile, and nothing here measures speed.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crowdloc.attention import available_backends, gaussian_neighbor_attention, local_attention, ops, random_attention
from crowdloc.attention.checks import neighborhood, seed_tensor
from crowdloc.attention.sampling import Neighborhood, neighbor_cells, sobol_second
from crowdloc.attention.tables import thresholds

if "triton" not in available_backends():
    pytest.skip("needs triton, and a GPU or TRITON_INTERPRET=1", allow_module_level=True)

import triton
import triton.language as tl

from crowdloc.attention import triton_backend
from crowdloc.attention.triton_draws import _sobol_second, _step

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Bound for the float32 error inside a kernel, where values are about 1. The interpreter stays below 2e-7; a GPU adds an
# exp2 and divisions that are wrong by 2 units in the last place (2.4e-7 each), and sums in another order.
WORKING = 2e-6
# One rounding to nearest is off by eps / 2 at most, but the interpreter cuts a bfloat16 off.
ROUNDING = {dtype: torch.finfo(dtype).eps / 2 for dtype in (torch.float32, torch.float16, torch.bfloat16)}
if DEVICE == "cpu":
    ROUNDING[torch.bfloat16] *= 2
gaussian = partial(gaussian_neighbor_attention, seed=-5)


@contextmanager
def backward_mode(deterministic: bool) -> Iterator[None]:
    torch.use_deterministic_algorithms(deterministic)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.fixture(params=[False, True], ids=["atomic", "deterministic"])
def deterministic(request: pytest.FixtureRequest) -> Iterator[bool]:
    with backward_mode(request.param):
        yield request.param


def maps(batch: int, frames: int, channels: int, height: int, width: int, shared: bool = False) -> list[Tensor]:
    """Normal query and key, and a value unless K = V; drawn on the CPU, so the same for every device."""
    torch.manual_seed(42)
    query = torch.randn(batch, channels, height, width)
    others = torch.randn(1 if shared else 2, batch, frames, channels, height, width)
    return [x.to(DEVICE).requires_grad_() for x in (query, *others)]


def run(call: Callable[..., Tensor], inputs: list[Tensor], backend: str = "triton") -> list[Tensor]:
    """Output and all gradients of a fixed loss, whose slopes are multiples of 1/8: exact in every dtype."""
    out = call(inputs[0], inputs[1], inputs[-1], backend=backend)
    slope = (torch.arange(out.numel()) * 7 % 17 - 8).view(out.shape) / 8
    return [out, *torch.autograd.grad(out, inputs, slope.to(out))]


def truth(call: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """The reference in float64 on the CPU, from the very same (already rounded) numbers."""
    return run(call, [x.detach().cpu().double().requires_grad_() for x in inputs], "reference")


def assert_agree(got: list[Tensor], exact: list[Tensor], dtype: torch.dtype = torch.float32) -> None:
    """Every element is within one rounding to its own type and float32 working error."""
    for a, b in zip(got, exact, strict=True):
        assert a.dtype == dtype and a.shape == b.shape
        allowed = ROUNDING[dtype] * b.abs() + WORKING * b.abs().max().clamp(min=1)
        excess = (a.detach().cpu().double() - b).abs() / allowed
        assert excess.max() <= 1, f"error of {excess.max():.2g} times what is allowed"  # NaN is not <= 1


@pytest.mark.parametrize("masked", [False, True], ids=["clamp", "mask"])
@pytest.mark.parametrize("kind", ["independent", "qmc", "random", "window"])
def test_draws_the_same_cells(kind: str, masked: bool) -> None:
    where = Neighborhood(kind, (0.0, 30.0), 9 if kind == "window" else 4, 2, masked, 2**33 - 3, -4)
    seed, size = seed_tensor(0xFEDCBA9876543210), (2, 1, 3) if masked else (2, 3, 1)
    assert torch.equal(triton_backend.sample(where, *size, seed.to(DEVICE)).cpu(), neighbor_cells(where, *size, seed))


@pytest.mark.parametrize("gamma", [0.25, 3.0, 64.0, 1024.0])
def test_draws_the_same_cells_for_any_gamma(gamma: float) -> None:
    where = Neighborhood("independent", (gamma,), 64, 1, False, 0, 0)
    for seed in (seed_tensor(0), seed_tensor(-1)):
        expected = neighbor_cells(where, 1, 1, 2, seed)
        assert torch.equal(triton_backend.sample(where, 1, 1, 2, seed.to(DEVICE)).cpu(), expected)


@triton.jit
def _steps_and_points(bits, steps, table, points, seconds, BLOCK: tl.constexpr, STEPS: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(steps + i, _step(tl.load(bits + i), table, STEPS))
    tl.store(seconds + i, _sobol_second(tl.load(points + i)))


@pytest.mark.parametrize("gamma", [0.0, 0.3, 10.0])
def test_steps_at_the_thresholds_themselves_and_points_of_16_bits(gamma: float) -> None:
    """Random draws never meet a threshold, and short sets have points of few bits."""
    exact = thresholds(gamma)
    bits = torch.tensor([b for t in (1, *exact, 2**32 - 1) for b in (t - 1, t)])
    bits = bits.repeat(512 // len(bits) + 1)[:512].to(DEVICE)
    points = torch.arange(512, device=DEVICE) * 12345 % 65536
    steps, seconds = torch.empty_like(bits), torch.empty_like(points)
    table, depth = triton_backend._tables((gamma,), bits.device)
    _steps_and_points[(1,)](bits, steps, table, points, seconds, BLOCK=512, STEPS=depth)
    assert steps.tolist() == [sum(t <= b for t in exact) - len(exact) // 2 for b in bits.tolist()]
    assert torch.equal(seconds, sobol_second(points))


def test_the_attention_kernel_reads_these_cells() -> None:
    """Zero scores and one-hot values: the output counts how often each cell was drawn."""
    query, value = torch.zeros(1, 8, 2, 2, device=DEVICE), torch.eye(8, device=DEVICE).view(1, 2, 2, 2, 8)
    out = gaussian(query, torch.zeros(1, 2, 8, 2, 2, device=DEVICE), value.movedim(-1, 2), gamma=(0.5, 2.0),
                   num_points=4, origin=(5, -6), backend="triton")  # fmt: skip
    where = neighborhood("independent", (0.5, 2.0), 4, 1, "clamp", (5, -6))
    cells = neighbor_cells(where, 2, 2, 2, seed_tensor(-5)).flatten(1)  # (N, F·T·P)
    expected = torch.nn.functional.one_hot(cells, 8).sum(1) / 16
    torch.testing.assert_close(out.flatten(2)[0].T.cpu(), expected.float())


CALLS: dict[str, Callable[..., Tensor]] = {
    "gaussian": partial(gaussian, gamma=0.7, num_points=5, origin=(-9, 2)),
    "gaussian sets": partial(gaussian, gamma=(0.4, 2.0), num_samples=2, num_points=3),
    # on a map of 1x4 the queries keep 2, 0, 2 and 1 draws of the first focus, and none of the second
    "gaussian mask": partial(gaussian, gamma=(1.0, 60.0), num_points=5, boundary="mask"),
    "qmc": partial(gaussian, gamma=1.0, num_points=4, sampling="qmc"),
    "qmc mask": partial(gaussian, gamma=0.7, num_points=4, sampling="qmc", boundary="mask"),
    "random": partial(random_attention, num_points=5, seed=2**40 + 3),
    "random sets": partial(random_attention, num_points=3, num_samples=2),
    "window": partial(local_attention, window=3, boundary="clamp"),
    "window mask": partial(local_attention, window=3),
}
# (B, T, C, H, W), type, whether key and value are one, backward mode. Far from the full cross product.
CASES = [
    ("random sets", (2, 2, 60, 1, 1), "float16", "kv", "atomic"),
    ("gaussian mask", (1, 1, 5, 1, 1), "bfloat16", "k=v", "deterministic"),
    ("gaussian mask", (1, 1, 100, 1, 4), "float32", "kv", "atomic"),
    ("window", (2, 1, 1, 1, 7), "bfloat16", "kv", "deterministic"),
    ("window mask", (2, 2, 1, 1, 7), "float16", "kv", "atomic"),
    ("window mask", (1, 2, 512, 1, 7), "float32", "k=v", "atomic"),
    ("window mask", (1, 1, 60, 5, 3), "float32", "k=v", "deterministic"),
    ("window", (1, 2, 5, 5, 3), "float16", "k=v", "atomic"),
    ("window mask", (1, 2, 60, 5, 3), "bfloat16", "kv", "atomic"),
    ("random", (1, 1, 1, 4, 5), "float32", "kv", "deterministic"),
    ("window mask", (1, 1, 5, 4, 5), "float16", "k=v", "atomic"),
    ("window", (1, 2, 100, 4, 5), "bfloat16", "kv", "deterministic"),
    ("random", (1, 2, 512, 2, 3), "float16", "kv", "deterministic"),
    ("random", (2, 1, 100, 1, 2), "float16", "k=v", "atomic"),
    ("gaussian sets", (1, 1, 60, 1, 2), "float32", "k=v", "deterministic"),
    ("gaussian", (2, 2, 1, 1, 2), "float16", "k=v", "deterministic"),
    ("gaussian", (1, 1, 5, 3, 2), "float32", "kv", "atomic"),
    ("qmc", (2, 1, 5, 1, 2), "float32", "kv", "deterministic"),
    ("qmc mask", (1, 2, 512, 2, 2), "bfloat16", "k=v", "atomic"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case)))
def test_agrees_with_the_reference(case: tuple[str, tuple[int, ...], str, str, str]) -> None:
    name, shape, kind, tensors, mode = case
    dtype: torch.dtype = getattr(torch, kind)
    inputs = [x.detach().to(dtype).requires_grad_() for x in maps(*shape, tensors == "k=v")]
    with backward_mode(mode == "deterministic"):
        got = run(CALLS[name], inputs)
    assert_agree(got, truth(CALLS[name], inputs), dtype)


def test_many_blocks_per_set(deterministic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The online softmax goes on over blocks of four draws, of which the first and the last are all dropped.

    From frame to frame scores rise for one query and fall for the other, so the maximum changes and stays.
    """
    monkeypatch.setattr(triton_backend, "TILE", 32)
    query, key = (x.detach() for x in maps(1, 2, 8, 1, 2, shared=True))
    query[..., 1] = -query[..., 0]
    key[:, 1] += query[..., :1]
    inputs = [query.requires_grad_(), key.requires_grad_()]
    assert_agree(run(CALLS["window mask"], inputs), truth(CALLS["window mask"], inputs))


def test_large_scores_do_not_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores in the thousands, whose float32 rounding alone changes weights by about 1e-3."""
    monkeypatch.setattr(triton_backend, "TILE", 32)
    query, key = (x.detach() for x in maps(1, 1, 8, 1, 3, shared=True))
    out, expected = (CALLS["window"](1000 * query, key, key, backend=b) for b in ("triton", "reference"))
    torch.testing.assert_close(out, expected, atol=2e-3, rtol=0)


def test_a_query_that_loses_all_its_draws_sees_itself_in_every_frame(deterministic: bool) -> None:
    call = partial(gaussian, gamma=60.0, num_points=2, boundary="mask")
    cells = neighbor_cells(neighborhood("independent", 60.0, 2, 1, "mask", (0, 0)), 2, 2, 1, seed_tensor(-5))
    assert cells.flatten(1).tolist() == [[0, -1, 2, -1], [1, -1, 3, -1]]
    inputs = maps(1, 2, 5, 2, 1)

    def own(query: Tensor, key: Tensor, value: Tensor, backend: str) -> Tensor:
        weight = (torch.einsum("bcyx,btcyx->btyx", query, key) / 5**0.5).softmax(1)
        return torch.einsum("btyx,btcyx->bcyx", weight, value)

    assert_agree(run(call, inputs), truth(own, inputs))


@pytest.mark.parametrize("name", CALLS)
def test_weights_sum_to_one(name: str) -> None:
    query, key = (x.detach() for x in maps(1, 2, 3, 1, 2, shared=True))
    out = CALLS[name](query, key, torch.ones_like(key), backend="triton")
    torch.testing.assert_close(out, torch.ones_like(out), atol=1e-6, rtol=0)


def test_batch_entries_do_not_touch_each_other() -> None:
    """A permuted batch gives the permuted results, bit for bit."""
    inputs, order = maps(3, 2, 5, 1, 2), torch.tensor([2, 0, 1], device=DEVICE)
    results = []
    with backward_mode(deterministic=True):
        for given in (inputs, [x.detach()[order].requires_grad_() for x in inputs]):
            out = CALLS["window"](*given, backend="triton")
            # a slope that is the same for all entries, because the loss must be permuted too
            results.append([out, *torch.autograd.grad(out.square().sum(), given)])
    assert all(torch.equal(a[order], b) for a, b in zip(*results, strict=True))


def test_a_cell_that_no_query_draws_touches_nothing() -> None:
    query, key, value = (x.detach() for x in maps(1, 2, 5, 2, 3))
    where = neighborhood("random", 0.0, 1, 1, "clamp", (0, 0))
    undrawn = torch.ones(12, dtype=torch.bool)
    undrawn[neighbor_cells(where, 2, 2, 3, seed_tensor(0)).flatten()] = False
    assert 3 <= undrawn.sum() <= 9
    undrawn = undrawn.view(1, 2, 1, 2, 3).to(DEVICE)
    results = []
    with backward_mode(deterministic=True):
        for fill in (0.5, torch.nan):
            inputs = [x.requires_grad_() for x in (query, *(x.masked_fill(undrawn, fill) for x in (key, value)))]
            results.append(run(partial(random_attention, num_points=1), inputs))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert all((gradient * undrawn == 0).all() for gradient in results[1][2:])


class Guarded:
    """Stands in for torch in the backend: what it allocates is poisoned and lies between bands of poison.

    The poison, 0x7F81 repeated, is a signalling NaN in float32 and bfloat16 and a large number as int32. A read shows
    in the result; a write, even the addition of zero, changes its bits.
    """

    BAND = 61  # elements; odd, so that no tensor is aligned to more than one of its elements

    def __init__(self) -> None:
        self.untouched: list[tuple[Tensor, Tensor]] = []  # memory, and what has to be in it

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def empty(self, *size: int, **options: Any) -> Tensor:
        room = torch.empty(math.prod(size) + 2 * self.BAND, **options)
        room.view(torch.int16).fill_(0x7F81)
        self.untouched += [(band, band.clone()) for band in (room[: self.BAND], room[-self.BAND :])]
        return room[self.BAND : -self.BAND].view(size)

    def empty_like(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return self.empty(*x.shape, dtype=dtype or x.dtype, device=x.device)

    def zeros_like(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return self.empty_like(x, dtype).zero_()

    def given(self, x: Tensor) -> Tensor:
        """An input: its own elements must not change either."""
        inside = self.empty_like(x).copy_(x)
        self.untouched.append((inside, inside.clone()))
        return inside


@pytest.mark.parametrize("shared", [False, True], ids=["kv", "k=v"])
def test_reads_and_writes_stay_inside(shared: bool, deterministic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """18 draws in a block of 32 and 20 channels in one of 32, the last rows of every tensor at a poisoned band."""
    dtype = torch.bfloat16 if shared else torch.float32
    where, seed, guard = neighborhood("window", 0.0, 9, 1, "mask", (0, 0)), seed_tensor(0), Guarded()
    inputs = [x.detach().to(dtype).requires_grad_() for x in maps(2, 2, 20, 1, 3, shared)]
    exact = truth(CALLS["window mask"], inputs)
    rows = [guard.given(x.detach().movedim(-3, -1)) for x in inputs]
    rows += [None] * shared
    slope = (torch.arange(120) * 7 % 17 - 8).view(2, 20, 1, 3).to(rows[0]) / 8
    slope = guard.given(slope.movedim(1, -1))
    monkeypatch.setattr(triton_backend, "torch", guard)
    got = [triton_backend.forward(*rows, seed, where), *triton_backend.backward(slope, *rows, seed, where)]
    assert_agree([x.movedim(-1, -3) for x in got if x is not None], exact, dtype)
    # inputs: bands and inside; output, gradients and, if deterministic, cells and coefficients: bands
    allocated = len(exact) + 2 * deterministic
    assert len(guard.untouched) == 3 * (len(inputs) + 1) + 2 * allocated
    assert all(torch.equal(memory.view(torch.int16), bits.view(torch.int16)) for memory, bits in guard.untouched)


@pytest.mark.usefixtures("poisoned_memory")
def test_deterministic_gradients_repeat() -> None:
    inputs = maps(1, 1, 20, 1, 4, shared=True)
    first, second = run(CALLS["random"], inputs), run(CALLS["random"], inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_any_memory_layout() -> None:
    """Permuted, strided and expanded tensors give the bits of contiguous ones, through the function and directly."""
    inputs = maps(1, 2, 6, 1, 3)
    query, key, value = (x.detach() for x in inputs)
    strided = [
        query.contiguous(memory_format=torch.channels_last),
        torch.stack([key, key], dim=-1)[..., 1],
        value.transpose(2, 4).contiguous().transpose(2, 4),
    ]
    rows = [x.movedim(-3, -1) for x in (query, key, value)]
    grad = torch.ones(1, 1, 1, 1, device=DEVICE).expand(rows[0].shape)
    assert not any(x.is_contiguous() for x in (*strided, *rows, grad))
    where, seed = neighborhood("window", 0.0, 9, 1, "clamp", (0, 0)), seed_tensor(0)
    with backward_mode(deterministic=True):
        plain, odd = (run(CALLS["window"], [x.requires_grad_() for x in given]) for given in (inputs, strided))
        direct = [triton_backend.forward(*rows, seed, where), *triton_backend.backward(grad, *rows, seed, where)]
        summed = torch.autograd.grad(CALLS["window"](*inputs, backend="triton").sum(), inputs)
    assert all(torch.equal(a, b) for a, b in zip(odd, plain, strict=True))
    assert all(torch.equal(a.movedim(-1, -3), b) for a, b in zip(direct, (plain[0], *summed), strict=True))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, in the interpreter
def test_nan_stays_with_its_query(deterministic: bool) -> None:
    """A NaN reaches its own output and the cells that the query draws, but no cell of a dropped draw."""
    where = neighborhood("independent", 1.5, 3, 1, "mask", (0, 0))
    assert neighbor_cells(where, 1, 1, 3, seed_tensor(1))[1, 0].tolist() == [-1, 2, -1]
    query, key = (x.detach() for x in maps(1, 1, 4, 1, 3, shared=True))
    query[..., 1] = torch.nan
    inputs = [query.requires_grad_(), key.requires_grad_()]
    call = partial(gaussian_neighbor_attention, gamma=1.5, num_points=3, boundary="mask", seed=1)
    out, query_gradient, key_gradient = run(call, inputs)
    for x, cell in ((out, 1), (query_gradient, 1), (key_gradient, 2)):
        assert x[..., cell].isnan().all() and x.isnan().sum() == 4


@pytest.mark.parametrize("shared", [False, True], ids=["kv", "k=v"])
def test_operators_are_registered_correctly(shared: bool) -> None:
    query, key, value = (x.detach().movedim(-3, -1).contiguous().requires_grad_() for x in maps(1, 1, 3, 1, 2))
    where = neighborhood("window", 0.0, 9, 1, "clamp", (0, 0))
    arguments = (query, key, None if shared else value, seed_tensor(1), "triton", *where)
    torch.library.opcheck(ops.neighbor_attention, arguments)


def test_seed_tensor_and_compile() -> None:
    inputs, call = maps(1, 1, 4, 1, 2), partial(gaussian, gamma=1.0, num_points=2)
    plain = run(call, inputs)
    assert_agree(run(torch.compile(call, fullgraph=True, backend="aot_eager"), inputs), [x.cpu() for x in plain])
    by_tensor = call(*inputs, seed=torch.tensor(-5), backend="triton")
    assert torch.equal(by_tensor, plain[0])


def test_float64_is_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        gaussian(*(x.double() for x in maps(1, 1, 2, 1, 1)), backend="triton")


COMPILE = """
import re

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from crowdloc.attention import triton_backend as backend
from crowdloc.attention.checks import neighborhood

TYPES = {"seed": "*i64", "table": "*i64", "order": "*i64", "begins": "*i64", "named": "*i32", "of_query": "*fp32",
         "of_grad": "*fp32", "y0": "i64", "x0": "i32", "scale": "fp32", "grad_key": "*fp32", "grad_value": "*fp32",
         **dict.fromkeys(("queries", "frames", "height", "width", "total", "draws"), "i32")}

def atomics(kernel, channels, kind="independent", boundary="clamp", **constants):
    key, where = torch.empty(1, 3, 4, 5, channels), neighborhood(kind, (3.0, 5.0), 16, 2, boundary, (0, 0))
    options = backend._place(where, key, torch.tensor(0)) | backend._blocks(where, key)
    constants = {n: v for n, v in options.items() if n.isupper() and n in kernel.arg_names} | constants
    signature = {n: "constexpr" if n in constants else TYPES.get(n, "*bf16") for n in kernel.arg_names}
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    launch = {"num_warps": options["num_warps"]}
    ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=launch).asm["ptx"]
    return len(re.findall(r"(?<![.\\w])(?:atom|red)[.]", ptx))

stored, added = dict.fromkeys(("grad_key", "grad_value")), dict.fromkeys(("named", "of_query", "of_grad"))
assert atomics(backend._forward, 512, "qmc", SAME=True) == 0
assert atomics(backend._backward_query, 60, "random", SAME=True, STORE=False, **added) > 0
assert atomics(backend._backward_query, 60, "window", "mask", SAME=False, STORE=True, **stored) == 0
assert atomics(backend._backward_key, 512, SAME=False) == 0
print("compiled")
"""


def test_kernels_compile_for_a_gpu_and_only_one_uses_atomics(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)  # compile now, whatever was compiled before
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, timeout=600)
    assert done.stdout.strip() == "compiled", done.stderr[-2000:]

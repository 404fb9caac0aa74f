"""Derivatives of every order and mode, and `torch.func`: each backend against the reference in float64, or an error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from crowdloc.attention import (
    GaussianNeighborAttention,
    available_backends,
    full_attention,
    gaussian_limit_attention,
    gaussian_neighbor_attention,
    local_attention,
    ops,
    random_attention,
)

COMPILED = [name for name in available_backends() if name != "reference"]
KINDS: dict[str, Callable[..., Tensor]] = {
    "gaussian": partial(gaussian_neighbor_attention, gamma=(1.0, 2.0), num_points=4, seed=3),
    "masked": partial(gaussian_neighbor_attention, gamma=(1.0, 9.0), num_points=2, num_samples=2, boundary="mask"),
    "random": partial(random_attention, num_points=5),
    "local": partial(local_attention, window=3),
}
# Triton's interpreter is slow: it is asked for one neighbourhood only
CASES = [(kind, backend) for backend in COMPILED for kind in KINDS if backend == "numba" or kind == "gaussian"]
every = pytest.mark.parametrize(("kind", "backend"), CASES, ids=[f"{kind} {backend}" for kind, backend in CASES])
DENSE: dict[str, Callable[..., Tensor]] = {
    "full": full_attention,
    "limit": partial(gaussian_limit_attention, gamma=(0.5, 2.0)),
    "limit masked": partial(gaussian_limit_attention, gamma=1.0, boundary="mask"),
}


def maps(count: int, batch: int = 1) -> list[Tensor]:
    """Float32 query, key, value; then as many again: tangents, slopes."""
    generator = torch.Generator().manual_seed(5)
    shapes = [(batch, 3, 2, 3), (batch, 2, 3, 2, 3), (batch, 2, 3, 2, 3)] * 2
    return [torch.randn(shape, generator=generator) for shape in shapes[:count]]


def both(kind: str, backend: str) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    return partial(KINDS[kind], backend=backend), partial(KINDS[kind], backend="reference")


def close(got: Tensor | tuple[Tensor, ...], exact: Tensor | tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(got, exact, check_dtype=False, atol=2e-5, rtol=2e-5)


def double(tensors: list[Tensor]) -> list[Tensor]:
    return [x.double() for x in tensors]


def energy(call: Callable[..., Tensor], *maps: Tensor) -> Tensor:
    return (call(*maps).square() * 0.5).sum()


def central(call: Callable[..., Tensor], primals: list[Tensor], tangents: list[Tensor], step: float = 1e-6) -> Tensor:
    """The directional derivative by finite differences, float64."""
    ahead = call(*(x + step * t for x, t in zip(primals, tangents, strict=True)))
    return (ahead - call(*(x - step * t for x, t in zip(primals, tangents, strict=True)))) / (2 * step)


@every
def test_forward_mode(kind: str, backend: str) -> None:
    fused, exact = both(kind, backend)
    inputs = maps(6)
    primals, tangents = inputs[:3], inputs[3:]
    expected = central(exact, double(primals), double(tangents))
    assert expected.norm() > 0.1
    close(torch.func.jvp(fused, tuple(primals), tuple(tangents)), (exact(*double(primals)), expected))
    with forward_ad.dual_level():
        out = fused(*(forward_ad.make_dual(x, t) for x, t in zip(primals, tangents, strict=True)))
        close(forward_ad.unpack_dual(out).tangent, expected)
        for i in range(3):  # a tangent on one of the three only
            mixed = [
                forward_ad.make_dual(x, t) if j == i else x
                for j, (x, t) in enumerate(zip(primals, tangents, strict=True))
            ]
            alone = [t if j == i else torch.zeros_like(t) for j, t in enumerate(tangents)]
            close(forward_ad.unpack_dual(fused(*mixed)).tangent, central(exact, double(primals), double(alone)))
    close(torch.func.linearize(fused, *primals)[1](*tangents), expected)


@every
def test_jacobians_forward_and_reverse(kind: str, backend: str) -> None:
    fused, exact = both(kind, backend)
    query, key, _ = maps(3)
    expected = torch.autograd.functional.jacobian(lambda k: exact(query.double(), k, k), key.double())
    close(torch.func.jacfwd(lambda k: fused(query, k, k))(key), expected)
    close(torch.func.jacrev(lambda k: fused(query, k, k))(key), expected)
    vectorized = torch.autograd.functional.jacobian(lambda k: fused(query, k, k), key, vectorize=True)
    close(vectorized, expected)


@pytest.mark.filterwarnings("ignore:Input #:UserWarning")  # float32 is coarse, and so are steps and bounds
def test_gradcheck_in_both_modes() -> None:
    fused = partial(KINDS["gaussian"], backend=COMPILED[0])
    inputs = [x.requires_grad_() for x in maps(3)]
    bounds = {"eps": 1e-2, "atol": 2e-3, "rtol": 1e-2}
    assert torch.autograd.gradcheck(fused, inputs, check_forward_ad=True, **bounds)
    assert torch.autograd.gradcheck(lambda q, k: fused(q, k, k), inputs[:2], check_forward_ad=True, **bounds)


@every
@pytest.mark.parametrize("shared", ["kv", "k=v", "q=k=v"])
def test_second_derivatives(kind: str, backend: str, shared: str) -> None:
    fused, exact = both(kind, backend)
    results = []
    for call, given in ((fused, maps(6)), (exact, double(maps(6)))):
        inputs = [x.requires_grad_() for x in given[: {"kv": 3, "k=v": 2, "q=k=v": 1}[shared]]]
        out = call(*inputs, *[inputs[-1]] * (3 - len(inputs)))
        first = torch.autograd.grad(out.square().sum(), inputs, create_graph=True)
        results.append((*first, *torch.autograd.grad(sum(g.square().sum() for g in first), inputs)))
    assert all(g.norm() > 0.01 for g in results[1])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, check_dtype=False, atol=1e-3, rtol=1e-4)


@every
def test_forward_over_reverse(kind: str, backend: str) -> None:
    fused, exact = both(kind, backend)
    query, key, value, tangent, *_ = maps(6)

    def slope(call: Callable[..., Tensor], *fixed: Tensor) -> Callable[[Tensor], Tensor]:
        return torch.func.grad(lambda q: energy(call, q, *fixed))

    expected = central(slope(exact, key.double(), value.double()), [query.double()], [tangent.double()])
    close(torch.func.jvp(slope(fused, key, value), (query,), (tangent,))[1], expected)
    # a tangent that enters with the gradient alone: the backward pass is linear in it
    x = query.clone().requires_grad_()
    out = fused(x, key, value)
    with forward_ad.dual_level():
        (back,) = torch.autograd.grad(out, x, forward_ad.make_dual(tangent, query), retain_graph=True)
        (alone,) = torch.autograd.grad(out, x, query)
        close(forward_ad.unpack_dual(back).tangent, alone)


@every
def test_vmap_joins_the_batch(kind: str, backend: str) -> None:
    fused, exact = both(kind, backend)
    inputs = maps(3, batch=3)
    stacked = [x.unsqueeze(1) for x in inputs]  # (V, 1, …)
    assert torch.equal(torch.func.vmap(fused)(*stacked), fused(*inputs).unsqueeze(1))
    one = torch.func.vmap(lambda q: fused(q, stacked[1][0], stacked[2][0]))(stacked[0])
    close(one[2], exact(stacked[0][2].double(), stacked[1][0].double(), stacked[2][0].double()))
    per_sample = torch.func.vmap(torch.func.grad(lambda k, q: energy(fused, q, k, k)))(stacked[1], stacked[0])
    key = inputs[1].double().requires_grad_()
    (expected,) = torch.autograd.grad(energy(exact, inputs[0].double(), key, key), key)
    close(per_sample.squeeze(1), expected)


@pytest.mark.parametrize("backend", COMPILED)
def test_vmap_over_seeds_draws_for_each(backend: str) -> None:
    inputs, seeds = maps(3), torch.tensor([4, -9])
    call = partial(gaussian_neighbor_attention, gamma=1.0, num_points=4)
    got = torch.func.vmap(lambda seed: call(*inputs, seed=seed, backend=backend))(seeds)
    close(got, torch.stack([call(*double(inputs), seed=seed) for seed in seeds]))
    assert not torch.equal(got[0], got[1])


@pytest.mark.parametrize("name", DENSE)
def test_dense_neighbourhoods(name: str) -> None:
    call, inputs = DENSE[name], maps(6)
    primals, tangents = inputs[:3], inputs[3:]
    expected = central(call, double(primals), double(tangents))
    close(torch.func.jvp(call, tuple(primals), tuple(tangents))[1], expected)
    close(torch.func.linearize(call, *primals)[1](*tangents), expected)
    close(torch.func.vmap(call)(*(x.unsqueeze(1) for x in maps(3, batch=2))), call(*maps(3, batch=2)).unsqueeze(1))
    query = primals[0].clone().requires_grad_()
    (first,) = torch.autograd.grad(energy(call, query, *primals[1:]), query, create_graph=True)
    if name == "full":  # torch's fused kernel: an error, not a zero
        with pytest.raises(RuntimeError, match="not implemented"):
            torch.autograd.grad(first.square().sum(), query)
    else:
        assert torch.autograd.gradgradcheck(
            lambda q: call(q, *double(primals[1:])), query.detach().double().requires_grad_()
        )


def test_limit_in_gamma() -> None:
    inputs = double(maps(3))
    call = lambda g: gaussian_limit_attention(*inputs, gamma=g)  # noqa: E731
    gamma = torch.tensor([0.7, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(call, gamma, check_forward_ad=True)
    with pytest.raises(ValueError, match="gamma cannot be a dimension of vmap"):
        torch.func.vmap(call)(gamma.detach())


@pytest.mark.parametrize("sampling", ["independent", "qmc", "limit"])
def test_the_module(sampling: str) -> None:
    module, inputs = GaussianNeighborAttention(num_points=4, sampling=sampling).eval(), maps(6)
    call = partial(module, seed=1)
    expected = central(call, double(inputs[:3]), double(inputs[3:]))
    close(torch.func.jvp(call, tuple(inputs[:3]), tuple(inputs[3:]))[1], expected)


@pytest.mark.parametrize("backend", COMPILED)
def test_half_precision_forward_mode(backend: str) -> None:
    inputs = [x.bfloat16() for x in maps(6)]
    fused, exact = both("gaussian", backend)
    _, tangent = torch.func.jvp(fused, tuple(inputs[:3]), tuple(inputs[3:]))
    assert tangent.dtype == torch.bfloat16
    expected = central(exact, double(inputs[:3]), double(inputs[3:]))
    torch.testing.assert_close(tangent, expected, check_dtype=False, atol=2e-2, rtol=2e-2)


def test_compiled_code_too() -> None:
    query, key, _, tangent, *_ = maps(6)
    fused, exact = both("gaussian", COMPILED[0])
    step = torch.compile(
        lambda q, t: torch.func.jvp(lambda q: fused(q, key, key), (q,), (t,))[1], fullgraph=True, backend="aot_eager"
    )
    fixed = key.double()
    expected = central(lambda q: exact(q, fixed, fixed), [query.double()], [tangent.double()])
    close(step(query, tangent), expected)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_training_stays_on_the_kernels(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and plain gradients, also through checkpoints, never touch the reference."""

    def refuse(*_: object) -> Tensor:
        raise AssertionError("the reference was called")

    monkeypatch.setattr(ops.reference, "attend", refuse)
    fused = partial(KINDS["gaussian"], backend=COMPILED[0])
    call = torch.compile(fused, fullgraph=True, backend="aot_eager") if compiled else fused
    inputs = [x.requires_grad_() for x in maps(3)]
    call(*inputs).sum().backward()
    if not compiled:
        again = torch.utils.checkpoint.checkpoint(fused, *inputs, use_reentrant=False)
        assert all(g.norm() >= 0 for g in torch.autograd.grad(again.sum(), inputs))
    with torch.no_grad():
        call(*inputs)
    with torch.inference_mode():
        fused(*inputs)

"""Bad arguments: one line that names the argument, from every function and already from a module's constructor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from crowdloc.attention import (
    DeformableAttention,
    GaussianNeighborAttention,
    checks,
    full_attention,
    gaussian_limit_attention,
    gaussian_neighbor_attention,
    local_attention,
    module_seed,
    random_attention,
    sample_neighbors,
)

ZEROS = torch.zeros(1, 2, 4, 4)
BELOW_ONE_OR_HUGE = [0, -1, 65536, 2**70]
NO_INTEGERS = [True, 2.0, "3", None, np.float32(2), torch.tensor(2), (2,)]


def gaussian(**options: Any) -> Tensor:
    return gaussian_neighbor_attention(ZEROS, ZEROS, ZEROS, **options)


def limit(**options: Any) -> Tensor:
    return gaussian_limit_attention(ZEROS, ZEROS, ZEROS, **{"gamma": 1.0, **options})


def neighbors(**options: Any) -> Tensor:
    return sample_neighbors(**{"height": 3, "width": 4, "gamma": 1.0, "num_points": 4, "seed": 0, **options})


def rejects(call: Callable[..., object], name: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError)) as raised:
        call(**{name: value})
    message = str(raised.value)
    assert name in message and "\n" not in message and len(message) < 200
    # ours, not one from the depths
    assert raised.traceback[-1].path.parent.name == "attention", message


BAD_GAMMA = [
    "35", b"35", "", (), [], np.zeros(0), -1.0, (3.0, -1.0), float("nan"), (3.0, float("nan")), float("inf"), 1024.5,
    1e300, True, (3.0, True), ("3", "5"), [[3.0]], np.ones((1, 2)), torch.ones(1, 2), torch.tensor([True]), {3.0, 5.0},
    {3.0: 5.0}, None, (None,), 3 + 0j, torch.tensor([1j]), torch.tensor([3.0, -1.0]), object(),
]  # fmt: skip
GAUSSIAN = {"function": gaussian, "module": GaussianNeighborAttention, "neighbors": neighbors}
every = pytest.mark.parametrize("call", GAUSSIAN.values(), ids=list(GAUSSIAN))


@pytest.mark.parametrize("gamma", BAD_GAMMA, ids=repr)
@pytest.mark.parametrize("call", [*GAUSSIAN.values(), limit], ids=[*GAUSSIAN, "limit"])
def test_gamma(call: Callable[..., object], gamma: object) -> None:
    rejects(call, "gamma", gamma)


@every
def test_counts(call: Callable[..., object]) -> None:
    for name in ("num_points", "num_samples"):
        for value in BELOW_ONE_OR_HUGE + NO_INTEGERS:
            rejects(call, name, value)
    rejects(call, "gamma", [1.0] * 65536)  # foci are counted too


@every
@pytest.mark.parametrize("value", ["window", "random", "wrap", "QMC", "", None, 1, True], ids=repr)
def test_sampling(call: Callable[..., object], value: object) -> None:
    rejects(call, "sampling", value)


def test_limit_is_a_sampling_of_the_module_alone() -> None:
    assert GaussianNeighborAttention(sampling="limit").sampling == "limit"
    for call in (gaussian, neighbors):
        rejects(call, "sampling", "limit")


@pytest.mark.parametrize("call", [*GAUSSIAN.values(), limit], ids=[*GAUSSIAN, "limit"])
def test_boundary(call: Callable[..., object]) -> None:
    for value in ("wrap", "", None, 0, True):
        rejects(call, "boundary", value)
    with pytest.raises(ValueError, match="boundary"):
        local_attention(ZEROS, ZEROS, ZEROS, boundary="wrap")


@every
def test_qmc_needs_a_power_of_two(call: Callable[..., object]) -> None:
    rejects(lambda **options: call(sampling="qmc", **options), "num_points", 12)


@pytest.mark.parametrize("call", [gaussian, GaussianNeighborAttention], ids=["function", "module"])
def test_backend(call: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("nope", "cuda", "", 1, True, torch.device("cpu")):
        rejects(call, "backend", value)
    monkeypatch.setitem(checks.INSTALLED, "numba", False)
    with pytest.raises(ValueError, match="'numba' is not installed: pip install numba"):
        call(backend="numba")


def test_a_module_is_checked_before_it_runs() -> None:
    for options, word in (
        ({"gamma": -1}, "gamma"),
        ({"num_points": 0}, "num_points"),
        ({"num_points": 12, "sampling": "qmc"}, "num_points"),
        ({"boundary": "wrap"}, "boundary"),
        ({"backend": "nope"}, "backend"),
        ({"backend": "nope", "sampling": "limit"}, "backend"),
        ({"num_samples": 0, "sampling": "limit"}, "num_samples"),
        ({"learn_gamma": True}, "learn_gamma"),
        ({"learn_gamma": True, "sampling": "limit", "gamma": 0.0}, "gamma"),
    ):
        with pytest.raises(ValueError, match=word) as raised:
            GaussianNeighborAttention(**options)  # type: ignore[arg-type]
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("call", [gaussian, neighbors], ids=["function", "neighbors"])
def test_origin_and_seed(call: Callable[..., object]) -> None:
    for value in ((), (0,), (0, 0, 0), 0, None, "00", (0.0, 0), (True, 0), ("0", 0), (2**62, 0), (0, -(2**70))):
        rejects(call, "origin", value)
    for value in (1.5, 1.0, "1", None, True, np.float64(1), torch.tensor(1.0), torch.tensor([1]), torch.tensor(True)):
        rejects(call, "seed", value)
    rejects(call, "seed", torch.tensor(1j))


def test_other_functions() -> None:
    def local(**options: Any) -> Tensor:
        return local_attention(ZEROS, ZEROS, ZEROS, **options)

    def random(**options: Any) -> Tensor:
        return random_attention(ZEROS, ZEROS, ZEROS, **options)

    for value in (4, 0, -3, 257, *NO_INTEGERS):
        rejects(local, "window", value)
    for name in ("num_points", "num_samples"):
        for value in BELOW_ONE_OR_HUGE + NO_INTEGERS:
            rejects(random, name, value)
    for name in ("height", "width", "num_frames"):
        for value in BELOW_ONE_OR_HUGE + NO_INTEGERS:
            rejects(neighbors, name, value)
    for name in ("num_frames", "num_heads", "num_points"):
        for value in BELOW_ONE_OR_HUGE + NO_INTEGERS:
            rejects(lambda **options: DeformableAttention(16, **options), name, value)
    for value in (0, 12, True, 16.0):
        rejects(DeformableAttention, "channels", value)
    for value in (1.0, True, "1", None):
        rejects(lambda **options: module_seed(name="scene", step=None, **options), "run_seed", value)
    for value in (1.0, True, "1"):
        rejects(lambda **options: module_seed(0, "scene", **options), "step", value)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"key": torch.zeros(1, 3, 4, 4)}, ValueError),
        ({"key": torch.zeros(2, 2, 4, 4)}, ValueError),
        ({"key": torch.zeros(1, 2, 4, 5)}, ValueError),
        ({"key": torch.zeros(1, 0, 2, 4, 4)}, ValueError),
        ({"key": torch.zeros(1, 2, 4, 4, dtype=torch.float64)}, TypeError),
        ({"key": torch.zeros(1, 2, 4, 4, device="meta")}, ValueError),
        ({"key": np.zeros((1, 2, 4, 4), np.float32)}, TypeError),
        ({"value": torch.zeros(1, 2, 4, 5)}, ValueError),
        ({"value": torch.zeros(1, 1, 2, 4, 4)}, ValueError),
        ({"value": None}, TypeError),
        ({"query": torch.zeros(2, 4, 4)}, ValueError),
        ({"query": torch.zeros(1, 1, 2, 4, 4)}, ValueError),
        ({"query": torch.zeros(0, 2, 4, 4)}, ValueError),
        ({"query": torch.zeros(1, 0, 4, 4)}, ValueError),
        ({"query": torch.zeros(1, 2, 0, 4)}, ValueError),
        ({"query": torch.zeros(1, 2, 4, 0)}, ValueError),
        ({"query": torch.zeros(1, 2, 4, 4, dtype=torch.int32)}, TypeError),
        ({"query": torch.zeros(1, 2, 4, 4, dtype=torch.complex64)}, TypeError),
        ({"query": [[[[0.0]]]]}, TypeError),
    ],
    ids=lambda x: "",
)
def test_maps(change: dict[str, Any], error: type[Exception]) -> None:
    given = {"query": ZEROS, "key": ZEROS, "value": ZEROS, **change}
    for call in (
        gaussian_neighbor_attention,
        random_attention,
        local_attention,
        full_attention,
        gaussian_limit_attention,
    ):
        options = {"gamma": 1.0} if call is gaussian_limit_attention else {}
        with pytest.raises(error, match=next(iter(change))) as raised:
            call(**given, **options)  # type: ignore[operator]
        assert "\n" not in str(raised.value)
    with pytest.raises(error, match=next(iter(change))):
        GaussianNeighborAttention()(**given, seed=0)


def test_numbers_of_other_libraries_are_numbers() -> None:
    query = torch.randn(1, 2, 4, 4)
    plain = gaussian_neighbor_attention(query, query, query, gamma=(3.0, 5.0), num_points=4, seed=-7, origin=(1, 2))
    for gamma in ([3, 5], np.array([3, 5]), torch.tensor([3.0, 5.0]), iter((3, 5)), (np.float32(3), torch.tensor(5))):
        same = gaussian_neighbor_attention(
            query, query, query, gamma=gamma, num_points=np.int64(4), num_samples=np.uint8(1), seed=np.int32(-7),
            origin=[np.int64(1), 2],  # type: ignore[arg-type]
        )  # fmt: skip
        assert torch.equal(same, plain)
    for seed in (-7 + 2**64, torch.tensor(-7), torch.tensor(-7, dtype=torch.int32), np.int64(-7)):
        other = gaussian_neighbor_attention(
            query, query, query, gamma=(3, 5), num_points=4, seed=seed, origin=(1, 2)
        )  # integers beyond 64 bits are taken modulo 2⁶⁴, and negative ones as they are
        assert torch.equal(other, plain)
    assert torch.equal(limit(gamma=torch.tensor(2.0)), limit(gamma=2))
    assert module_seed(np.int64(3), "scene", np.int32(4)) == module_seed(3, "scene", 4)


def test_gamma_that_should_learn_is_not_taken_silently() -> None:
    gamma = torch.tensor([1.0, 2.0], requires_grad=True)
    for call in GAUSSIAN.values():
        with pytest.raises(ValueError, match="gamma must not require a gradient.*gaussian_limit_attention"):
            call(gamma=gamma)  # type: ignore[operator]
    assert limit(gamma=gamma).requires_grad

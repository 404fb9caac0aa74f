"""Sampled attention as registered torch operators, so that autograd, fake tensors and torch.compile know them.

The operators work on channel-last rows, (B, H, W, C) and (B, T, H, W, C); `functional` checks and permutes. The
arguments after `backend` are the fields of `Neighborhood`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from crowdloc.attention.sampling import Neighborhood


def _module(backend: str) -> Any:
    return importlib.import_module(f"crowdloc.attention.{backend}_backend")


@torch.library.custom_op("crowdloc::neighbor_attention", mutates_args=())
def neighbor_attention(
    query: Tensor, key: Tensor, value: Tensor | None, seed: Tensor, backend: str, kind: str, gamma: Sequence[float],
    num_points: int, num_samples: int, masked: bool, y0: int, x0: int,
) -> Tensor:  # fmt: skip
    """Forward pass of a fused backend; `value` is None when it is the key."""
    where = Neighborhood(kind, gamma, num_points, num_samples, masked, y0, x0)
    return _module(backend).forward(query, key, value, seed, where)


@torch.library.custom_op("crowdloc::neighbor_attention_backward", mutates_args=())
def neighbor_attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor | None, seed: Tensor, backend: str, kind: str,
    gamma: Sequence[float], num_points: int, num_samples: int, masked: bool, y0: int, x0: int,
) -> list[Tensor]:  # fmt: skip
    """Gradients of query, key and, when there is one, value."""
    where = Neighborhood(kind, gamma, num_points, num_samples, masked, y0, x0)
    return [g for g in _module(backend).backward(grad, query, key, value, seed, where) if g is not None]


@neighbor_attention.register_fake
def _(query: Tensor, *args: Any) -> Tensor:
    return torch.empty_like(query, memory_format=torch.contiguous_format)


@neighbor_attention_backward.register_fake
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor | None, *args: Any) -> list[Tensor]:
    given = (query, key) if value is None else (query, key, value)
    return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in given]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.options = inputs[4:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = neighbor_attention_backward(grad, *ctx.saved_tensors, *ctx.options)
    return (grads[0], grads[1], grads[2] if len(grads) == 3 else None, *[None] * 9)


neighbor_attention.register_autograd(_backward, setup_context=_setup)

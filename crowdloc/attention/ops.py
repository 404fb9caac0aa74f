"""Sampled attention as registered torch operators, so that autograd, fake tensors and torch.compile know them.

The operators work on channel-last rows, (B, H, W, C) and (B, T, H, W, C); `functional` checks and permutes. The
arguments after `backend` are the fields of `Neighborhood`.

The fused backends know values and first derivatives in reverse mode. Everything else (forward mode, derivatives of
derivatives, `torch.func`'s transforms) goes through the reference: right, as slow as it, and never a silent zero.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from crowdloc.attention import reference
from crowdloc.attention.sampling import Neighborhood


def transformed(*tensors: Tensor | None) -> bool:
    """Whether a transform of `torch.func` is running, or a tensor carries a tangent (forward mode) or is vmapped."""
    if torch._C._are_functorch_transforms_active():
        return True
    return any(
        torch._C._functorch.is_legacy_batchedtensor(x) or forward_ad.unpack_dual(x, level=0).tangent is not None
        for x in tensors
        if x is not None
    )


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
    query, key, value, seed = ctx.saved_tensors
    # gradients are on here when the caller asks for a graph of the backward pass (create_graph=True)
    if torch.is_grad_enabled() or transformed(grad, query, key, value):
        grads = _reference_gradients(grad, query, key, value, seed, Neighborhood(*ctx.options[1:]))
    else:
        grads = neighbor_attention_backward(grad, query, key, value, seed, *ctx.options)
    return (grads[0], grads[1], grads[2] if len(grads) == 3 else None, *[None] * 9)


def _reference_gradients(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor | None, seed: Tensor, where: Neighborhood
) -> list[Tensor]:
    """Gradients that can be differentiated again."""
    with torch.enable_grad():
        # new names for the tensors: the key may be a view of the query, whose gradient must not flow through it
        given = [
            x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
            for x in (query, key, value)
            if x is not None
        ]
        out = reference.attend(given[0], given[1], None if value is None else given[2], seed, where)
        return list(torch.autograd.grad(out, given, grad, create_graph=True))


neighbor_attention.register_autograd(_backward, setup_context=_setup)


def _attend(
    query: Tensor, key: Tensor, value: Tensor | None, seed: Tensor, backend: str, kind: str, gamma: Sequence[float],
    num_points: int, num_samples: int, masked: bool, y0: int, x0: int,
) -> Tensor:  # fmt: skip
    where = Neighborhood(kind, gamma, num_points, num_samples, masked, y0, x0)
    if transformed(query, key, value):
        return reference.attend(query, key, value, seed, where)
    return neighbor_attention(query, key, value, seed, backend, *where)


# An operator of its own, so that the choice is made again at every level of nested transforms and also in code that
# torch.compile has captured, where Python no longer runs.
torch.library.define("crowdloc::attend", torch.library.infer_schema(_attend, mutates_args=()))
torch.library.impl("crowdloc::attend", "CompositeImplicitAutograd", _attend)
attend = torch.ops.crowdloc.attend.default


def _vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
    """A vmapped dimension of the maps joins the batch, whose entries share their neighbours; one of seeds is looped."""
    *maps, seed = (x if dim is None else x.movedim(dim, 0) for x, dim in zip(inputs[:4], in_dims[:4], strict=True))
    size, options = info.batch_size, inputs[4:]
    whole = [
        x if x is None or dim is not None else x.expand(size, *x.shape)
        for x, dim in zip(maps, in_dims[:3], strict=True)
    ]  # each (V, B, …)
    if in_dims[3] is not None:
        rows = zip(*([None] * size if x is None else x.unbind() for x in whole), seed.unbind(), strict=True)
        return torch.stack([attend(*row, *options) for row in rows]), 0
    out = attend(*(x if x is None else x.flatten(0, 1) for x in whole), seed, *options)
    return out.unflatten(0, (size, -1)), 0


torch.library.register_vmap("crowdloc::attend", _vmap)

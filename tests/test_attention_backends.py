"""Fused backends against the reference: drawn cells exactly, outputs and gradients within float32 error."""

from __future__ import annotations

import pytest
import torch

from crowdloc.attention import gaussian_neighbor_attention

CASES = {
    "plain": {},
    "mask": {"boundary": "mask"},
    "qmc": {"sampling": "qmc", "num_points": 16, "num_samples": 2},
    "far-masked": {"gamma": (0.0, 30.0), "boundary": "mask", "num_points": 2},
}


@pytest.mark.parametrize("shared", [False, True], ids=["kv", "k=v"])
@pytest.mark.parametrize("case", CASES)
def test_numba_agrees_with_the_reference(case: str, shared: bool) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 20, 7, 9, requires_grad=True)
    key = torch.randn(2, 3, 20, 7, 9, requires_grad=True)
    value = key if shared else torch.randn(2, 3, 20, 7, 9, requires_grad=True)
    slope = torch.randn(query.shape)
    results = []
    for backend in ("reference", "numba"):
        out = gaussian_neighbor_attention(
            query, key, value, seed=-5, origin=(-3, 4), backend=backend, **CASES[case]
        )
        grads = torch.autograd.grad((out * slope).sum(), (query, key) if shared else (query, key, value))
        results.append((out, *grads))
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)

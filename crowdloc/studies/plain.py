"""GNA in twenty lines of plain PyTorch, to read, copy and change: notebook 00 prints it beside equation (2)."""

from __future__ import annotations

import torch


def gna(query, key, value, gamma=(3.0, 5.0, 10.0), P=32, cells=None):
    """Equation 2: query (B, C, H, W), key and value (B, T, C, H, W) -> (B, C, H, W)."""
    T, C, H, W = key.shape[1:]
    y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    frame = torch.arange(T).repeat_interleave(P)  # (T·P): P points in every frame
    q = query.flatten(2).transpose(1, 2)  # (B, N, C), N = H·W
    k, v = (m.transpose(1, 2).flatten(2).transpose(1, 2) for m in (key, value))  # (B, T·N, C)
    answer = torch.zeros_like(q)
    for focus, g in enumerate(gamma):
        step = (g * torch.randn(2, H * W, T * P)).round().long()  # no B and no C: they share the draws
        to_y = (y.reshape(-1, 1) + step[0]).clamp(0, H - 1)  # off the map: moved to its border
        to_x = (x.reshape(-1, 1) + step[1]).clamp(0, W - 1)
        drawn = (frame * H + to_y) * W + to_x if cells is None else cells[:, focus]  # (N, T·P)
        score = torch.einsum("bnc,bnpc->bnp", q, k[:, drawn]) / C**0.5
        weight = score.softmax(-1)  # one softmax over the draws of all frames
        answer = answer + torch.einsum("bnp,bnpc->bnc", weight, v[:, drawn])
    return (answer / len(gamma)).transpose(1, 2).reshape(query.shape)

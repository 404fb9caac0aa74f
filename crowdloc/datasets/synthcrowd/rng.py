"""Random numbers that are the same on every machine: raw Philox bits and arithmetic that IEEE 754 rounds exactly.

Only +, -, *, / and square roots are used, one NumPy operation at a time: no libm, no BLAS, no fused multiply-add, so
annotations agree to the last bit everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Stream:
    """A sequence of random numbers named by a key, e.g. `Stream(1, "sense", "train", 7, "people")`."""

    def __init__(self, *key: object) -> None:
        digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
        self._philox = np.random.Philox(key=int.from_bytes(digest, "little"))

    def bits(self, count: int) -> np.ndarray:
        """`count` raw uint64."""
        return np.asarray(self._philox.random_raw(count), dtype="<u8")

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number of [low, high)."""
        return low + (high - low) * (int(self._philox.random_raw()) >> 11) * 2.0**-53

    def uniforms(self, count: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """`count` numbers of [low, high)."""
        return low + (high - low) * ((self.bits(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53)

    def integer(self, low: int, high: int) -> int:
        """One whole number from low to high, both included."""
        return low + ((int(self._philox.random_raw()) >> 32) * (high - low + 1) >> 32)

    def normal(self) -> float:
        """About N(0, 1): twelve uniform 32-bit numbers summed as integers (Irwin-Hall)."""
        return (int((self.bits(12) >> np.uint64(32)).sum()) - 6 * 2**32) * 2.0**-32

    def choice(self, items: Sequence[T], weights: Sequence[int] | None = None) -> T:
        """One of `items`, with whole-number weights."""
        weights = weights or [1] * len(items)
        ticket = self.integer(1, sum(weights))
        for item, weight in zip(items, weights, strict=True):
            ticket -= weight
            if ticket <= 0:
                return item
        raise AssertionError("weights sum to the largest ticket")


def wave(phase: np.ndarray) -> np.ndarray:
    """A sine-like wave of period 1 made of parabolas: 0 at 0, 1 at 1/4, -1 at 3/4."""
    p = phase - np.floor(phase)
    half = p >= 0.5
    q = np.where(half, p - 0.5, p)
    value = 16.0 * q * (0.5 - q)
    return np.where(half, -value, value)

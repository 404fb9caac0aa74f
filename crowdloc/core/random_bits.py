"""Random numbers that decide results: raw Philox 4×64 bits and integer arithmetic, the same under every NumPy.

NumPy freezes the bit streams of its generators, not what `Generator.integers`, `permutation` or `normal` make of them,
so nothing but `random_raw` is used here. Every function is pure in (key, counter): `key` names a stream (a seed, or a
seed and a purpose), `counter` a place in it (a step, or a step and a slot). Two different pairs never share bits: the
counter fills the upper words of Philox's counter, and only the lowest word runs on while numbers are drawn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = int | tuple[int, ...]
_WORD = 2**64


def philox_bits(key: Words, counter: Words, size: int) -> NDArray[np.uint64]:
    """`size` raw words of 64 bits.

    Args:
        key: one or two whole numbers of [0, 2^64).
        counter: up to three whole numbers of [0, 2^64).

    Raises:
        ValueError: too many words, or one out of range.
    """
    return _drawn(_stream(key, counter), size)


def philox_uniform(key: Words, counter: Words, size: int) -> NDArray[np.float64]:
    """`size` numbers of [0, 1), multiples of 2^-53."""
    return (philox_bits(key, counter, size) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def philox_integers(key: Words, counter: Words, high: int, size: int | tuple[int, ...]) -> NDArray[np.int64]:
    """Whole numbers of [0, high), each exactly as likely as the others; `size` is a number or a shape.

    A word beyond the last multiple of `high` is thrown away, so there is no remainder that favours small numbers.

    Raises:
        ValueError: `high` outside [1, 2^63], or as `philox_bits`.
    """
    if not 1 <= high <= 2**63:
        raise ValueError(f"high is {high}: pass a number from 1 to 2^63")
    stream, number = _stream(key, counter), int(np.prod(size))
    last = np.uint64(_WORD - _WORD % high - 1)  # the largest word that is used
    words = np.empty(0, dtype=np.uint64)
    while len(words) < number:
        more = _drawn(stream, number - len(words))
        words = np.concatenate([words, more[more <= last]])
    return (words % np.uint64(high)).astype(np.int64).reshape(size)


def philox_permutation(key: Words, counter: Words, n: int) -> NDArray[np.int64]:
    """0 … n - 1 in random order: the order of n random words (two are equal once in 2^65 / n² calls)."""
    return np.argsort(philox_bits(key, counter, n), kind="stable").astype(np.int64)


def _stream(key: Words, counter: Words) -> np.random.Philox:
    keys, places = _words("key", key, 2), _words("counter", counter, 3)
    return np.random.Philox(key=keys, counter=np.concatenate([np.zeros(1, np.uint64), places]))


def _drawn(stream: np.random.Philox, size: int) -> NDArray[np.uint64]:
    return np.asarray(stream.random_raw(size), dtype=np.uint64)


def _words(name: str, value: Words, length: int) -> NDArray[np.uint64]:
    words = value if isinstance(value, tuple) else (value,)
    if len(words) > length or any(not 0 <= word < _WORD for word in words):
        raise ValueError(f"{name} is {value!r}: pass at most {length} whole numbers of [0, 2^64)")
    return np.array([*words, *[0] * (length - len(words))], dtype=np.uint64)

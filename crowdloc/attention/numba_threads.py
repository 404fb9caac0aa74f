"""Ranges of tasks on as many threads as torch uses."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch


def in_threads(kernel: Callable[..., None], tasks: int, most: int, *args: Any) -> None:
    """Run kernel(first, last, …) over ranges of at most `most` tasks, on as many threads as torch uses.

    On torch's own OpenMP threads where they can be reached: after each of torch's operations these spin for some
    milliseconds, and would keep other threads from the cores (20 ms became 12 on two cores). Else on a pool.
    """
    edges = [*range(0, tasks, most), tasks]
    ranges = iter(list(pairwise(edges)))
    errors: list[BaseException] = []

    def work(_: None = None) -> None:
        try:
            for first, last in ranges:  # the threads share the iterator
                kernel(first, last, *args)
        except BaseException as error:  # must not escape into OpenMP
            errors.append(error)

    threads = torch.get_num_threads()
    if threads == 1:
        work()
    elif parallel := _openmp():
        parallel(_CALLBACK(work), None, threads, 0)
    else:
        list(_pool(os.getpid(), threads).map(work, [None] * threads))
    if errors:
        raise errors[0]


_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@lru_cache(maxsize=1)
def _openmp() -> Callable[..., None] | None:
    """`GOMP_parallel(function, data, threads, flags)` of the OpenMP library that torch loaded; None if hidden."""
    try:
        return ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return None


@lru_cache(maxsize=8)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """One pool per process (a forked child must not wait for its parent's threads) and size."""
    return ThreadPoolExecutor(threads, thread_name_prefix="crowdloc-attention")

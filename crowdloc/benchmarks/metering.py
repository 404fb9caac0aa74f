"""How long a call takes and how much memory."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Meter:
    """Milliseconds and extra MiB of a call, on the CPU or on a GPU."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.flush = torch.empty(2**26, device=device) if device == "cuda" else None  # 256 MiB, more than the L2 cache

    def milliseconds(self, call: Callable[[], Any]) -> float:
        if self.flush is None:
            start = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - start)
        self.flush.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end)

    def extra_mib(self, call: Callable[[], Any]) -> float | None:
        """Peak memory above the level before the call; None where the system does not tell."""
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call()
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

        def resident(name: str) -> int:
            return int(status.read_text().split(name)[1].split()[0])

        try:
            ctypes.CDLL(None).malloc_trim(0)  # memory that earlier calls freed must not hide what this one needs
            reset.write_text("5")
            before = resident("VmRSS:")
            call()
            return (resident("VmHWM:") - before) / 1024
        except (OSError, AttributeError, IndexError):
            return None


def quantiles(times: list[float]) -> list[float]:
    """The 20, 50 and 80 % quantiles."""
    return torch.tensor(times, dtype=torch.float64).quantile(torch.tensor([0.2, 0.5, 0.8]).double()).tolist()

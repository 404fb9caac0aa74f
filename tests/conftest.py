"""What all tests share. Without a GPU, Triton's interpreter must be chosen before anything imports a kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real data sets; tests that need it are skipped where none is named."""
    root = os.environ.get("CROWDLOC_DATA")
    if not root:
        pytest.skip("no data root: set CROWDLOC_DATA to run the tests on real files")
    return Path(root).resolve(strict=True)


@pytest.fixture
def poisoned_memory():
    """Uninitialised tensors hold NaN, so that reading one shows in the result."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]

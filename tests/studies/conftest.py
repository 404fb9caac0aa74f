"""What several tests of studies share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def store_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """`store_study(name, csv)`: from now on stored studies are these, and no others."""
    monkeypatch.setattr("crowdloc.studies.stored.RESULTS", tmp_path)
    (tmp_path / "studies").mkdir()

    def store(name: str, csv: str) -> None:
        (tmp_path / "studies" / f"{name}.csv").write_text(csv)

    return store

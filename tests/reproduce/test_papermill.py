"""A notebook executed by papermill's own command, from a folder that has nothing to do with the project."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from crowdloc.core.paths import NOTEBOOKS

PAPERMILL = Path(sys.executable).with_name("papermill")


@pytest.mark.slow
def test_papermill_from_any_folder(tmp_path):
    (path,) = NOTEBOOKS.glob("02_*.ipynb")
    command = [PAPERMILL, "--no-progress-bar", path, "out.ipynb", "-p", "source", "stored", "-p", "seed", "1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CROWDLOC")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["out.ipynb"]
    made = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    (given,) = (cell for cell in made.cells if "injected-parameters" in cell.metadata.get("tags", ()))
    assert given.source.splitlines()[-2:] == ['source = "stored"', "seed = 1"]
    printed = "".join(o.get("text", "") for cell in made.cells for o in cell.get("outputs", ()))
    assert "measured cells agree with the stored values" in printed

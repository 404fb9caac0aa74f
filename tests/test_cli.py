"""The command line: what it says when something is wrong, and that it starts fast."""

from __future__ import annotations

import errno
import json
import shlex
import subprocess
import sys

import pytest

from crowdloc import cli
from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.results import tables as results

PARAMETERS = {
    "cell_type": "code",
    "id": "a",
    "metadata": {"tags": ["parameters"]},
    "execution_count": None,
    "outputs": [],
    "source": 'source = "stored"\ndata = "synthcrowd"\nseed = 0',
}
NOTEBOOK = json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [PARAMETERS]})


def run(capsys, *arguments):
    """Exit status, standard output and standard error of a command."""
    try:
        status = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    path = tmp_path / "02_table2.ipynb"
    path.write_text(NOTEBOOK)
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nonsense"], "unknown experiment 'nonsense'"),
        (["evaluate", "nonsense"], "unknown experiment 'nonsense'"),
        (["promote", "nonsense"], "unknown experiment 'nonsense'"),
        (["run", "77"], "no notebook '77'"),
        (["run", "all", "-p", "seed", "1"], "name one notebook"),
        (["run", "all", "--data-root", "/no/such/folder"], "data root /no/such/folder is not a folder"),
        (["run", "all", "--cores", "0"], "must be at least 1"),
        (["run", "all", "--source", "guess"], "invalid choice: 'guess'"),
        (["data", "generate", "mall"], "invalid choice: 'mall'"),
        (["data", "verify", "mall", "--data-root", "/no/such/folder"], "data root /no/such/folder is not a folder"),
        (["data", "verify", "nonsense"], "nonsense"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        ([], "COMMAND"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line_with_status_2(capsys, monkeypatch, arguments, message):
    monkeypatch.delenv("CROWDLOC_DATA", raising=False)
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("crowdloc: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_misspelt_notebook_parameter(capsys, notebook):
    status, _, err = run(capsys, "run", "2", "-p", "sede", "1")
    assert status == 2
    assert err == "crowdloc: error: 02_table2.ipynb has no parameter 'sede': it knows source, data, seed\n"


def test_notebook_by_path_name_and_number(capsys, notebook, tmp_path):
    for name in (notebook, "02_table2", "2", "02", "02_table2.ipynb"):
        assert "no parameter 'x'" in run(capsys, "run", name, "-p", "x", "1")[2]
    (tmp_path / "02_other.ipynb").write_text(NOTEBOOK)
    assert "no notebook '2'" in run(capsys, "run", "2")[2]


def test_damaged_notebook(capsys, notebook):
    notebook.write_text('{"cells": ')
    assert "no readable notebook" in run(capsys, "run", "2")[2]


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        (CrowdlocError("metrics.json:\n tampered"), 2, "crowdloc: error: metrics.json: tampered\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left on device; free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "build/x"), 2, "Permission denied: build/x\n"),
        (KeyboardInterrupt(), 130, "crowdloc: stopped\n"),
    ],
)
def test_what_commands_raise(capsys, monkeypatch, raised, status, message):
    def report():
        raise raised

    monkeypatch.setattr(results, "report", report)
    found, out, err = run(capsys, "report")
    assert (found, out) == (status, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_fault_of_ours_is_not_hidden(monkeypatch):
    def report():
        raise ZeroDivisionError

    monkeypatch.setattr(results, "report", report)
    with pytest.raises(ZeroDivisionError):
        cli.main(["report"])


def test_list_and_info(capsys):
    status, out, _ = run(capsys, "list")
    assert status == 0
    assert "synthcrowd-mini/gnanet/seed0" in out
    status, out, _ = run(capsys, "data", "info", "mall")
    assert status == 0
    assert "mall_gt.mat" in out


def test_help_imports_nothing_heavy():
    code = (
        "import sys, crowdloc.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'snakemake', 'papermill', 'numba', 'triton', 'nbformat'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=paths.ROOT, check=True)
    assert done.stderr == "[]\n"
    assert done.stdout.startswith("usage: crowdloc")


def test_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "crowdloc", "run", "77"], capture_output=True, text=True, cwd=paths.ROOT, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("crowdloc: error: no notebook '77'")


def test_reader_that_goes_away():
    command = f"{shlex.quote(sys.executable)} -m crowdloc data info | true"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, cwd=paths.ROOT, check=False)
    assert "Traceback" not in done.stderr

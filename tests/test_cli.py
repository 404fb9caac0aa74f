"""The command line: what it says when something is wrong, and that it starts fast."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shlex
import subprocess
import sys

import pandas as pd
import pytest

from crowdloc import cli
from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.results import checking, overview, runs, store
from crowdloc.results.experiments import Experiment, all_experiments, experiments_of, with_starts

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
        (["train", "nonsense"], "experiment 'nonsense'"),
        (["evaluate", "nonsense"], "experiment 'nonsense'"),
        (["promote", "nonsense"], "experiment 'nonsense'"),
        (["evaluate", "mall-mini/nonsense/seed0"], "unknown method 'nonsense'"),
        (["evaluate", "mall-mini/gnanet/seed0", "--source", "stored"], "invalid choice: 'stored'"),
        (["check", "--data-root", "/no/such/folder"], "data root /no/such/folder is not a folder"),
        (["run", "77"], "no notebook '77'"),
        (["run", "²"], "no notebook '²'"),
        (["run", "9" * 5000], "no notebook"),
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


@pytest.mark.parametrize(
    "content",
    [
        b'{"cells": ',
        b"[1]",
        b'{"cells": [3]}',
        b"[" * 200_000,
        b'{"cells": ' + b"[" * 200_000,
        NOTEBOOK.replace(json.dumps(PARAMETERS["source"]), "7").encode(),
        NOTEBOOK.replace('"source": "', f'"source": "x = {"(" * 5000}1{")" * 5000}\\n').encode(),
        NOTEBOOK.replace('"source": "', f'"source": "x = {"-" * 50_000}1\\n').encode(),
        b"\xff\xfe" + NOTEBOOK.encode(),
    ],
    ids=["cut", "list", "cell", "deep", "deeper", "number", "brackets", "signs", "bytes"],
)
@pytest.mark.parametrize("command", ["run", "refresh"])
def test_damaged_notebook(capsys, notebook, content, command):
    notebook.write_bytes(content)
    status, _, err = run(capsys, command, "2")
    assert status == 2
    assert err.count("\n") == 1
    assert str(notebook) in err or notebook.name in err


def test_parameter_that_is_no_literal(capsys, notebook):
    for value in ("(" * 5000, "~" * 50_000 + "1", "1" * 5000):
        status, _, err = run(capsys, "run", "2", "-p", "seed", value)
        assert (status, err.count("\n")) == (2, 1)
        assert "must be of type int" in err


def test_data_root_that_is_not_utf8(capsys, notebook, tmp_path):
    content = NOTEBOOK.replace("seed = 0", "data_root = ''")
    notebook.write_text(content)
    root = tmp_path / os.fsdecode(b"caf\xe9")
    root.mkdir()
    status, _, err = run(capsys, "run", "2", "--data-root", root)
    assert (status, err.count("\n")) == (2, 1)
    assert "set the environment variable CROWDLOC_DATA instead" in err


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
    def report(source, root):
        raise raised

    monkeypatch.setattr(overview, "report", report)
    found, out, err = run(capsys, "report", "--source", "stored")
    assert (found, out) == (status, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_fault_of_ours_is_not_hidden(monkeypatch):
    def report(source, root):
        raise ZeroDivisionError

    monkeypatch.setattr(overview, "report", report)
    with pytest.raises(ZeroDivisionError):
        cli.main(["report", "--source", "stored"])


@pytest.fixture
def somewhere(tmp_path, monkeypatch):
    """Of the first three experiments one is stored with weights and made here, one is made here, one is not there."""
    first, second = all_experiments()[:2]
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    for path in (
        tmp_path / "results" / first.id / runs.METRICS,
        tmp_path / "results" / first.id / runs.WEIGHTS,
        tmp_path / "build/experiments" / first.id / runs.TRAINING,
        tmp_path / "build/experiments" / second.id / runs.TRAINING,
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_list_of_experiments(capsys, somewhere):
    status, out, _ = run(capsys, "list", "all")
    assert status == 0
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    assert [id for id, _ in lines] == [e.id for e in all_experiments()]
    assert [re.split(" to train +", rest)[1] for _, rest in lines[:3]] == [
        "stored, weights, made here",
        "made here",
        "not measured",
    ]
    assert run(capsys, "list", "mall-mini/gnanet.m")[1].count("\n") == 3  # three seeds of one variant
    ids = {line.split()[0] for line in run(capsys, "list", "3")[1].splitlines()}
    assert ids == {e.id for e in with_starts(experiments_of("III"))}
    status, _, err = run(capsys, "list", "nonsense")
    assert status == 2 and err.startswith("crowdloc: error: nothing is called 'nonsense'") and err.count("\n") == 1


def test_list_of_artefacts(capsys, somewhere):
    executed = somewhere / "build/notebooks"
    executed.mkdir(parents=True)
    given = {"metadata": {"tags": ["injected-parameters"]}, "source": ['# Parameters\nsource = "weights"\nseed = 1']}
    for number, content in (("02", json.dumps({"cells": [given]})), ("08", json.dumps({"cells": []})), ("09", "{")):
        (path,) = paths.NOTEBOOKS.glob(f"{number}_*.ipynb")
        (executed / path.name).write_text(content)
    rows = {line[:2]: line for line in run(capsys, "list")[1].splitlines()[1:]}
    assert list(rows) == [f"{number:02}" for number in range(23)]
    assert "Table II " in rows["02"] and " 0/24 " in rows["02"] and " weights " in rows["02"]
    assert " stored " in rows["08"] and " damaged " in rows["09"] and "  –  " in rows["10"]
    assert rows["16"].endswith("how far sparse attention is from full attention")


def test_list_and_help_are_fast():
    """Without what takes seconds to import. Processor time, since other jobs may run on this machine."""
    heavy = {"torch", "pandas", "scipy", "matplotlib", "snakemake", "papermill", "nbformat", "cv2", "numba", "triton"}
    for arguments in (["list"], ["--help"], ["run", "--help"]):
        command = [sys.executable, "-X", "importtime", "-m", "crowdloc", *arguments]
        before = processor_seconds()
        done = subprocess.run(command, capture_output=True, text=True, cwd=paths.ROOT, check=True)
        # listing parses the code of all notebooks and of what they import
        assert processor_seconds() - before < (3.0 if arguments == ["list"] else 1.0)
        assert done.stdout
        assert not heavy & {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


def processor_seconds() -> float:
    """Of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_check_passes_on_what_is_found(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("CROWDLOC_DATA", raising=False)
    given = []
    table = pd.DataFrame([{"experiment": "x", "state": "recomputed from points"}])
    monkeypatch.setattr(checking, "check", lambda root: given.append(root) or table)
    assert run(capsys, "check")[:2] == (0, table.to_string(index=False) + "\n")
    assert run(capsys, "check", "--data-root", tmp_path)[0] == 0
    assert given == [None, tmp_path]

    def mismatch(root):
        raise checking.CheckError(["a.json: mAP is 1,\n its evidence says 2", "b.csv is missing"])

    monkeypatch.setattr(checking, "check", mismatch)
    status, out, err = run(capsys, "check")
    assert (status, out) == (1, "")
    assert err == "crowdloc: mismatch: a.json: mAP is 1, its evidence says 2\ncrowdloc: mismatch: b.csv is missing\n"


def test_train_evaluate_and_promote_pass_on_what_is_asked_for(capsys, monkeypatch, tmp_path):
    asked = []

    def note(*positional, **options):
        asked.append((*positional, options))
        return tmp_path / "made"

    for module, name in ((runs, "train"), (runs, "evaluate"), (store, "promote")):
        monkeypatch.setattr(module, name, note)
    id = "synthcrowd-sense-mini/gnanet/seed7"
    experiment = Experiment.parse(id)
    for arguments in (
        ["train", id, "--out", tmp_path, "--devices", 2],
        ["evaluate", id],
        ["evaluate", id, "--source", "train", "--data-root", "r"],
        ["promote", "studies/control"],
    ):
        assert run(capsys, *arguments) == (0, f"{tmp_path / 'made'}\n", "")
    assert asked == [
        (experiment, {"out": tmp_path, "root": None, "devices": 2}),
        (experiment, {"source": "weights", "root": None}),
        (experiment, {"source": "train", "root": "r"}),
        ("studies/control", {}),
    ]


def test_a_key_decides_whether_a_training_goes_on(monkeypatch, tmp_path, capsys):
    """A checkpoint of other code is removed; one of this code, or of a training without a key, is continued."""
    monkeypatch.setattr(runs, "train", lambda *_, **__: tmp_path)
    checkpoint, log = tmp_path / "checkpoint.pt", tmp_path / "log.csv"
    for key, kept in (("one", True), ("one", True), ("other", False), ("other", True)):
        for path in (checkpoint, log):
            path.touch()
        arguments = ("train", "mall-mini/gnanet/seed0", "--out", tmp_path, "--key", key)
        assert run(capsys, *arguments)[0] == 0
        assert (checkpoint.exists(), log.exists()) == (kept, kept), key


def test_report_is_that_of_the_last_run(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(overview, "report", lambda source, root: f"{source} anew")
    assert run(capsys, "report") == (0, "stored anew\n", "")
    (tmp_path / "report.txt").write_text("as it was\n")
    assert run(capsys, "report") == (0, "as it was\n", "")
    assert run(capsys, "report", "--source", "weights") == (0, "weights anew\n", "")


def test_report_lists_executed_notebooks_only(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(overview, "TABLES", {})
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("02_x.ipynb", ".02_x.123.part.ipynb", "03_y.failed.ipynb"):
        (folder / name).touch()
    assert [line.strip() for line in overview.report().splitlines() if ".ipynb" in line] == [str(folder / "02_x.ipynb")]


def test_error_about_a_name_that_is_not_utf8(tmp_path):
    command = [os.fsencode(sys.executable), b"-m", b"crowdloc", b"run", b"caf\xe9.ipynb"]
    done = subprocess.run(command, capture_output=True, cwd=paths.ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"caf" in done.stderr and b"Traceback" not in done.stderr


def test_info(capsys):
    status, out, _ = run(capsys, "data", "info", "mall")
    assert status == 0
    assert "mall_gt.mat" in out


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

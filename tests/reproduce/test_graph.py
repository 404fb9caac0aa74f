"""The reproduction graph in a small copy of the project whose experiments and notebooks do next to nothing."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_project import STORED, crowdloc, environment, make_clone, write_notebook

from crowdloc import datasets
from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.reproduce import graph
from crowdloc.results import runs


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("a {clone} #1")  # blank, braces and hash on purpose
    make_clone(root)
    return root


@pytest.fixture
def mall(request, tmp_path) -> Path:
    """A data root with an unfriendly name and the layout of Mall, without its content."""
    root = tmp_path / request.param
    (root / "mall/frames").mkdir(parents=True)
    (root / "mall/mall_gt.mat").write_bytes(b"")
    return root


def planned(root: Path, source: str, *targets: str) -> dict[str, int]:
    """Number of jobs by rule that a run would execute now."""
    done = crowdloc(root, "run", "all", "--source", source, "--snakemake", *targets, "--dry-run")
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    counts = dict(re.findall(r"^(all|data|evaluate|train|notebook|report) +(\d+)$", text, re.MULTILINE))
    assert counts or "Nothing to be done" in text
    return {rule: int(count) for rule, count in counts.items() if rule != "all"}


def shuffle_times(root: Path) -> None:
    rng = random.Random(0)
    for path in sorted(root.rglob("*")):
        moment = rng.uniform(1e9, 2e9)
        os.utime(path, (moment, moment))


@pytest.mark.parametrize(
    ("source", "jobs"),
    [
        ("stored", {"notebook": 3, "report": 1}),
        ("weights", {"data": 1, "evaluate": 2, "notebook": 2, "report": 1}),
        # RAZNet's first stage, both second stages; the first seed, stored or not
        ("train", {"data": 1, "train": 3, "evaluate": 2, "notebook": 2, "report": 1}),
    ],
)
def test_plan_of_a_fresh_clone(clone, source, jobs):
    """Without a data root only SynthCrowd is computed; whatever the file times, only `train` trains."""
    shutil.rmtree(clone / "build", ignore_errors=True)
    shuffle_times(clone)
    assert planned(clone, source) == jobs


def test_plan_of_this_repository(tmp_path):
    """The real tree, copied without what git ignores: neither `stored` nor `weights` plans a training."""
    kept = ("Snakefile", "crowdloc", "notebooks", "results")
    for name in kept:
        origin = paths.ROOT / name
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        (shutil.copytree(origin, tmp_path / name, ignore=ignored) if origin.is_dir() else shutil.copy(origin, tmp_path))
    shuffle_times(tmp_path)
    assert {"data", "train", "evaluate"}.isdisjoint(planned(tmp_path, "stored"))
    assert "train" not in planned(tmp_path, "weights")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((*kept, "build"))  # writes only there


def test_what_was_never_stored_is_trained(clone):
    """Planned from the lists: without any stored result `train` plans the same, and `weights` nothing."""
    shutil.rmtree(clone / "build", ignore_errors=True)
    away = clone / "away"
    (clone / "results/synthcrowd-sense-mini").rename(away)
    try:
        assert planned(clone, "train")["train"] == 3
        assert planned(clone, "weights") == {"notebook": 2, "report": 1}
    finally:
        away.rename(clone / "results/synthcrowd-sense-mini")


def test_no_evaluation_without_the_backbone(clone):
    weights = clone / "results/synthcrowd-sense-mini/raznet.stage1/seed0/weights.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    try:
        done = crowdloc(clone, "run", "all", "--snakemake", "-n")
    finally:
        weights.write_bytes(content)
    assert "evaluate" not in done.stderr
    left = [line for line in done.stdout.splitlines() if "the weights of its backbone" in line]
    assert [line.split(": ")[2] for line in left] == [STORED[2], STORED[1]]


def test_run_then_only_what_changed(clone):
    """Sources from the future (a clock that was wrong, an archive) are as good as any."""
    shutil.rmtree(clone / "build", ignore_errors=True)
    for path in clone.rglob("*"):
        os.utime(path, (4e9, 4e9))
    before = sorted(path for path in clone.rglob("*") if "__pycache__" not in path.parts)
    done = crowdloc(clone, "run", "all", "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "2 experiments (weights) and 2 notebooks on 2 cores: about" in lines[0]
    assert "left out: 20_real: no data root" in lines[1]
    jobs = [line for line in lines if re.match(r"crowdloc: \[\d/6\] ", line)]
    assert [line.split("]")[0][-3:] for line in jobs] == ["1/6", "2/6", "3/6", "4/6", "5/6", "6/6"]
    assert len(jobs) == len(lines) - 3 and lines[-1] == "the summary"  # a line per job, and nothing else
    assert done.stderr == ""
    assert "rule evaluate" not in done.stdout and (clone / "build/run.log").stat().st_size > 0
    executed = json.loads((clone / "build/notebooks/02_table2.ipynb").read_text())
    assert executed["cells"][-1]["outputs"][0]["text"] == ["weights\n"]
    made = [path for path in clone.rglob("*") if path not in before and "__pycache__" not in path.parts]
    assert {path.relative_to(clone).parts[0] for path in made} == {"build"}

    shuffle_times(clone)
    assert planned(clone, "weights") == {}
    with changed(clone / "results/synthcrowd-sense-mini/raznet/seed0/weights.safetensors"):
        assert planned(clone, "weights") == {"evaluate": 1, "notebook": 1, "report": 1}
    assert planned(clone, "stored") == {"notebook": 3, "report": 1}
    assert planned(clone, "weights", "notebooks/18_small.ipynb") == {}  # a target is no word for --quiet


KEYS = """
import json
from crowdloc.reproduce import graph
plan = graph.plan("train")
keys = {"data": graph.data_key(), "report": graph.report_key(plan)}
for name, used in plan.notebooks.items():
    keys[name[:2]] = graph.notebook_key(name, "train", None, experiments=used)
for method in ("gnanet", "raznet"):
    id = f"synthcrowd-sense-mini/{method}/seed0"
    keys[f"train {method}"] = graph.training_key(id, None)
    keys[f"train -> {method}"] = graph.evaluation_key(id, "train", None)
    keys[f"weights -> {method}"] = graph.evaluation_key(id, "weights", None)
print(json.dumps(keys))
"""


def keys(root: Path) -> dict[str, str]:
    command = [sys.executable, "-c", KEYS]
    done = subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def unchanged(clone) -> dict[str, str]:
    return keys(clone)


@contextmanager
def changed(path: Path) -> Iterator[None]:
    """A file with one more line, or a new one; then as before."""
    content = path.read_text() if path.exists() else None
    path.write_text((content or "") + "\n")
    yield
    if content is None:
        path.unlink()
    else:
        path.write_text(content)


EVALUATIONS = {f"{source} -> {method}" for source in ("train", "weights") for method in ("gnanet", "raznet")}
TRAININGS = {"train gnanet", "train raznet"}


@pytest.mark.parametrize(
    ("path", "jobs"),
    {
        "notebooks/02_table2.ipynb": {"02", "report"},
        "notebooks/20_real.ipynb": set(),  # its data is not there
        "crowdloc/studies/small.py": {"18", "report"},
        "crowdloc/core/locking.py": set(),
        "crowdloc/cli.py": set(),
        "crowdloc/figures/attention.py": set(),
        "crowdloc/core/random_bits.py": {"02", "report"} | TRAININGS | EVALUATIONS,
        "crowdloc/models/new.py": {"02", "report"} | TRAININGS | EVALUATIONS,
        "crowdloc/attention/new.py": {"02", "report"} | TRAININGS | EVALUATIONS,
        "crowdloc/inference/new.py": {"02", "report"} | EVALUATIONS,
        "crowdloc/results/runs.py": {"02", "report"} | EVALUATIONS,
        "crowdloc/results/overview.py": {"report"},
        "crowdloc/datasets/synthcrowd/new.py": {"data", "02", "report"} | TRAININGS | EVALUATIONS,
        "results/studies/numbers.csv": {"18", "report"},
        "results/kernels/numbers.csv": set(),
        "results/truth/synthcrowd-sense-mini-test.parquet": {"02", "report"}
        | {"weights -> gnanet", "weights -> raznet"},
        "results/synthcrowd-sense-mini/raznet/seed0/weights.safetensors": {"02", "report", "weights -> raznet"},
    }.items(),
)
def test_what_a_change_makes_out_of_date(clone, unchanged, path, jobs):
    (clone / path).parent.mkdir(exist_ok=True)
    with changed(clone / path):
        after = keys(clone)
    assert {job for job in unchanged if unchanged[job] != after[job]} == jobs


def test_training_run(clone):
    """Second stages after their first, evaluation after training; then nothing; a change of results trains nothing."""
    shutil.rmtree(clone / "build", ignore_errors=True)
    done = crowdloc(clone, "run", "all", "--source", "train", "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    trained = {
        path.parent.relative_to(clone / "build/experiments").as_posix(): json.loads(path.read_text())["start"]
        for path in (clone / "build/experiments").rglob("training.json")
    }
    first = "synthcrowd-sense-mini/raznet.stage1/seed0"
    second = ("synthcrowd-sense-mini/gnanet/seed0", "synthcrowd-sense-mini/raznet/seed0")
    assert trained == {first: None, **dict.fromkeys(second, first)}
    assert all((clone / "build/evaluations/train" / id / "evaluation.json").is_file() for id in second)
    assert planned(clone, "train") == {}


@pytest.mark.parametrize("mall", ["it's #1: {brace}", os.fsdecode(b"caf\xe9")], ids=ascii, indirect=True)
def test_data_root_of_any_name(clone, mall):
    shutil.rmtree(clone / "build", ignore_errors=True)
    done = crowdloc(clone, "run", "all", "--data-root", mall, "--snakemake", "notebooks/20_real.ipynb")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out" not in done.stdout
    assert (clone / "build/evaluations/weights/mall-mini/gnanet/seed0/evaluation.json").is_file()
    executed = json.loads((clone / "build/notebooks/20_real.ipynb").read_text())
    shown = "" if "\udce9" in str(mall) else str(mall)  # a notebook cannot hold it: the environment does
    assert executed["cells"][-1]["outputs"][0]["text"] == [f"{shown!a}\n"]
    (mall / "mall/frames/seq_000001.jpg").write_bytes(b"")  # more data: another key
    again = crowdloc(clone, "run", "all", "--data-root", mall, "--snakemake", "notebooks/20_real.ipynb", "-n")
    assert re.search(r"^evaluate +1$", again.stdout + again.stderr, re.MULTILINE)


def test_failing_job_is_told_with_its_log(clone):
    shutil.rmtree(clone / "build", ignore_errors=True)
    path = clone / "notebooks" / "03_table3.ipynb"
    write_notebook(path, "synthcrowd", "raise ValueError('too\\nbad')")
    try:
        done = crowdloc(clone, "run", "all", "--source", "stored", "--snakemake", "notebooks/03_table3.ipynb")
    finally:
        path.unlink()
    log = clone / "build/logs/notebook/03_table3.log"
    told = [line for line in done.stdout.splitlines() if "failed: " in line]
    assert len(told) == 1
    assert re.match(
        r"crowdloc: failed: notebook 03_table3: 03_table3.ipynb, code cell \d: ValueError: too bad", told[0]
    )
    assert told[0].endswith(f"(log: {log})")
    assert done.returncode == 1
    assert done.stderr.startswith("crowdloc: error: 1 jobs failed") and done.stderr.count("\n") == 1


def test_unknown_option_of_snakemake(clone):
    done = crowdloc(clone, "run", "all", "--source", "stored", "--snakemake", "--nonsense")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert "nonsense" in done.stderr


def test_failing_notebook_is_named(clone):
    path = clone / "notebooks" / "03_table3.ipynb"
    write_notebook(path, "synthcrowd", "raise ValueError('too\\nbad')")
    try:
        done = crowdloc(clone, "run", "3")
        target = clone / "build/notebooks"
        reason = f"03_table3.ipynb, code cell 2: ValueError: too bad (see {target / '03_table3.failed.ipynb'})"
        # On a busy machine the kernel may say that it was interrupted when it was shut down.
        assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"crowdloc: error: {reason}")
        assert not (target / "03_table3.ipynb").exists()
    finally:
        path.unlink()
        shutil.rmtree(clone / "build")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads process states from /proc")
def test_killed_run_leaves_no_lock_and_no_job(clone, tmp_path):
    """kill -9 of the run: its notebook's process and kernel end by themselves; the same command then finishes."""
    shutil.rmtree(clone / "build", ignore_errors=True)
    pids, go = tmp_path / "pids", tmp_path / "go"
    path = clone / "notebooks" / "04_slow.ipynb"
    code = (
        "import os, time\nfrom pathlib import Path\n"
        f"part = Path({str(pids)!r} + '.part')\npart.write_text(f'{{os.getppid()}} {{os.getpid()}}')\n"
        f"part.rename({str(pids)!r})\n"
        f"while not Path({str(go)!r}).exists():\n    time.sleep(0.1)"
    )
    write_notebook(path, "synthcrowd", code)
    command = [sys.executable, "-m", "crowdloc", "run", "all", "--source", "stored", "--cores", "2"]
    run = subprocess.Popen(command, cwd=clone, env=environment(clone), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_for(pids.exists)
        job, kernel = map(int, pids.read_text().split())
        second = crowdloc(clone, "run", "all", "--source", "stored")
        assert second.returncode == 2
        assert f"is in use by process {run.pid} " in second.stderr
        os.kill(run.pid, signal.SIGKILL)
        wait_for(lambda: not alive(job) and not alive(kernel), 60)
        assert not (clone / "build/notebooks/04_slow.ipynb").exists()
        go.touch()
        again = crowdloc(clone, "run", "all", "--source", "stored")
        assert again.returncode == 0, again.stderr
        assert (clone / "build/notebooks/04_slow.ipynb").exists()
    finally:
        run.kill()
        run.communicate()
        path.unlink()
        shutil.rmtree(clone / "build", ignore_errors=True)


def test_unknown_source():
    with pytest.raises(CrowdlocError, match="source 'guess' is unknown: choose stored, weights, train"):
        graph.plan("guess")


def test_names_of_files():
    for name in ("METRICS", "WEIGHTS", "TRAINING", "EVALUATION"):
        assert getattr(graph, name) == getattr(runs, name)
    assert graph.SOURCES == runs.DEPTHS


@pytest.mark.parametrize("mall", ["data"], indirect=True)
def test_real_data_is_listed_not_read(mall, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("planning loads a data set")

    monkeypatch.setattr(datasets, "load", refuse)
    monkeypatch.setattr(datasets, "assemble", refuse)
    plan = graph.plan("weights", mall)
    assert [line.partition(":")[0] for line in plan.left_out] == ["05_table5_shanghaitech_b_localization"]
    assert {e.data for e in plan.experiments} >= {"mall"}
    assert graph.plan("weights", mall / "mall" / "frames").left_out != ()

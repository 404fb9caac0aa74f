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
from pathlib import Path

import nbformat
import pytest

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.reproduce import graph

STUBS = {
    "experiments.py": "def get_experiment(id): return id\n",
    "runs.py": """
        from crowdloc.core.files import atomic_write
        def evaluate_stored_weights(experiment, *, out, root):
            with atomic_write(out) as temporary: temporary.write_text("{}")
        def train(experiment, *, out, root):
            with atomic_write(out / "metrics.json") as temporary: temporary.write_text("{}")
    """,
    "results.py": 'def report(): return "the summary"\n',
    "models/__init__.py": "",
    "attention/__init__.py": "",
    "datasets/synthcrowd/__init__.py": """
        def generate(out, preset):
            out.mkdir(parents=True, exist_ok=True)
            (out / preset).write_text("")
    """,
    "datasets/synthcrowd/store.py": """
        from crowdloc.core import paths
        def default_root(): return paths.BUILD / "data" / "synthcrowd"
    """,
}


def write_notebook(path: Path, data: str, *code: str) -> None:
    parameters = f'source = "stored"\ndata = "{data}"\npreset = "mini"\ndata_root = ""\nseed = 0'
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(text) for text in code]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """The real graph, command line and notebook runner; everything that computes is replaced."""
    root = tmp_path_factory.mktemp("a clone")  # a blank in the path on purpose
    shutil.copytree(paths.PACKAGE, root / "crowdloc", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths.ROOT / "Snakefile", root)
    for name, text in STUBS.items():
        lines = text.strip("\n").splitlines() or [""]
        indent = len(lines[0]) - len(lines[0].lstrip())
        (root / "crowdloc" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "crowdloc" / name).write_text("\n".join(line[indent:] for line in lines))
    for id in ("synthcrowd-mini/gnanet/seed0", "synthcrowd-mini/raznet/seed0", "mall-mini/gnanet/seed0"):
        (root / "results" / id).mkdir(parents=True)
        (root / "results" / id / "experiment.json").write_text("{}")
        (root / "results" / id / "weights.safetensors").write_text(id)
    (root / "results/synthcrowd-mini/gnanet/seed1").mkdir()
    (root / "results/synthcrowd-mini/gnanet/seed1/experiment.json").write_text("{}")  # no weights stored
    (root / "notebooks").mkdir()
    write_notebook(root / "notebooks" / "02_table2.ipynb", "synthcrowd", "print(source)")
    write_notebook(root / "notebooks" / "20_real.ipynb", "mall", "print(source)")
    return root


def environment(root: Path) -> dict[str, str]:
    hidden = ("CROWDLOC_DATA", "CROWDLOC_BUILD", "SNAKEMAKE_PROFILE")
    return {k: v for k, v in os.environ.items() if k not in hidden} | {"PYTHONPATH": str(root)}


def crowdloc(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "crowdloc", *arguments]
    return subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True, check=False)


def planned(root: Path, source: str) -> dict[str, int]:
    """Number of jobs by rule that a run would execute now."""
    done = crowdloc(root, "run", "all", "--source", source, "--snakemake", "--dry-run")
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
        ("stored", {"notebook": 1, "report": 1}),
        ("weights", {"data": 1, "evaluate": 2, "notebook": 1, "report": 1}),
        ("train", {"data": 1, "train": 2, "notebook": 1, "report": 1}),
    ],
)
def test_plan_of_a_fresh_clone(clone, source, jobs):
    """Without a data root only SynthCrowd; whatever the file times, only `train` trains."""
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
    assert {"data", "train"}.isdisjoint(planned(tmp_path, "stored"))
    assert "train" not in planned(tmp_path, "weights")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((*kept, "build"))  # writes only there


def test_run_then_only_what_changed(clone):
    """Sources from the future (a clock that was wrong, an archive) are as good as any."""
    shutil.rmtree(clone / "build", ignore_errors=True)
    for path in clone.rglob("*"):
        os.utime(path, (4e9, 4e9))
    before = sorted(path for path in clone.rglob("*") if "__pycache__" not in path.parts)
    done = crowdloc(clone, "run", "all", "--cores", "2")
    assert done.returncode == 0, done.stderr
    assert "2 experiments (weights) and 1 notebooks on 2 cores: about" in done.stdout
    assert "left out: 20_real: no data root" in done.stdout
    assert done.stdout.endswith("the summary\n")
    assert "TCP without encryption" not in done.stderr
    executed = json.loads((clone / "build/notebooks/02_table2.ipynb").read_text())
    assert executed["cells"][-1]["outputs"][0]["text"] == ["weights\n"]
    made = [path for path in clone.rglob("*") if path not in before and "__pycache__" not in path.parts]
    assert {path.relative_to(clone).parts[0] for path in made} == {"build"}

    shuffle_times(clone)
    assert planned(clone, "weights") == {}
    everything = {"data": 1, "evaluate": 2, "notebook": 1, "report": 1}
    for changed, jobs in {
        "notebooks/02_table2.ipynb": {"notebook": 1, "report": 1},
        "crowdloc/results.py": {"notebook": 1, "report": 1},
        "results/synthcrowd-mini/raznet/seed0/weights.safetensors": everything | {"data": 0, "evaluate": 1},
        "crowdloc/models/new.py": everything | {"data": 0},
        "crowdloc/datasets/synthcrowd/__init__.py": everything,
    }.items():
        path = clone / changed
        content = path.read_text() if path.exists() else None
        path.write_text((content or "") + "\n")
        assert planned(clone, "weights") == {rule: count for rule, count in jobs.items() if count}, changed
        if content is None:
            path.unlink()
        else:
            path.write_text(content)
    assert planned(clone, "weights") == {}
    assert planned(clone, "stored") == {"notebook": 1, "report": 1}


def test_failing_notebook_is_named(clone):
    path = clone / "notebooks" / "03_table3.ipynb"
    write_notebook(path, "synthcrowd", "raise ValueError('too\\nbad')")
    try:
        done = crowdloc(clone, "run", "3")
        target = clone / "build/notebooks"
        reason = f"03_table3.ipynb, code cell 2: ValueError: too bad (see {target / '03_table3.failed.ipynb'})"
        assert (done.returncode, done.stderr) == (2, f"crowdloc: error: {reason}\n")
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


def test_what_is_not_hashed_is_not_used():
    """Modules that may change without evaluating again are none that an evaluation imports."""
    code = "import sys, crowdloc.results.runs; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True, check=True)
    used = {name.split(".")[1] for name in done.stdout.split() if name.startswith("crowdloc.")}
    assert {"models", "attention", "evidence", "inference"} <= used
    # The name of the machine in run.json is no number.
    assert used & {Path(name).stem for name in graph._NOT_MODEL} == {"environment"}


def test_unknown_source():
    with pytest.raises(CrowdlocError, match="source 'guess' is unknown: choose stored, weights, train"):
        graph.plan("guess")


def test_plan_with_real_data(clone, data_root, monkeypatch):
    for name in ("RESULTS", "NOTEBOOKS"):
        monkeypatch.setattr(paths, name, clone / name.lower())
    plan = graph.plan("weights", data_root)
    assert plan.notebooks == ["02_table2", "20_real"]
    assert plan.left_out == ()
    assert plan.results("20_real") == ["evaluations/mall-mini/gnanet/seed0.json"]
    assert len(plan.results()) == 3
    key = graph.experiment_key("mall-mini/gnanet/seed0", "weights", plan.root)
    assert key.endswith(f"-{graph.clips('mall', plan.root)}")

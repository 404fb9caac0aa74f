"""A small copy of the project: the real graph, command line and notebook runner; all that computes is replaced."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat

from crowdloc.core import paths

STUBS = {
    "results/runs.py": """
        from crowdloc.core import paths
        def load_model():
            from crowdloc.inference import windows
            from crowdloc.training import loop
        from crowdloc.core.files import read_json, write_json
        def trained(experiment): return paths.BUILD / "experiments" / experiment.id
        def train(experiment, *, out, root, devices):
            start = experiment.start
            begun = start.id if start and read_json(trained(start) / "training.json") else None
            write_json(out / "training.json", {"id": experiment.id, "start": begun})
            return out
        def evaluate(experiment, *, source, root):
            if source == "train": read_json(trained(experiment) / "training.json")
            out = paths.BUILD / "evaluations" / source / experiment.id
            write_json(out / "evaluation.json", {"id": experiment.id})
            return out
    """,
    "results/overview.py": 'def report(source, root): return "the summary"\n',
    "models/gnanet.py": "",
    "attention/__init__.py": "",
    "training/checkpoints.py": 'CHECKPOINT = "checkpoint.pt"\n',
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
# Two stages, a variant, two seeds, and a real data set; nothing of it depends on what is measured in the project.
LISTS = """
CHOSEN = {"synthcrowd-sense-mini": Chosen({"steps": 3}, second={"steps": 2, "frozen": True})}
TABLES = {
    "II": (Listed("synthcrowd-sense", ("raznet", "gnanet"), seeds=2),),
    "Mall": (Listed("mall", ("gnanet",), seeds=1),),
}
"""
STORED = (
    "synthcrowd-sense-mini/raznet.stage1/seed0",
    "synthcrowd-sense-mini/gnanet/seed0",
    "synthcrowd-sense-mini/raznet/seed0",
    "mall-mini/gnanet/seed0",
)


def write_notebook(path: Path, data: str, *code: str) -> None:
    parameters = f'source = "stored"\ndata = "{data}"\npreset = "mini"\ndata_root = ""\nseed = 0'
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(text) for text in code]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


def make_clone(root: Path) -> None:
    """Fill a folder, which is there and empty."""
    shutil.copytree(paths.PACKAGE, root / "crowdloc", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths.ROOT / "Snakefile", root)
    for name, text in STUBS.items():
        (root / "crowdloc" / name).write_text(textwrap.dedent(text).lstrip())
    with open(root / "crowdloc/results/experiments.py", "a") as file:
        file.write(LISTS)
    for id in STORED:
        (root / "results" / id).mkdir(parents=True)
        (root / "results" / id / "experiment.json").write_text("{}")
        (root / "results" / id / "weights.safetensors").write_text(id)
    (root / "results/synthcrowd-sense-mini/gnanet/seed1").mkdir()
    (root / "results/synthcrowd-sense-mini/gnanet/seed1/experiment.json").write_text("{}")  # no weights stored
    for folder in ("studies", "kernels"):
        (root / "results" / folder).mkdir()
        (root / "results" / folder / "numbers.csv").write_text("1\n")
    (root / "crowdloc/studies/small.py").write_text(
        'from crowdloc.core.paths import RESULTS\nPATH = RESULTS / "studies"\n'
    )
    (root / "notebooks").mkdir()
    reads = "from crowdloc.results import runs\n"
    write_notebook(root / "notebooks" / "02_table2.ipynb", "synthcrowd", f'{reads}table = "II"\nprint(source)')
    write_notebook(root / "notebooks" / "18_small.ipynb", "synthcrowd", "from crowdloc.studies import small\nprint(1)")
    write_notebook(root / "notebooks" / "20_real.ipynb", "mall", f'{reads}table = "Mall"\nprint(ascii(data_root))')


def environment(root: Path) -> dict[str, str]:
    hidden = ("CROWDLOC_DATA", "CROWDLOC_BUILD", "SNAKEMAKE_PROFILE")
    return {k: v for k, v in os.environ.items() if k not in hidden} | {"PYTHONPATH": str(root)}


def crowdloc(root: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "crowdloc", *arguments]
    return subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True, check=False)

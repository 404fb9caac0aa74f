"""The wheel in an environment of its own: what plain installation offers works without extras; imports are quick."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from crowdloc import cli

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What the extras bring, as it is imported. Plain installation has none of it.
EXTRAS = ("matplotlib", "seaborn", "pyarrow", "papermill", "nbformat", "snakemake", "lightning", "triton", "IPython",
          "ipywidgets", "sphinx", "docutils", "pytest", "hypothesis", "pycocotools", "nbval")  # fmt: skip
REFUSE = f"""
import sys
from importlib.machinery import PathFinder
class WithoutExtras(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {EXTRAS} else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutExtras
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel as pip would build it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


def environment(folder: Path, wheel: Path) -> Path:
    """A new environment with the wheel and nothing else; returns its folder of packages."""
    venv.create(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--no-compile", str(wheel)], check=True, capture_output=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    return packages


@pytest.fixture(scope="module")
def empty(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    environment(folder, wheel)
    return folder / "bin"


@pytest.fixture(scope="module")
def plain(wheel, tmp_path_factory):
    """An environment that sees the packages of this one, but none of the extras'."""
    folder = tmp_path_factory.mktemp("plain")
    packages = environment(folder, wheel)
    (packages / "zz_here.pth").write_text(sysconfig.get_path("purelib"))
    (packages / "refuse_extras.py").write_text(REFUSE)
    (packages / "zz_refuse.pth").write_text("import refuse_extras")
    return folder / "bin"


def run(*command, folder):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_code_and_printed_numbers_and_nothing_of_the_rest(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"crowdloc/cli.py", "crowdloc/py.typed", "crowdloc/_paper/claims.csv"} <= names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"crowdloc", f"crowdloc-{wheel.name.split('-')[1]}.dist-info"}
    assert not any(name.endswith((".ipynb", ".safetensors", ".parquet", ".pyc")) for name in names)
    assert wheel.stat().st_size < 2_000_000


def test_the_command_needs_no_other_package_to_say_what_it_does(empty, tmp_path):
    assert run(empty / "crowdloc", "--help", folder=tmp_path).startswith("usage: crowdloc")
    seconds = "import time; t = time.process_time(); import crowdloc.cli; print(time.process_time() - t)"
    assert float(run(empty / "python", "-c", seconds, folder=tmp_path)) < 0.3


USE = """
import crowdloc, torch
assert "site-packages" in crowdloc.__file__
from crowdloc import metrics, paper
from crowdloc.attention import gaussian_neighbor_attention
from crowdloc.models import build_model
x = torch.rand(1, 4, 6, 8)
y = gaussian_neighbor_attention(x, x[:, None], x[:, None], gamma=3.0, num_points=4, seed=0)
assert y.shape == x.shape
assert build_model("gnanet", width=1 / 32).offsets == (-1, 0, 1)
assert len(paper.claims()) > 90
import crowdloc.results.locating, crowdloc.training, crowdloc.inference
try:
    import matplotlib
except ModuleNotFoundError:
    print("works")
"""


def test_what_plain_installation_offers_works_without_the_extras(plain, tmp_path):
    assert run(plain / "python", "-c", USE, folder=tmp_path) == "works\n"
    done = subprocess.run([plain / "crowdloc", "report", "--site"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "needs a clone of the repository" in done.stderr and "Traceback" not in done.stderr


def test_a_missing_extra_is_one_line(monkeypatch, capsys):
    def missing(options):
        raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow.parquet")

    monkeypatch.setattr(cli, "_list", missing)
    assert cli.main(["list"]) == 2
    message = "crowdloc: error: pyarrow.parquet is not installed: pip install 'crowdloc[notebooks]' brings it\n"
    assert capsys.readouterr().err == message
    extra = [Requirement(line).name for line in PROJECT["optional-dependencies"]["notebooks"]]
    assert set(cli._OF_NOTEBOOKS) <= {name.removesuffix("-fabric") for name in extra} | {"nbformat"}


def test_a_fault_that_is_no_missing_extra_is_not_hidden(monkeypatch):
    def missing(options):
        raise ModuleNotFoundError("No module named 'crowdloc.typo'", name="crowdloc.typo")

    monkeypatch.setattr(cli, "_list", missing)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["list"])


def test_the_test_extra_brings_all_others():
    extras = PROJECT["optional-dependencies"]
    assert set(extras) == {"notebooks", "gpu", "cluster", "docs", "test"}
    (own,) = (Requirement(line) for line in extras["test"] if line.startswith("crowdloc["))
    assert own.extras == set(extras) - {"test"}


def test_no_package_is_plain_and_extra():
    plain = {Requirement(line).name for line in PROJECT["dependencies"]}
    extra = {Requirement(line).name for lines in PROJECT["optional-dependencies"].values() for line in lines}
    assert plain & extra == set()

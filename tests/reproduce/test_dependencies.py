"""What is derived from import lines: on small packages, and on this one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.reproduce import dependencies, graph, notebooks
from crowdloc.results.experiments import TABLES, all_experiments, experiments_of


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of this name elsewhere."""

    def write(**files: str) -> None:
        for name, text in files.items():
            path = tmp_path / "crowdloc" / f"{name.replace('__', '/').replace('INIT', '__init__')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "crowdloc")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    dependencies._imports.cache_clear()
    dependencies.code_digest.cache_clear()
    write(INIT="def locate():\n    from crowdloc.results import heavy", results__INIT="", results__heavy="")
    yield write
    dependencies._imports.cache_clear()
    dependencies.code_digest.cache_clear()


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import crowdloc.studies.a", {"crowdloc.studies.a"}),
        ("from crowdloc.studies import a, b", {"crowdloc.studies.a", "crowdloc.studies.b"}),
        ("from crowdloc.studies import a, name", {"crowdloc.studies.a", "crowdloc.studies"}),
        ("from crowdloc.studies.a import name", {"crowdloc.studies.a"}),
        ("def f():\n    try:\n        from crowdloc.studies import b\n    except: pass", {"crowdloc.studies.b"}),
        ("if TYPE_CHECKING:\n    from crowdloc.studies import a\nelse:\n    import crowdloc.studies.b",
         {"crowdloc.studies.b"}),
        ("from crowdloc import studies, __version__", {"crowdloc.studies"}),
        ("from crowdloc import locate", {"crowdloc"}),
        ("import crowdloc", {"crowdloc"}),
        ("import numpy, crowdloc_else, crowdloc.absent", set()),
    ],
)  # fmt: skip
def test_imported(package, code, found):
    package(studies__INIT="", studies__a="", studies__b="")
    assert dependencies.imported(code) == found


def test_reached_follows_imports_in_circles_and_whole_rooms(package):
    package(
        studies__a="from crowdloc.studies import b",
        studies__b="from crowdloc.studies import a\nfrom crowdloc.models import registry",
        studies__c="",
        models__registry="",
        models__found_by_name="from crowdloc.attention import x",
        attention__x="",
        attention__y="",
    )
    assert dependencies.reached(["crowdloc.studies.a"]) == {
        "crowdloc.studies.a",
        "crowdloc.studies.b",
        "crowdloc.models",
        "crowdloc.attention",
    }


def test_a_package_that_imports_when_asked(package):
    """Its own file says for types what it holds."""
    package(figures__INIT="if TYPE_CHECKING:\n    from crowdloc.figures.a import draw", figures__a="", figures__b="")
    assert dependencies.reached(dependencies.imported("from crowdloc import figures")) == {
        "crowdloc.figures",
        "crowdloc.figures.a",
    }
    assert dependencies.reached(dependencies.imported("from crowdloc.figures import b")) == {"crowdloc.figures.b"}


def test_folders_of_results(package):
    for folder in ("kernels", "studies", "synthcrowd-sense-mini"):
        (paths.RESULTS / folder).mkdir(parents=True)
    package(
        studies__a='from crowdloc.core.paths import RESULTS\nx = RESULTS / "kernels" / name',
        studies__b='from crowdloc.core import paths\nx = paths.RESULTS / "studies/one.csv"',
        studies__c="from crowdloc.core import paths\nx = paths.RESULTS / folder()",
        results__runs="from crowdloc.core.paths import RESULTS\nx = RESULTS / experiment.id",
        paper__tables="",
    )
    assert dependencies.results_of(["crowdloc.studies.a", "crowdloc.results.runs"]) == ["kernels"]
    assert dependencies.results_of(["crowdloc.studies.b", "crowdloc.paper"]) == ["paper", "studies"]
    assert dependencies.results_of(["crowdloc.studies.c"]) == ["kernels", "studies"]  # unclear: all but experiments


def test_experiments_that_a_notebook_names():
    reader = {dependencies.READER}
    table = next(iter(TABLES))
    assert dependencies.experiments_used(f'compare("{table}")', set()) == []
    assert dependencies.experiments_used(f'compare("{table}")', reader) == experiments_of(table)
    assert dependencies.experiments_used("show(table)", reader) == all_experiments()
    one = all_experiments()[-1]
    assert dependencies.experiments_used(f'show("{one.id}")', reader) == [one]


def test_code_that_is_no_python(package):
    package(studies__a="def")
    with pytest.raises(CrowdlocError, match=r"a\.py is no Python"):
        dependencies.reached(["crowdloc.studies.a"])


def test_magics_of_notebooks(tmp_path):
    path = tmp_path / "x.ipynb"
    path.write_text('{"cells": [{"cell_type": "code", "source": ["%matplotlib inline\\n", "x = 1\\n", "!ls"]}]}')
    assert dependencies.code_cells(path) == "x = 1"


def test_what_an_evaluation_imports_is_in_its_key():
    """Every module of ours that evaluating imports lies in a room or file that its key covers."""
    code = f"import sys, {dependencies.READER}, crowdloc.models.gnanet; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True, check=True)
    used = {name for name in done.stdout.split() if name.startswith("crowdloc.")}
    covered = dependencies.reached([dependencies.READER])
    rooms = {f"crowdloc.{room}" for room in dependencies.WHOLE}
    missing = {m for m in used - covered if f"crowdloc.{m.split('.')[1]}" not in covered & rooms}
    assert missing <= {"crowdloc.core", "crowdloc.results"}  # packages without code of their own
    assert len(used) > 30


def test_notebooks_of_this_repository():
    """A change of the timings of notebook 18 is none of notebook 02."""
    folders = {path.stem[:2]: graph.uses(path).folders for path in notebooks.numbered()}
    assert "kernels" in folders["18"]
    assert "kernels" not in folders["02"]
    table = {path.stem[:2]: {e.group for e in graph.uses(path).experiments} for path in notebooks.numbered()}
    assert table["02"] == {"synthcrowd-sense-mini"}

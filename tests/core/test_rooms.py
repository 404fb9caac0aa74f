"""The rooms of the package and the direction of their imports (design: core at the bottom, the command on top)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from crowdloc.core.paths import PACKAGE

# Rooms of one level do not import each other.
LEVELS = (
    {"core"},
    {"datasets", "attention", "metrics"},
    {"paper"},
    {"models"},
    {"training", "inference"},
    {"results"},
    {"benchmarks", "figures"},
    {"studies"},
    {"reproduce"},
    {"cli"},
    {"__main__"},
)
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
# `crowdloc.locate` is a public name of the package itself; what it needs is imported when it is called.
PUBLIC = {"__init__"}


def imports(source: str, module: str) -> set[str]:
    """Modules below crowdloc that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: import from a full name, not relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "crowdloc"}


def arrows(package: Path) -> list[tuple[str, str, str, str]]:
    """(file, its room, imported name, room of that) of every import from one room to another."""
    found = []
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        for name in imports(path.read_text(encoding="utf-8"), str(path)):
            parts = name.split(".")
            other = parts[1] if len(parts) > 1 else ""
            if other not in {room, ""} and (package / other).exists() | (package / f"{other}.py").exists():
                found.append((str(path.relative_to(package)), room, name, other))
    return found


def test_every_file_stands_in_a_room():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert rooms - PUBLIC == set(LEVEL)


def test_no_arrow_runs_up_or_sideways():
    wrong = [
        f"{file} imports {name}" for file, room, name, other in arrows(PACKAGE)
        if room not in PUBLIC and LEVEL[other] >= LEVEL[room]
    ]  # fmt: skip
    assert not wrong


def test_the_test_sees_an_arrow_that_runs_up(tmp_path):
    (tmp_path / "core").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "core" / "a.py").write_text("def f():\n    from crowdloc.models import build_model\n")
    (tmp_path / "models" / "b.py").write_text("import crowdloc.core.a\nfrom crowdloc import core\n")
    assert {(room, other) for _, room, _, other in arrows(tmp_path)} == {("core", "models"), ("models", "core")}


@pytest.mark.parametrize("heavy", ["triton", "numba", "torchvision", "matplotlib", "torch", "pandas"])
def test_the_package_imports_nothing_heavy(heavy, tmp_path):
    import subprocess
    import sys

    code = f"import sys, crowdloc; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

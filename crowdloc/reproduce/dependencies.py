"""What code and which stored results a notebook, or a module, depends on: read from import lines, listed nowhere.

Of the rooms below `results` every file counts as soon as one does (they find parts of theirs by name); of `results` and
the rooms above it the modules that are imported, directly or not, at the top or inside a function.
"""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Iterable
from pathlib import Path

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import digest
from crowdloc.results.experiments import TABLES, Experiment, all_experiments, experiments_of

WHOLE = ("attention", "datasets", "inference", "metrics", "models", "paper", "training")
READER = "crowdloc.results.runs"  # whoever reads experiments reaches this module


def imported(code: str, path: Path | None = None) -> set[str]:
    """Modules of the package that a piece of code imports anywhere but for types; CrowdlocError: it is no Python.

    What a package's own file imports for types counts: it says what is found in its parts when it is asked for.
    """
    found = set()
    lazy = path is not None and path.name == "__init__.py"
    waiting: list[ast.AST] = [_parse(code, path)]
    while waiting:
        match node := waiting.pop():
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) if not lazy:
                waiting += node.orelse
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module="crowdloc", names=names, level=0):
                found |= {f"crowdloc.{alias.name}" for alias in names}
                found |= {"crowdloc" for alias in names if alias.name == "locate"}
            case ast.ImportFrom(module=str(module), names=names, level=0):
                parts = {f"{module}.{alias.name}" for alias in names}
                found |= parts if all(map(_file, parts)) else parts | {module}
            case _:
                waiting += ast.iter_child_nodes(node)
    return {name for name in found if name.partition(".")[0] == "crowdloc" and _file(name)}


def reached(modules: Iterable[str]) -> set[str]:
    """These modules and all that they import, directly or not; whole rooms as the name of the room."""
    found: set[str] = set()
    waiting = set(modules)
    while waiting:
        name = waiting.pop()
        room = name.split(".")[1] if "." in name else ""
        name = f"crowdloc.{room}" if room in WHOLE else name
        if name not in found:
            found.add(name)
            waiting |= _imports(name) - found
    return found


def code_of(modules: Iterable[str]) -> list[Path]:
    """Files, and folders of whole rooms, of what `reached` found; of `core` only what decides numbers."""
    plumbing = {name for name in modules if name.startswith("crowdloc.core") and not name.endswith(".random_bits")}
    return sorted(_place(name) for name in set(modules) - plumbing)


@functools.cache
def code_digest(*modules: str) -> str:
    """Changes when what these modules do may."""
    return digest(*code_of(reached(modules)))


def results_of(modules: Iterable[str]) -> list[str]:
    """Folders of `results/` beside experiments that these modules read: `RESULTS / "studies"` names one."""
    found = {"paper"} & {name.removeprefix("crowdloc.") for name in modules}
    for name in modules:
        for path in _files(name) if not name.startswith("crowdloc.core") else []:
            code = path.read_text(encoding="utf-8")
            named, unclear = _named_folders(_parse(code, path)) if "RESULTS" in code else (set(), False)
            found |= named
            if unclear and not name.startswith("crowdloc.results"):
                return sorted(p.name for p in paths.RESULTS.iterdir() if p.is_dir() and p.name not in _groups())
    return sorted(found)


def experiments_used(code: str, modules: Iterable[str]) -> list[Experiment]:
    """Experiments that a notebook reads: those of the tables and the ids that its code names; all where it names none.

    `modules` are those it reaches; without the reader of experiments among them there are none.
    """
    if READER not in modules:
        return []
    everything = all_experiments()
    words = _words(_parse(code, None))
    chosen = {e for table in TABLES if table in words for e in experiments_of(table)}
    chosen |= {e for e in everything if e.id in words}
    if not chosen:
        return everything
    return [e for e in everything if e in chosen]


def code_cells(path: Path) -> str:
    """The code of a notebook, magics left out; CrowdlocError where it cannot be read."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CrowdlocError(f"{path} is no readable notebook: restore it from git") from None
    return "\n".join(line for text in code for line in text.splitlines() if not line.lstrip().startswith(("%", "!")))


def _file(name: str) -> Path | None:
    """Where a module or package is written; None where there is none of this name."""
    place = paths.PACKAGE.joinpath(*name.split(".")[1:])
    candidates = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((path for path in candidates if path.is_file()), None)


def _place(name: str) -> Path:
    if name.removeprefix("crowdloc.") in WHOLE:
        return paths.PACKAGE / name.removeprefix("crowdloc.")
    return _file(name) or paths.PACKAGE / "__init__.py"


def _files(name: str) -> list[Path]:
    place = _place(name)
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


@functools.cache
def _imports(name: str) -> set[str]:
    found: set[str] = set()
    for path in _files(name):
        found |= imported(path.read_text(encoding="utf-8"), path)
    return found


@functools.cache
def _parse(code: str, path: Path | None) -> ast.Module:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise CrowdlocError(f"{path or 'a code cell'} is no Python: restore it from git") from None


def _named_folders(tree: ast.Module) -> tuple[set[str], bool]:
    """Folders in expressions like `RESULTS / "studies"`, and whether RESULTS is also used in another way."""
    named, clear = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.BinOp(left=ast.Name(id="RESULTS") | ast.Attribute(attr="RESULTS") as left, op=ast.Div(),
                           right=ast.Constant(value=str(folder))):  # fmt: skip
                named.add(folder.split("/")[0])
                clear.add(left)
    uses = [
        node
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id == "RESULTS")
        or (isinstance(node, ast.Attribute) and node.attr == "RESULTS")
    ]
    return named, any(node not in clear for node in uses)


def _groups() -> set[str]:
    return {experiment.group for experiment in all_experiments()}


def _words(tree: ast.Module) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}

"""Notebooks from outside: finding them, checking parameters, running one in papermill, refreshing in place."""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write

if TYPE_CHECKING:
    from nbformat import NotebookNode

# What damaged or deeply nested files and texts end in.
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_NO_LITERAL = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)
GIVEN = "injected-parameters"  # tag of the cell in which papermill notes what it was given
WIDGET = "application/vnd.jupyter.widget-view+json"  # kind of an output
CELL_SECONDS = 4 * 3600  # a cell that takes longer hangs: training the mini preset takes minutes


def numbered() -> list[Path]:
    """All notebooks of the project in the order of their numbers."""
    return sorted(paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def find(name: str) -> Path:
    """A notebook by its path, its file name without suffix, or its number ("2" and "02" are the same)."""
    if Path(name).suffix == ".ipynb":
        path = Path(name) if Path(name).is_file() else paths.NOTEBOOKS / Path(name).name
        if path.is_file():
            return path.resolve()
    number = name.lstrip("0") or "0"
    found = [p for p in numbered() if p.stem == name or (p.stem[:2].lstrip("0") or "0") == number]
    if len(found) != 1:
        known = ", ".join(p.stem[:2] for p in numbered()) or "none"
        raise CrowdlocError(f"no notebook {name!r} in {paths.NOTEBOOKS}: give a path, a name or a number ({known})")
    return found[0]


def parameters(path: Path) -> dict[str, Any]:
    """Names and default values in the cell tagged `parameters`; anything but literals there is an error."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    except _UNREADABLE:
        raise CrowdlocError(f"{path} is no readable notebook: restore it from git") from None
    if len(tagged) != 1:
        raise CrowdlocError(f"{path} has {len(tagged)} cells tagged 'parameters': it needs exactly one")
    found: dict[str, Any] = {}
    try:
        for line in ast.parse(tagged[0]).body:
            match line:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    found[name] = ast.literal_eval(value)
                case _:
                    raise ValueError
    except _NO_LITERAL:
        raise CrowdlocError(f"{path}: the cell tagged 'parameters' may only assign literals") from None
    return found


def check_parameters(path: Path, given: Mapping[str, Any]) -> None:
    """Refuse a parameter that the notebook does not have (papermill would ignore it) or of another type."""
    known = parameters(path)
    for name, value in given.items():
        if name not in known:
            raise CrowdlocError(f"{path.name} has no parameter {name!r}: it knows {', '.join(known)}")
        default = known[name]
        if default is not None and value is not None and type(value) is not type(default):
            raise CrowdlocError(
                f"{path.name}: parameter {name}={value!r} must be of type {type(default).__name__} like {default!r}"
            )


def run(path: Path, given: Mapping[str, Any], out: Path | None = None) -> Path:
    """Execute a notebook through papermill, working folder notebooks/; returns the executed copy.

    The copy appears under its name only when every cell ran; a failed one is kept as `NAME.failed.ipynb`. Beside it a
    folder `NAME.figures` has every picture with the numbers that it shows.
    """
    check_parameters(path, given)
    _check_text(given)
    target = (out or paths.BUILD / "notebooks" / path.name).absolute()
    failed = target.with_suffix(".failed.ipynb")
    failed.unlink(missing_ok=True)
    pictures = target.with_suffix(".figures")
    shutil.rmtree(pictures, ignore_errors=True)
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    start = time.monotonic()
    print(f"{path.stem}: running" + "".join(f" {k}={v}" for k, v in given.items() if v is not None), flush=True)
    with atomic_write(target) as temporary, _environment("CROWDLOC_FIGURES", str(pictures)):
        try:
            papermill.execute_notebook(
                _as_template(path),
                _as_template(temporary),
                dict(given),
                kernel_name="python3",
                cwd=paths.NOTEBOOKS if paths.NOTEBOOKS.is_dir() else path.parent,
                progress_bar=False,
                start_timeout=180,
                execution_timeout=CELL_SECONDS,
                config=_kernel_config(),
            )
        except papermill.PapermillExecutionError as error:
            temporary.rename(failed)
            reason = f"{error.ename}: {' '.join(str(error.evalue).split())}"
            raise CrowdlocError(f"{path.name}, code cell {error.exec_count}: {reason} (see {failed})") from None
        except OSError:
            raise  # a full disk: `atomic_write` knows the file
        except Exception as error:
            raise CrowdlocError(f"{path.name}: {_first_line(error)}; run it again, or open it in JupyterLab") from error
    print(f"{path.stem}: done in {time.monotonic() - start:.0f} s", flush=True)
    return target


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable that the kernel finds, for as long as it runs."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def refresh(path: Path) -> bool:
    """Execute a notebook in place with its default parameters. True when a line changed: equal outputs change none."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    try:
        before = path.read_text(encoding="utf-8")
        notebook = nbformat.reads(before, as_version=4)
        nbformat.validate(notebook)
    except (*_UNREADABLE, nbformat.ValidationError):
        raise CrowdlocError(f"{path} is no readable notebook: restore it from git") from None
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=600,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
        config=_kernel_config(),
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise CrowdlocError(f"{path.name}: {error.ename}: {' '.join(error.evalue.split())}; left as it was") from None
    clean(notebook)
    after = nbformat.writes(notebook) + "\n"
    if after == before:
        return False
    with atomic_write(path) as temporary:
        temporary.write_text(after, encoding="utf-8")
    return True


def depth(notebook: Mapping[str, Any]) -> str:
    """The `source` that papermill noted in an executed notebook; "stored" where it was given none."""
    given = [c for c in notebook["cells"] if GIVEN in c.get("metadata", {}).get("tags", [])]
    text = "\n".join("".join(cell["source"]) for cell in given)
    return match[1] if (match := re.search(r'^source = "(\w+)"', text, re.MULTILINE)) else "stored"


def clean(notebook: NotebookNode) -> None:
    """Remove what differs from run to run: timing, language version, widget state and papermill's notes."""
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}}  # fmt: skip
    for cell in notebook.cells:
        for note in ("execution", "papermill", "collapsed", "scrolled"):
            cell.metadata.pop(note, None)
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET, None)
        cell.outputs = [output for output in cell.outputs if output.get("data", True)]


def _check_text(given: Mapping[str, Any]) -> None:
    """Refuse what a notebook cannot hold: names of files that are not UTF-8."""
    for name, value in given.items():
        try:
            str(value).encode()
        except UnicodeEncodeError:
            remedy = "set the environment variable CROWDLOC_DATA instead" if name == "data_root" else "rename it"
            raise CrowdlocError(
                f"parameter {name}={value!r} is not UTF-8, which a notebook cannot hold: {remedy}"
            ) from None


def _as_template(path: Path) -> str:
    """A path as papermill takes it: braces would be parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


def literal(text: str) -> Any:
    """A value given on the command line: a Python literal where it reads as one, else the text itself."""
    try:
        return ast.literal_eval(text)
    except _NO_LITERAL:
        return text


def _kernel_config() -> Any:
    from traitlets.config import Config

    # Encrypts where the kernel can, and so silences the warning that each start prints otherwise.
    return Config({"AsyncKernelManager": {"transport_encryption": "auto"}})


def _first_line(error: Exception) -> str:
    lines = [line for line in re.split(r"\n+", str(error)) if line.strip()]
    return lines[0] if lines else type(error).__name__

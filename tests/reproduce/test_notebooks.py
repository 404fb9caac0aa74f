"""What nbval cannot see: it passes unexecuted cells, unknown parameters and machine paths."""

from __future__ import annotations

import re

import nbformat
import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.paths import NOTEBOOKS
from crowdloc.reproduce.notebooks import check_parameters, clean, numbered, parameters, refresh

ALL = sorted(NOTEBOOKS.glob("*.ipynb"))
PARAMETERS = ["source", "data", "preset", "data_root", "seed"]
ABSOLUTE = re.compile(r"(?<![\w.:/>-])/(?:home|root|tmp|work|usr|opt|mnt|Users|var|data)/|[A-Z]:\\\\")
MAX_CODE_LINES = 60
MAX_BYTES = 3_000_000


def problems(notebook, name: str) -> list[str]:
    """Everything that a committed notebook must not have."""
    found = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    metadata = notebook.metadata
    if not re.fullmatch(r"\d\d_[a-z0-9]+(_[a-z0-9]+)*\.ipynb", name):
        found.append(f"name {name} is not NN_artefact.ipynb")
    if (notebook.nbformat, notebook.nbformat_minor) != (4, 5) or any(not cell.get("id") for cell in notebook.cells):
        found.append("not nbformat 4.5 with cell ids")
    if metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("kernelspec is not python3")
    if "version" in metadata.get("language_info", {}) or {"widgets", "papermill"} & set(metadata):
        found.append("metadata of one run: run `crowdloc refresh`")
    if any({"execution", "papermill"} & set(cell.metadata) for cell in notebook.cells):
        found.append("timing metadata: run `crowdloc refresh`")
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("code cells were not executed in order from a fresh kernel")
    lines = [line for cell in code for line in cell.source.splitlines() if line.split("#")[0].strip()]
    if len(lines) > MAX_CODE_LINES:
        found.append(f"{len(lines)} lines of code: logic belongs in the package")
    if any(re.match(r"\s*(async def|def|class)\s", line) for line in lines):
        found.append("defines a function or class: logic belongs in the package")
    if any(cell.source.rstrip().endswith(";") for cell in code):
        found.append("a cell ends with `;`, which nbval does not understand")
    for output in (output for cell in code for output in cell.outputs):
        if output.output_type == "error" or output.get("name") == "stderr":
            found.append(f"{output.output_type} output: {output.get('ename', output.get('text', ''))[:60]}")
        if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
            found.append("widget view in an output: run `crowdloc refresh`")
    text = "\n".join(text_of(notebook))
    if match := ABSOLUTE.search(text):
        found.append(f"absolute path: {text[max(0, match.start() - 10) : match.end() + 30]!r}")
    if len(nbformat.writes(notebook)) > MAX_BYTES:
        found.append("more than 3 MB: store smaller pictures")
    return found


def text_of(notebook):
    """Sources and textual outputs."""
    for cell in notebook.cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield str(output.get("text", ""))
            yield from (str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/"))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_committed_notebook(path):
    notebook = nbformat.read(path, as_version=4)
    assert problems(notebook, path.name) == []
    assert list(parameters(path)) == PARAMETERS
    assert parameters(path)["source"] == "stored"
    assert parameters(path)["data_root"] in ("", None)


def test_notebook_numbers_are_unique():
    numbers = [path.stem[:2] for path in ALL]
    assert len(set(numbers)) == len(numbers)
    assert numbered() == ALL


def executed():
    first = nbformat.v4.new_code_cell(
        'source = "stored"\ndata = "synthcrowd"\npreset = "mini"\ndata_root = ""  # folder of real data\nseed = 0',
        metadata={"tags": ["parameters"]},
        execution_count=1,
    )
    second = nbformat.v4.new_code_cell("print(seed)", execution_count=2)
    second.outputs = [nbformat.v4.new_output("stream", text="0\n")]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), first, second])
    clean(notebook)
    return notebook


def stderr(notebook):
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", name="stderr", text="warning")]


def error(notebook):
    notebook.cells[2].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[])]


def widget(notebook):
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    notebook.cells[2].outputs = [nbformat.v4.new_output("display_data", data=view)]


DAMAGE = {
    "not executed": lambda nb: nb.cells[2].update(execution_count=None),
    "out of order": lambda nb: nb.cells[2].update(execution_count=7),
    "stderr": stderr,
    "error": error,
    "widget": widget,
    "widget state": lambda nb: nb.metadata.update(widgets={}),
    "language version": lambda nb: nb.metadata.language_info.update(version="3.11.2"),
    "kernelspec": lambda nb: nb.metadata.kernelspec.update(name="conda-env"),
    "timing": lambda nb: nb.cells[2].metadata.update(execution={}),
    "function": lambda nb: nb.cells[2].update(source="def f(x):\n    return x"),
    "semicolon": lambda nb: nb.cells[2].update(source="1;"),
    "long": lambda nb: nb.cells[2].update(source="\n".join(f"x{i} = {i}" for i in range(60))),
    "path in source": lambda nb: nb.cells[2].update(source='open("/home/me/x")'),
    "path in output": lambda nb: nb.cells[2].outputs[0].update(text="saved to /tmp/x.csv"),
    "old format": lambda nb: nb.update(nbformat_minor=4),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_guard_sees_damage(damage):
    notebook = executed()
    assert problems(notebook, "02_table2_x.ipynb") == []
    damage(notebook)
    assert len(problems(notebook, "02_table2_x.ipynb")) == 1


def test_guard_sees_a_wrong_name():
    assert problems(executed(), "table2.ipynb") == ["name table2.ipynb is not NN_artefact.ipynb"]


def write(path, notebook):
    nbformat.write(notebook, path)
    return path


def test_parameters_are_literals(tmp_path):
    path = write(tmp_path / "x.ipynb", executed())
    assert parameters(path) == {"source": "stored", "data": "synthcrowd", "preset": "mini", "data_root": "", "seed": 0}
    notebook = executed()
    notebook.cells[1].source = "seed = 1 + int('2')"
    with pytest.raises(CrowdlocError, match="may only assign literals"):
        parameters(write(path, notebook))
    notebook.cells[1].metadata.tags = []
    with pytest.raises(CrowdlocError, match="0 cells tagged 'parameters'"):
        parameters(write(path, notebook))
    path.write_text("{}")
    with pytest.raises(CrowdlocError, match="no readable notebook"):
        parameters(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sede": 1}, "has no parameter 'sede': it knows source, data, preset, data_root, seed"),
        ({"seed": "one"}, "parameter seed='one' must be of type int like 0"),
        ({"seed": 0.5}, "parameter seed=0.5 must be of type int"),
        ({"seed": 3, "source": "weights"}, None),
    ],
)
def test_check_parameters(tmp_path, given, message):
    path = write(tmp_path / "x.ipynb", executed())
    if message is None:
        check_parameters(path, given)
        return
    with pytest.raises(CrowdlocError, match=re.escape(message)):
        check_parameters(path, given)


def test_refresh_changes_no_line_when_outputs_are_equal(tmp_path):
    notebook = executed()
    notebook.cells[2].source = "import os, sys\nprint(seed)\nprint(os.path.basename(os.getcwd()))"
    path = write(tmp_path / "x.ipynb", notebook)
    assert refresh(path)
    first = path.read_bytes()
    assert nbformat.read(path, as_version=4).cells[2].outputs[0].text == f"0\n{tmp_path.name}\n"
    assert problems(nbformat.read(path, as_version=4), "02_x.ipynb") == []
    assert not refresh(path)
    assert path.read_bytes() == first


def test_refresh_leaves_a_failing_notebook_as_it_was(tmp_path):
    notebook = executed()
    notebook.cells[2].source = "1 / 0"
    path = write(tmp_path / "x.ipynb", notebook)
    before = path.read_bytes()
    with pytest.raises(CrowdlocError, match=r"x\.ipynb: ZeroDivisionError: division by zero; left as it was"):
        refresh(path)
    assert path.read_bytes() == before

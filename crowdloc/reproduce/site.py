"""The static site: start page, a page per executed notebook, the claims, the package's reference, search.

`build` copies `docs/` into a working folder below build/, writes beside it what is generated, has Sphinx render it, and
puts the result in place as a whole. Nothing is downloaded, then or when a page is read: mathematics is MathML.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.locking import locked
from crowdloc.reproduce import frontpage, notebooks, reference

REAL_FRAMES = "real-frames"  # tag of cells whose pictures may be frames of a real data set
_FILE_LINK = re.compile(r"\[([^\]]*)\]\((?:\.\./)?(crowdloc|results)(/[^)#\s]*)\)")
_DOWNLOADS = (".csv", ".json", ".parquet", ".png", ".svg")


def build(report: str, out: Path | None = None) -> Path:
    """Build the site into the folder `out` (build/site), which is replaced as a whole; returns its start page.

    Args:
        report: text for the page of that name, as `crowdloc report` prints it.

    Raises:
        CrowdlocError: no clone, the extra `docs` is not installed, or Sphinx failed (the message says why).
    """
    docs = paths.ROOT / "docs"
    if not (docs / "conf.py").is_file():
        raise CrowdlocError(f"{docs} is missing: the site needs a clone of the repository, not only the package")
    out = (out or paths.BUILD / "site").absolute()
    work = out.with_name(f".{out.name}.part")
    with locked(out.with_name(f".{out.name}.lock"), f"site {out}"):
        shutil.rmtree(work, ignore_errors=True)  # of a killed process
        try:
            stage(work / "source", report)
            render(work / "source", work / "pages")
            if out.exists():
                out.rename(work / "before")
            (work / "pages").rename(out)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return out / "index.html"


def stage(source: Path, report: str) -> None:
    """Write what Sphinx reads: `docs/`, the notebooks, the project's own pages, and what is generated."""
    shutil.copytree(paths.ROOT / "docs", source, ignore=shutil.ignore_patterns("__pycache__"))
    for path in notebooks.numbered():
        page = prepared(json.loads(executed(path).read_text(encoding="utf-8")))
        write(source, f"notebooks/{path.name}", json.dumps(page))
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        text = (paths.ROOT / name).read_text(encoding="utf-8")
        write(source, name.lower(), linked(text))
    for name in ("CITATION.cff", "LICENSE"):
        shutil.copy(paths.ROOT / name, source)
    shutil.copytree(paths.RESULTS, source / "results", ignore=_only_downloads)
    for folder, pages in (("api", reference.pages()), ("generated", frontpage.parts(report))):
        for name, content in pages.items():
            write(source, f"{folder}/{name}", content)


def write(source: Path, name: str, content: str | bytes) -> None:
    """Write one file of the sources."""
    path = source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def executed(path: Path) -> Path:
    """The copy of a notebook that the last run executed, if it is of this notebook as it is now; else the notebook."""
    made = paths.BUILD / "notebooks" / path.name
    return made if made.is_file() and _sources(made) == _sources(path) else path


def prepared(notebook: dict[str, Any]) -> dict[str, Any]:
    """A notebook as a page: how it was executed stands below its title, links lead somewhere, real frames are gone.

    Widgets are gone too: without a kernel they do nothing, and a page would fetch their scripts from the network.
    """
    notebook.get("metadata", {}).pop("widgets", None)
    depth = notebooks.depth(notebook)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = linked("".join(cell["source"]))
        elif REAL_FRAMES in _tags(cell):
            kept = [o for o in cell["outputs"] if not any(kind.startswith("image/") for kind in o.get("data", ()))]
            if len(kept) < len(cell["outputs"]):
                note = "real frames are shown to whoever has the data, not on this site\n"
                kept.append({"output_type": "stream", "name": "stdout", "text": note})
            cell["outputs"] = kept
        elif any(notebooks.WIDGET in output.get("data", ()) for output in cell.get("outputs", ())):
            note = "something to play with is here, for whoever runs the notebook\n"
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": note}]
    title = notebook["cells"][0]
    heading, _, rest = title["source"].partition("\n")
    title["source"] = f'{heading}\n\n*Executed with* `source="{depth}"`*.*\n{rest}'
    return notebook


def linked(text: str) -> str:
    """Markdown whose links to files of the project lead to pages or copies: modules to the reference."""

    def target(match: re.Match[str]) -> str:
        words, top, rest = match.groups()
        if top == "crowdloc" and rest.endswith(".py"):
            name = f"{top}{rest}".removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            return f"[{words}](#{name})"
        return f"[{words}](/{top}{rest})" if rest.endswith(_DOWNLOADS) else words

    text = re.sub(r"\((README|CONTRIBUTING|CHANGELOG)\.md\)", lambda match: f"({match[1].lower()}.md)", text)
    text = re.sub(r"\(docs/(\w+\.md)\)", r"(\1)", text)
    return _FILE_LINK.sub(target, text)


def render(source: Path, out: Path) -> None:
    """Run Sphinx on a folder of sources; what it warns of goes to stderr.

    Raises:
        CrowdlocError: Sphinx is not there or failed.
    """
    options = ["-q", "-b", "html", "-d", str(source.with_name("trees"))]
    found = os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "sphinx", *options, str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": found}, check=False)
    lines = [line.replace(f"{source}{os.sep}", "") for line in done.stderr.splitlines() if line.strip()]
    if "No module named sphinx" in done.stderr:
        raise CrowdlocError("the site needs Sphinx: pip install 'crowdloc[docs]'")
    if done.returncode:
        raise CrowdlocError(f"Sphinx failed: {' '.join(lines[-3:]) or done.returncode}")
    for line in lines:
        print(f"crowdloc: site: {line}", file=sys.stderr)


def _only_downloads(folder: str, names: list[str]) -> set[str]:
    """What of results/ is not copied: weights and evidence are too large, pages of their own are none of the site."""
    small = {name for name in names if name.endswith((".csv", ".png", ".svg"))}
    return {name for name in names if (Path(folder) / name).is_file()} - small


def _tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def _sources(path: Path) -> list[str]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return ["".join(cell["source"]) for cell in cells if notebooks.GIVEN not in _tags(cell)]
    except (ValueError, KeyError, TypeError):
        raise CrowdlocError(f"{path} is no readable notebook: restore it from git, or run it again") from None

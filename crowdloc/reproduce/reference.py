"""Pages of the reference: one per room of the package, made by Sphinx from docstrings."""

from __future__ import annotations

from importlib import import_module

from crowdloc.core import paths

# In the order in which somebody uses them.
ROOMS = {
    "attention": "Gaussian neighbour attention and the neighbourhoods it is compared with",
    "metrics": "matching, localization and counting metrics, statistics",
    "datasets": "readers of real data sets, and SynthCrowd",
    "models": "the methods, the registry, targets, decoding, recipes",
    "training": "batches, loop, checkpoints, weights",
    "inference": "windows over a video, features computed once",
    "paper": "what the paper prints and claims",
    "results": "experiments, evidence, tables, verdicts",
    "figures": "pictures",
    "studies": "what notebooks compute beside tables",
    "benchmarks": "timings",
    "reproduce": "the graph, notebooks, the site",
    "core": "errors, files, paths, provenance",
}
_INTRODUCTION = """\
The rooms of the package. Imports go one way: core; datasets, attention, metrics; paper; models; training, inference;
results; benchmarks, figures; studies; reproduce."""


def pages() -> dict[str, str]:
    """Text (reStructuredText) by file name: `index.rst`, and one file per room."""
    table = "\n".join(f"- :doc:`crowdloc.{room} <{room}>`: {what}" for room, what in ROOMS.items())
    tree = ".. toctree::\n   :hidden:\n\n" + "".join(f"   {room}\n" for room in ROOMS)
    parts = (_title("Reference", "="), _INTRODUCTION, table, ".. autofunction:: crowdloc.locate", tree)
    return {"index.rst": "\n\n".join(parts), **{f"{room}.rst": _page(room) for room in ROOMS}}


def modules(room: str) -> list[str]:
    """Names of a room's modules without the room itself; those whose name begins with `_` are private."""
    folder = paths.PACKAGE / room
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(paths.PACKAGE).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if len(parts) > 1 and not any(part.startswith("_") for part in parts):
            found.append(".".join(("crowdloc", *parts)))
    return sorted(found)


def _page(room: str) -> str:
    name = f"crowdloc.{room}"
    parts = [_title(name, "="), f".. automodule:: {name}\n\n", _public(name)]
    for module in modules(room):
        short = module.removeprefix(f"{name}.")
        parts += [_title(short, "-"), f".. automodule:: {module}\n   :members:\n\n"]
    return "".join(parts)


def _public(name: str) -> str:
    """The names that a room offers, each a link to where it is described."""
    module = import_module(name)
    links = []
    for public in getattr(module, "__all__", ()):
        thing = getattr(module, public)
        home = getattr(thing, "__module__", None) or name
        found = isinstance(home, str) and home.startswith(name) and hasattr(thing, "__qualname__")
        links.append(f":py:obj:`{public} <{home}.{thing.__qualname__}>`" if found else f"``{public}``")
    return f"From ``{name}`` itself: {', '.join(links)}.\n\n" if links else ""


def _title(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"

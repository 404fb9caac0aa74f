"""What the paper has, in the order of our notebooks, and what of it there is here: the table of `crowdloc list`.

It imports nothing heavy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.reproduce import graph, notebooks
from crowdloc.results.experiments import Experiment, all_experiments, experiments_of, with_starts

# Of the paper, by the numbers of their notebooks, 01 to 16.
ARTEFACTS = (
    *(f"Table {number}" for number in ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")),
    *("Figure 1: annotated samples", "Figure 2: the network", "Figure 3: predictions", "Appendix A: the error bound"),
)


class Artefact(NamedTuple):
    """A notebook, or an artefact of the paper that has none yet."""

    number: int
    path: Path | None
    of_paper: str  # "–": ours


def artefacts() -> list[Artefact]:
    """All of them in the order of their numbers."""
    there = {int(path.stem[:2]): path for path in notebooks.numbered()}
    return [
        Artefact(number, there.get(number), ARTEFACTS[number - 1] if 0 < number <= len(ARTEFACTS) else "–")
        for number in sorted({*there, *range(1, len(ARTEFACTS) + 1)})
    ]


def title(path: Path) -> str:
    """The heading of a notebook, without the artefact of the paper before it."""
    text = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    match = re.match(r"#\s*(?:(?:Tables?|Figure) [^—]*—\s*)?(.+)", text)
    return match[1].strip() if match else path.stem


def read_by(artefact: Artefact) -> list[Experiment]:
    """The experiments that it consists of: those of its table, else those that its notebook reads one by one."""
    listed = experiments_of(artefact.of_paper.removeprefix("Table "))
    if listed or artefact.path is None:
        return listed
    return list(graph.uses(artefact.path).experiments)


def reads_whatever_is_stored(read: Iterable[Experiment]) -> bool:
    """Whether a notebook names no experiment, but goes through all."""
    return set(read) >= set(all_experiments())


def lines() -> Iterator[str]:
    """One line for each artefact: number, what it is, how many of its networks are stored, what was executed, time."""
    yield f"{'':2}  {'of the paper':<12}  {'stored':>7}  {'executed':<8}  {'time: stored, weights, train':<28}  title"
    for found in artefacts():
        read = [] if reads_whatever_is_stored(every := read_by(found)) else every
        stored = f"{sum('stored' in graph.state(e) for e in read)}/{len(read)}" if read else "–"
        name = "no notebook yet" if found.path is None else title(found.path)
        times = ", ".join(_duration(_seconds(read, source)) for source in graph.SOURCES)
        paper = found.of_paper.partition(":")[0]
        yield f"{found.number:02}  {paper:<12}  {stored:>7}  {_executed(found.path):<8}  {times:<28}  {name}"


def lines_of(name: str) -> Iterator[str]:
    """Experiments of a notebook (its number or name), of an id that begins so, or "all": what there is of each.

    Raises:
        CrowdlocError: there is none.
    """
    chosen = [e for e in all_experiments() if name == "all" or e.id.startswith(name)]
    if not chosen:
        try:
            number = int(name) if name.isdecimal() else int(notebooks.find(name).stem[:2])
        except CrowdlocError:
            number = -1
        chosen = [e for a in artefacts() if a.number == number for e in with_starts(read_by(a))]
    if not chosen:
        raise CrowdlocError(f"nothing is called {name!r}: give a number such as 02, the beginning of an id, or `all`")
    width = max(len(experiment.id) for experiment in chosen)
    for experiment in chosen:
        words = ", ".join(graph.state(experiment)) or "not measured"
        yield f"{experiment.id:<{width}}  {_duration(graph.seconds('train', experiment.id)):>6} to train  {words}"


def _seconds(read: Iterable[Experiment], source: str) -> float:
    """Rough time of one core at a depth: below "stored" one seed of each network."""
    one = [e for e in read if e.seed == graph.SEED]
    time = graph.seconds("notebook")
    if source == "weights":
        one = [e for e in one if "weights" in graph.state(e)]
    if source != "stored":
        time += sum(graph.seconds("evaluate", e.id) for e in one)
    if source == "train":
        time += sum(graph.seconds("train", e.id) for e in with_starts(one))
    return time


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _executed(path: Path | None) -> str:
    """The depth at which `crowdloc run` executed a notebook last, "–" where it did not."""
    copy = None if path is None else paths.BUILD / "notebooks" / path.name
    if copy is None or not copy.is_file():
        return "–"
    try:
        return notebooks.depth(json.loads(copy.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "damaged"

"""What of the site's start page, claims page and report page follows from results: text (Markdown) and one picture."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pandas as pd

from crowdloc import paper
from crowdloc.core import paths
from crowdloc.figures.ablations import differences
from crowdloc.figures.localization import style
from crowdloc.models.registry import label
from crowdloc.reproduce import graph, notebooks
from crowdloc.results.experiments import SOURCES, Experiment, all_experiments
from crowdloc.results.tables import read_table
from crowdloc.results.verdicts import steps

# What the picture compares, on Table II's stand-in data: the frames, the attention, and one against the other.
PAIRS = {
    "three frames stacked − one frame (RAZNet)": ("frame-stack", "raznet"),
    "GNANet (attention) − one frame (RAZNet)": ("gnanet", "raznet"),
    "GNANet (attention) − three frames stacked": ("gnanet", "frame-stack"),
}
# Artefacts of the paper in the order of their notebooks, 01 to 16.
ARTEFACTS = (
    *(f"Table {number}" for number in paper.NUMBERS),
    *("Figure 1: annotated samples", "Figure 2: the network", "Figure 3: predictions", "Appendix A: the error bound"),
)


def parts(report: str) -> dict[str, str | bytes]:
    """Content by file name of what `docs/*.md` include from `generated/`."""
    found = steps(read_table("II"), PAIRS)
    return {
        "found.md": findings(found),
        "found.png": picture(found),
        "status.md": status(),
        "claims.md": ledger(),
        "report.txt": report.rstrip() + "\n",
    }


def findings(found: pd.DataFrame) -> str:
    """The picture with its caption, and a sentence for every comparison."""
    lines = [f"- {_sentence(row)}" for row in found.to_dict("records")]
    caption = (
        "Differences in mAP at σ = 20 (in pixels of a 1080-row frame) between networks that stand behind the same "
        "trained features, on SynthCrowd: mean over seeds, 95 % interval over scenes and seeds. To the right of zero "
        "the first of the two is better."
    )
    return "\n".join([f"![{caption}](generated/found.png)", "", f"*{caption}*", "", *lines, ""])


def picture(found: pd.DataFrame) -> bytes:
    """The differences as a PNG."""
    import matplotlib.pyplot as plt

    style()
    figure = differences({"SynthCrowd": found})
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=144, metadata={"Software": None})
        plt.close(figure)
        return file.getvalue()


def status() -> str:
    """A table of all artefacts: those with a notebook, and what of it is measured; then those without."""
    lines = ["| notebook | of the paper | measured | not measured |", "|---|---|---|---|"]
    there = {path.stem[:2]: path for path in notebooks.numbered()}
    for stem, path in there.items():
        number = int(stem)
        artefact = ARTEFACTS[number - 1].partition(":")[0] if 0 < number <= len(ARTEFACTS) else "–"
        measured, missing = _measured(path)
        lines.append(f"| [{stem} {title(path)}](notebooks/{path.name}) | {artefact} | {measured} | {missing} |")
    for number, artefact in enumerate(ARTEFACTS, start=1):
        if f"{number:02}" not in there:
            lines.append(f"| {number:02}: none yet | {artefact} | – | all |")
    return "\n".join(lines) + "\n"


def title(path: Path) -> str:
    """The heading of a notebook, without the artefact before the dash."""
    text = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    match = re.match(r"#\s*(?:.*—\s*)?(.+)", text)
    return match[1].strip() if match else path.stem


def ledger() -> str:
    """Every claim of the paper: what it says, and what its own printed numbers, and stored verdicts, say about it."""
    table = paper.check_claims()
    shown = pd.DataFrame(
        {
            "where": [_where(row) for row in table.to_dict("records")],
            "claim": table["predicate"],
            "in print": table["holds_in_print"],
        }
    )
    stored = paths.RESULTS / "claims.csv"
    if stored.is_file():
        measured = pd.read_csv(stored, dtype=str, keep_default_na=False).set_index("id").reindex(table["id"])
        for column, name in (("synthcrowd", "on SynthCrowd"), ("real", "on real data"), ("no data", "without data")):
            shown[name] = measured[column].fillna("not measured").to_numpy()
    counts = shown["in print"].value_counts()
    words = ", ".join(f"{word}: {count}" for word, count in counts.items())
    intro = (
        f"{len(shown)} claims that a number can decide. Do the paper's own printed numbers bear them out? {words}. "
        "The other columns are verdicts of measurements made here, on generated video, on real data (Mall stands for "
        "SenseCrowd there), or on the operator itself; [the readme](readme.md) says how they are reached.\n\n"
    )
    return intro + markdown(shown)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown; bars in a cell are escaped."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def _sentence(row: dict[str, str]) -> str:
    if not row["low"]:
        return f"{row['comparison']}: {row['verdict']}."
    interval = f"95 % interval {row['low']} to {row['high']}"
    return f"{row['comparison']}: {row['difference']} mAP ({interval}), *{_word(row['verdict'])}*."


def _word(verdict: str) -> str:
    return {"holds": "better", "does not hold": "worse"}.get(verdict, verdict)


def _where(claim: dict[str, str]) -> str:
    tables = ", ".join(claim["table"].split())
    return f"{claim['section']}, Table {tables}" if tables else str(claim["section"])


def _measured(path: Path) -> tuple[str, str]:
    """Methods of a notebook's experiments with and without stored results, with the number of seeds."""
    seeds: dict[str, list[bool]] = {}
    read = graph.uses(path).experiments
    if set(read) >= set(all_experiments()):
        return "reads what is stored", "–"
    for experiment in read:
        seeds.setdefault(_shown(experiment), []).append("stored" in graph.state(experiment))
    if not seeds:
        return "no training", "–"
    done = [f"{name} ({sum(found)} of {len(found)} seeds)" for name, found in seeds.items() if any(found)]
    return ", ".join(done) or "–", ", ".join(name for name, found in seeds.items() if not any(found)) or "–"


def _shown(experiment: Experiment) -> str:
    name = label(experiment.method, experiment.variant)
    return name if SOURCES[experiment.data].generated else f"{name} on {experiment.data}"

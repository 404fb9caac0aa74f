"""What of the site's start page, claims page and report page follows from results: text (Markdown) and one picture."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pandas as pd

from crowdloc.datasets import catalog
from crowdloc.models.registry import label
from crowdloc.reproduce import graph
from crowdloc.reproduce.artefacts import Artefact, artefacts, read_by, reads_whatever_is_stored, title
from crowdloc.results import ledger
from crowdloc.results.experiments import SOURCES, STAGE1, STAGE1_PRETRAINED, Experiment
from crowdloc.results.tables import read_table
from crowdloc.results.verdicts import NOT_MEASURED, steps

# What the picture compares, on generated and on real video: the frames, the attention, and one against the other.
VIDEOS = {"SynthCrowd": "II", "Mall (real video)": "Mall"}  # video -> table
PAIRS = {
    "three frames stacked − one frame": ("frame-stack", "raznet"),
    "GNANet − one frame": ("gnanet", "raznet"),
    "GNANet − three frames stacked": ("gnanet", "frame-stack"),
}
# Columns of the ledger -> what they are called on the page.
_COLUMNS = {
    "print": "in print",
    "undisputed": "undisputed",
    "synthcrowd": "on SynthCrowd",
    "real": "on real data",
    "no data": "without data",
}


def parts(report: str) -> dict[str, str | bytes]:
    """Content by file name of what `docs/*.md` include from `generated/`."""
    found = {video: steps(read_table(number), PAIRS) for video, number in VIDEOS.items()}
    return {
        "found.md": findings(found),
        "found.png": picture(found),
        "status.md": status(),
        "answers.md": answers(ledger.read()),
        "claims.md": claims(),
        "report.txt": report.rstrip() + "\n",
    }


def findings(found: Mapping[str, pd.DataFrame]) -> str:
    """The picture with its caption, and a sentence for every comparison on every video."""
    caption = (
        "GNANet attends to three frames; does that help more than stacking them, or than one frame alone (RAZNet)? "
        "Differences in mAP at σ = 20 between networks that stand behind the same trained features: mean over seeds, "
        "95 % interval over scenes and seeds. To the right of zero the first of the two is better. (σ counts pixels of "
        "a 1080-row frame on SynthCrowd and of the film's own 480-row frames on Mall.)"
    )
    lines = [f"![{caption}](generated/found.png)", "", f"*{caption}*", ""]
    for video, table in found.items():
        lines += [f"{video}:", "", *(f"- {_sentence(row)}" for row in table.to_dict("records")), ""]
    return "\n".join(lines)


def picture(found: Mapping[str, pd.DataFrame]) -> bytes:
    """The differences as a PNG: all of them on one axis, so that their sizes compare."""
    import matplotlib.pyplot as plt

    from crowdloc.figures.ablations import differences
    from crowdloc.figures.looks import style

    style()
    rows = pd.concat([table.assign(comparison=f"{video}:  " + table["comparison"]) for video, table in found.items()])
    figure = differences({"": rows})
    figure.axes[0].locator_params(axis="x", nbins=4)
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=144, metadata={"Software": None})
        plt.close(figure)
        return file.getvalue()


def status() -> str:
    """A table of all artefacts in the order of their numbers: what of each is measured, or that it has no notebook."""
    rows = []
    for found in artefacts():
        if found.path is None:
            rows.append((f"{found.number:02}: none yet", found.of_paper, "–", "all"))
        else:
            name = f"[{found.number:02} {title(found.path)}](notebooks/{found.path.name})"
            rows.append((name, found.of_paper.partition(":")[0], *_measured(found)))
    return markdown(pd.DataFrame(rows, columns=["notebook", "of the paper", "measured", "not measured"]))


def claims() -> str:
    """The stored ledger as two tables: how often each answer was given, and every claim with its answers."""
    table = ledger.read()
    where = [_where(row) for row in table.to_dict("records")]
    said = {
        "in print": [_printed(row) for row in table.to_dict("records")],
        "on SynthCrowd": table["synthcrowd"],
        "on real data": [_elsewhere(row) for row in table.to_dict("records")],
    }
    decided = [f"<br>*({words})*" if words else "" for words in table["decided by"]]
    shown = pd.DataFrame({"where": where, "claim": table["predicate"] + decided, **said})
    intro = (
        f"The paper makes {len(table)} claims that a number can decide. *In print*: do its own printed numbers bear "
        "the claim out? *Undisputed*: do they still, when cells that cannot be right together are left open (in "
        "the long table in brackets, where the answer is another)? The other columns are verdicts of measurements made "
        "here: on generated video, on real data (Mall stands for SenseCrowd), or on the operator itself, without data. "
        "They are verdicts of 95 % intervals over scenes and "
        "seeds, each claim by itself; [the file](/results/claims.csv) also has how many comparisons of a claim were "
        "measured and held, and what is left when all claims are tested together."
    )
    return f"{intro}\n\n{answers(table)}\n{markdown(shown)}"


def answers(table: pd.DataFrame) -> str:
    """How often the stored ledger gives each answer."""
    counts = ledger.summary(table).rename(columns=_COLUMNS).rename_axis("answer").reset_index()
    return markdown(counts.replace(0, "–"))


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown; bars in a cell are escaped."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def _sentence(row: dict[str, str]) -> str:
    if not row["low"]:
        return f"{row['comparison']}: {row['verdict']}."
    alone = row["after Holm"] == row["verdict"]
    together = "" if alone else f" by itself, *{_word(row['after Holm'])}* when all three are tested together"
    difference, low, high = (row[name].replace("-", "−") for name in ("difference", "low", "high"))
    return (
        f"{row['comparison']}: {difference} mAP (95 % interval {low} to {high}), *{_word(row['verdict'])}*{together}."
    )


def _word(verdict: str) -> str:
    return {"holds": "better", "does not hold": "worse"}.get(verdict, verdict)


def _printed(claim: dict[str, str]) -> str:
    """The answer of the printed numbers, and the undisputed one where it differs."""
    alike = claim["undisputed"] == claim["print"]
    return claim["print"] if alike else f"{claim['print']} ({claim['undisputed']})"


def _elsewhere(claim: dict[str, str]) -> str:
    """The verdict on real data with the data it is from, or the one that needs none."""
    if claim["no data"]:
        return f"{claim['no data']} (without data)"
    verdict, data = claim["real"], claim["real data"]
    if verdict in (ledger.NOT_APPLICABLE, NOT_MEASURED) or not data:
        return verdict
    return f"{verdict} ({', '.join(map(catalog.label, data.split()))})"


def _where(claim: dict[str, str]) -> str:
    tables = ", ".join(claim["table"].split())
    return f"{claim['section']}, Table {tables}" if tables else str(claim["section"])


def _measured(artefact: Artefact) -> tuple[str, str]:
    """Methods of an artefact's experiments with and without stored results."""
    seeds: dict[str, list[bool]] = {}
    read = read_by(artefact)
    if reads_whatever_is_stored(read):
        return "reads what is stored", "–"
    for experiment in read:
        if experiment.variant in (STAGE1, STAGE1_PRETRAINED):  # no result: others start from its weights
            continue
        seeds.setdefault(_shown(experiment), []).append("stored" in graph.state(experiment))
    if not seeds:
        return "no training", "–"
    groups: dict[str, list[str]] = {}  # names by how many of their seeds are stored
    for name, found in seeds.items():
        count = sum(found) if all(found) else f"{sum(found)} of {len(found)}"
        groups.setdefault(f"{count} seed{'s' * (len(found) > 1)}", []).append(name)
    done = "; ".join(f"{count}: {', '.join(names)}" for count, names in groups.items() if not count.startswith("0 "))
    return done or "–", ", ".join(name for name, found in seeds.items() if not any(found)) or "–"


def _shown(experiment: Experiment) -> str:
    name = label(experiment.method, experiment.variant)
    return name if SOURCES[experiment.data].generated else f"{name} on {catalog.label(experiment.data)}"

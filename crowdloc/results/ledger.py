"""The claims ledger, `results/claims.csv`: every claim of the paper with one verdict from each kind of number.

`python -m crowdloc.results.ledger` brings it up to date: only verdicts whose inputs changed are computed again (seconds
to minutes); `--all` computes every one. A claim that compares several cells has one verdict from all of them, by the
rules of `crowdloc.paper.check_claims` in print and of `crowdloc.results.verdicts` where something was measured.

Columns:
    id, section, table, predicate: as in `results/paper/claims.csv`.
    print, print parts: the answer of the paper's own numbers, and "held/all" of its comparisons.
    undisputed: the same with every cell open that cannot be right together with others (`crowdloc.paper.repairs`).
    synthcrowd, real: verdicts of measured runs on generated and real data; "… parts" is "held/measured/all",
    … after Holm: the verdict if all claims on that kind of data are tested together at 5 %; "real data" says which.
    no data: verdicts on the operator itself, which need no data set.
    decided by: files that decide what no cell of a table does, here or on a side (`crowdloc.results.decisions`).

`results/claims.json` holds, for each verdict, the p-value and a digest of all it was computed from.

On generated data a domain of SynthCrowd stands for each data set of the paper. On real data the set itself is taken
where it was measured; Mall stands for SenseCrowd, the other set of street video with heads marked in every frame.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from crowdloc import paper
from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write, read_json, write_json
from crowdloc.datasets import census
from crowdloc.paper import Cell, repairs
from crowdloc.results import decisions, runs
from crowdloc.results import evidence as ev
from crowdloc.results.experiments import Experiment, all_experiments
from crowdloc.results.manifest import accept, sha256
from crowdloc.results.tables import paper_rows
from crowdloc.results.verdicts import NOT_MEASURED, Row, after_holm, verdicts

TABLE, INPUTS = "claims.csv", "claims.json"
SIDES: dict[str, dict[str, tuple[str, ...]]] = {  # data set of the paper -> data that may stand for it, the first found
    "synthcrowd": {
        "SenseCrowd": ("synthcrowd-sense",),
        "FDST": ("synthcrowd-fdst",),
        "ShanghaiTech A": ("synthcrowd-sha",),
        "ShanghaiTech B": ("synthcrowd-shb",),
    },
    "real": {
        "SenseCrowd": ("sensecrowd", "mall"),
        "FDST": ("fdst",),
        "ShanghaiTech A": ("shanghaitech_a",),
        "ShanghaiTech B": ("shanghaitech_b",),
    },
}
NOT_APPLICABLE = "not applicable"  # the claim is about the paper's tables, or about the sizes of real sets
_PRINTED_ONLY = "the printed tables"  # `decidable_by` of claims that compare rows of one model
_COUNTED = {"ucsd": "UCSD", "mall": "Mall", "worldexpo": "WorldExpo", "fdst": "FDST", "dronecrowd": "DroneCrowd",
            "sensecrowd": "SenseCrowd"}  # fmt: skip
Numbers = dict[Cell, float | Mapping[int, float]]


def ledger(*, anew: bool = False) -> tuple[pd.DataFrame, dict[str, dict[str, dict[str, Any]]]]:
    """The table and, by side and claim, p-values and digests of inputs, of what is stored now.

    Args:
        anew: compute every verdict, also those whose inputs are what they were when the stored ledger was made.
    """
    printed = paper.check_claims()
    before, known = (None, {}) if anew else _stored()
    columns: dict[str, list[str]] = {
        "print": printed["holds_in_print"].tolist(),
        "print parts": [f"{row.held}/{row.parts}" if row.parts else "" for row in printed.itertuples()],
        "undisputed": repairs.open_claims()["holds_whatever"].tolist(),
    }
    state: dict[str, dict[str, dict[str, Any]]] = {}
    for side in SIDES:
        found = _side(side, before, known.get(side, {}))
        state[side] = {row.Index: {"p": _json(row.p), "inputs": row.inputs} for row in found.itertuples() if row.inputs}
        columns |= {side: found["verdict"].tolist(), f"{side} parts": found["parts"].tolist()}
        columns[f"{side} after Holm"] = after_holm(found["verdict"].tolist(), found["p"].tolist())
        if side == "real":
            columns["real data"] = found["data"].tolist()
    decided = decisions.without_data(paths.RESULTS)
    columns["no data"] = [decided[id].verdict if id in decided else "" for id in printed["id"]]
    sources = [decided, *(_decided(side) for side in SIDES)]
    columns["decided by"] = [
        "; ".join(f"{found[id].source}: {found[id].words}" for found in sources if id in found) for id in printed["id"]
    ]
    return printed[["id", "section", "table", "predicate"]].assign(**columns), state


def update(*, anew: bool = False) -> bool:
    """Bring the stored ledger and the manifest up to date; returns whether anything changed."""
    table, state = ledger(anew=anew)
    with atomic_write(paths.RESULTS / TABLE) as temporary:
        temporary.write_text(as_csv(table), encoding="utf-8")
    write_json(paths.RESULTS / INPUTS, state)
    return bool(accept(paths.RESULTS, [paths.RESULTS / TABLE, paths.RESULTS / INPUTS]))


def read() -> pd.DataFrame:
    """The stored ledger as texts, in the paper's order.

    Raises:
        CrowdlocError: it is missing or damaged.
    """
    path = paths.RESULTS / TABLE
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if not {"id", "print", *SIDES} <= set(table.columns):
            raise ValueError
    except (OSError, ValueError):
        raise CrowdlocError(f"{path} cannot be read: python -m crowdloc.results.ledger makes it again") from None
    return table


def outdated() -> list[str]:
    """Verdicts of the stored ledger that were computed from other inputs than are stored now: "real: claim"."""
    _, known = _stored()
    found = []
    for side in SIDES:
        inputs = _inputs(side)
        kept = known.get(side, {})
        found += [f"{side}: {c}" for c in sorted({*inputs, *kept}) if inputs.get(c) != kept.get(c, {}).get("inputs")]
    return found


def as_csv(table: pd.DataFrame) -> str:
    """The text of the stored file."""
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue()


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """How many claims have which answer: columns print, undisputed, synthcrowd, real, no data."""
    columns = ["print", "undisputed", *SIDES, "no data"]
    counts = pd.DataFrame({column: table[column].value_counts() for column in columns}).drop("", errors="ignore")
    order = ["yes", "partly", "no", "undecidable", "not printed", "holds", "does not hold", "inconclusive"]
    rest = [word for word in counts.index if word not in order]
    return counts.reindex([word for word in order if word in counts.index] + sorted(rest)).fillna(0).astype(int)


def _stored() -> tuple[pd.DataFrame | None, dict[str, dict[str, dict[str, Any]]]]:
    """What is stored, if both files are whole."""
    try:
        return read().set_index("id"), read_json(paths.RESULTS / INPUTS)
    except CrowdlocError:
        return None, {}


def _side(side: str, before: pd.DataFrame | None, known: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Index id; verdict, parts, data, p, inputs of every claim on one kind of data; unchanged ones from the ledger."""
    claims, inputs = paper.claims().set_index("id"), _inputs(side)
    rows = {id: _nothing(side, claim) for id, claim in claims.iterrows()}
    stale = []
    for id, digest in inputs.items():
        kept = known.get(id, {})
        if before is not None and id in before.index and kept.get("inputs") == digest:
            p = math.nan if kept["p"] is None else float(kept["p"])
            old = before.loc[id]
            rows[id] = (old[side], old[f"{side} parts"], old["real data"] if side == "real" else "", p, digest)
        else:
            stale.append(id)
    if stale:
        standing, decided = _standing(side), _decided(side)
        needed = {row for id in stale for row in _rows(id)} & set(standing)
        measured = {row: runs.read_all(standing[row]) for row in sorted(needed)}
        words = {id: found.verdict for id, found in decided.items()}
        for row in verdicts(measured, numbers=_numbers(side), decided=words, claims=stale).to_dict("records"):
            data = sorted({e.data for r in _rows(row["id"]) & needed for e in standing[r]})
            parts = f"{row['held']}/{row['measured']}/{row['parts']}" if row["parts"] else ""
            p = float(f"{row['p_value']:.4g}")
            rows[row["id"]] = (row["verdict"], parts, ", ".join(data), p, inputs[row["id"]])
    return pd.DataFrame.from_dict(rows, orient="index", columns=["verdict", "parts", "data", "p", "inputs"])


def _nothing(side: str, claim: Mapping[str, str]) -> tuple[str, str, str, float, str]:
    """The row of a claim for which nothing is stored."""
    about_sizes = side == "synthcrowd" and claim["relation"] != "measured" and claim["table"] in ("", "I")
    word = NOT_APPLICABLE if about_sizes or claim["decidable_by"] == _PRINTED_ONLY else NOT_MEASURED
    return word, "", "", math.nan, ""


def _inputs(side: str) -> dict[str, str]:
    """By claim a digest of everything its verdict is computed from, for claims of which any cell was measured."""
    standing, numbers, decided = _standing(side), _numbers(side), _decided(side)
    hashes: dict[Experiment, list[str]] = {}
    found = {}
    for claim in paper.claims().to_dict("records"):
        if claim["decidable_by"] == _PRINTED_ONLY:
            continue
        rows = sorted(_rows(claim["id"]) & set(standing))
        cells = {cell for part in repairs.by_claim().get(claim["id"], ()) for _, cell in part.terms} & set(numbers)
        if not rows and not cells and claim["id"] not in decided:
            continue
        parts: list[Any] = [claim, sorted((str(cell), str(numbers[cell])) for cell in cells), decided.get(claim["id"])]
        for row in rows:
            for experiment in standing[row]:
                if experiment not in hashes:
                    hashes[experiment] = [sha256(path) for path in _files(experiment)]
                parts.append([row, experiment.id, hashes[experiment]])
        text = json.dumps(parts, ensure_ascii=False, sort_keys=True)
        found[claim["id"]] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def _files(experiment: Experiment) -> list[Path]:
    """The files of a stored result that verdicts are computed from."""
    folder = runs.stored(experiment)
    heads = [ev.truth_file(folder)] if experiment.source.generated else []
    return [folder / runs.METRICS, *ev.evidence_files(folder), *(path for path in heads if path.is_file())]


def _standing(side: str) -> dict[Row, list[Experiment]]:
    """Stored experiments by the rows of the paper's tables that they stand for."""
    stored = [e for e in all_experiments() if runs.is_stored(e)]
    found: dict[Row, list[Experiment]] = {}
    for dataset, choice in SIDES[side].items():
        data = next((name for name in choice if any(e.data == name for e in stored)), None)
        for experiment in (e for e in stored if e.data == data):
            for number in paper.NUMBERS:
                for row in paper_rows(number, experiment.name):
                    found.setdefault(Row(number, dataset, row), []).append(experiment)
    return found


def _decided(side: str) -> dict[str, decisions.Decision]:
    return decisions.on_data(paths.RESULTS, SIDES[side]["SenseCrowd"])


def _numbers(side: str) -> Numbers:
    """Cells that come from no evidence: Table X on generated data, on real data the sizes of the sets."""
    if side == "synthcrowd":
        return {**decisions.from_studies(paths.RESULTS)}
    found: Numbers = {}
    for name, dataset in _COUNTED.items():
        if (content := census.read(name)) is not None:
            for metric in ("frames", "annotations"):
                found[Cell("I", dataset, dataset, None, metric)] = float(content[metric])
            for metric in ("width", "height"):
                found[Cell("I", dataset, dataset, None, metric)] = float(content[metric][1])
    return found


def _rows(claim: str) -> set[Row]:
    """Rows of the paper's tables that a claim compares."""
    parts = repairs.by_claim().get(claim, ())
    return {Row(cell.table, cell.dataset, cell.row) for part in parts for _, cell in part.terms}


def _json(p: float) -> float | None:
    return None if math.isnan(p) else p


def main(arguments: Iterable[str] | None = None) -> None:
    """Bring results/claims.csv up to date with what is stored."""
    parser = argparse.ArgumentParser(prog="python -m crowdloc.results.ledger", description=main.__doc__)
    parser.add_argument(
        "--all", action="store_true", help="compute every verdict, also from inputs that did not change"
    )
    options = parser.parse_args(None if arguments is None else list(arguments))
    stale = outdated()
    changed = update(anew=options.all)
    print(f"{len(stale)} verdicts had other inputs; {TABLE} {'changed' if changed else 'is unchanged'}")


if __name__ == "__main__":
    main()

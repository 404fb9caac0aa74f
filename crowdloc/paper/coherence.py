"""Whether the paper's numbers agree with each other: rows that are one model, sums and rates, times, patterns.

The rules here are weaker than those of `crowdloc.paper.feasibility`: what breaks one of them is odd, or needs a word of
explanation, but it may be right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd
from scipy import stats

from crowdloc.paper.feasibility import methods
from crowdloc.paper.predicates import check_claims
from crowdloc.paper.tables import COLUMNS, NUMBERS, Cell, cells, roundings, table

TESTS = 5  # "based on 5 times of test" (V-E1)
_FEW = 0.2  # of a cell's siblings, for it to be unusual
_FAR = 3.5  # robust standard deviations from the siblings' median
# Rows that describe one model: the paper says with which settings its ablations were made (V-D, V-E1, captions).
SAME = {
    "one focus γ = 5, 32 points, 3 samplings": (
        ("IX", "GNANet"), ("XI", "32"), ("XII", "5"), ("VIII", "SM + K-GNA + T-GNA"), ("X", "3"),
    ),
    "the full model": (("II", "GNANet"), ("VIII", "SM + K-GNA + T-GNA + MF")),
}  # fmt: skip


class Statement(NamedTuple):
    """A number of the text beside what other printed numbers make of it; it agrees within [low, high]."""

    section: str
    what: str
    printed: str
    computed: float
    low: float
    high: float


def coinciding() -> pd.DataFrame:
    """Rows that are the same model: do their shared cells have the same digits?

    Returns:
        `model`, `sigma`, `rows` ("IX GNANet = XI 32 = …"), `cells` compared, `differ` (names of those that do not
        agree).
    """
    found = []
    for model, rows in SAME.items():
        for sigma in (5, 20, 40):
            parts = {f"{number} {row}": _scores(number, row, sigma) for number, row in rows}
            parts = {name: values for name, values in parts.items() if values}
            if len(parts) < 2:
                continue
            shared = [m for m in COLUMNS if sum(m in values for values in parts.values()) > 1]
            differ = [m for m in shared if len({values[m] for values in parts.values() if m in values}) > 1]
            compared = sum(sum(m in values for values in parts.values()) - 1 for m in shared)
            found.append((model, sigma, " = ".join(parts), compared, ", ".join(differ)))
    return pd.DataFrame(found, columns=["model", "sigma", "rows", "cells", "differ"])


def arithmetic() -> pd.DataFrame:
    """Sums and rates of the data-set section and of the method's, computed again from other printed numbers.

    Returns:
        `section`, `what`, `printed`, `computed` (text), `agrees` (True within the rounding of what is printed).
    """
    rows = [
        (
            s.section,
            s.what,
            s.printed,
            f"{s.computed:,.1f}".removesuffix(".0"),
            s.low - 1e-9 <= s.computed <= s.high + 1e-9,
        )
        for s in _statements()
    ]
    return pd.DataFrame(rows, columns=["section", "what", "printed", "computed", "agrees"])


def times() -> pd.DataFrame:
    """Table X: what a frame costs with 1, 3 and 5 samplings, and how far its scores scatter.

    Returns:
        Index `samplings`; `FPS`; `ms` per frame, and `ms per sampling` that one more sampling adds to the row before,
        with the `low` and `high` that the rounding of both allows; `linear FPS`, the speed that the first two rows
        foretell; for mAP and mAR the printed deviation, what `1/√S` makes of the first row's, and `p`, how often a
        ratio of deviations as far or farther from 1/√S comes by chance from five tests each (F-test, two-sided).
    """
    numbers, errors = cells(), roundings()
    at = {s: Cell("X", "SenseCrowd", str(s), 20, "FPS") for s in (1, 3, 5)}
    span = {s: (1000 / (numbers[c] + errors[c]), 1000 / (numbers[c] - errors[c])) for s, c in at.items()}
    cost = {s: 1000 / numbers[c] for s, c in at.items()}
    rows: dict[int, dict[str, float]] = {}
    for before, samplings in ((None, 1), (1, 3), (3, 5)):
        row = {"FPS": numbers[at[samplings]], "ms": cost[samplings]}
        if before is not None:
            more = samplings - before
            row["ms per sampling"] = (cost[samplings] - cost[before]) / more
            row["low"] = (span[samplings][0] - span[before][1]) / more
            row["high"] = (span[samplings][1] - span[before][0]) / more
        row["linear FPS"] = 1000 / (cost[1] + (cost[3] - cost[1]) / 2 * (samplings - 1))
        for metric in ("mAP", "mAR"):
            one, this = (numbers[Cell("X", "SenseCrowd", str(s), 20, f"{metric} deviation")] for s in (1, samplings))
            ratio = this**2 / (one**2 / samplings)
            tail = stats.f.cdf(ratio, TESTS - 1, TESTS - 1)
            row |= {f"± {metric}": this, f"± {metric} by 1/√S": one / math.sqrt(samplings)}
            row[f"p {metric}"] = 2 * min(tail, 1 - tail) if samplings > 1 else math.nan
        rows[samplings] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("samplings")


def unusual() -> pd.DataFrame:
    """Cells off the pattern of their siblings, the rows of the same σ and kind (AP or AR) of all tables.

    Two rules on the distance from the mean to the .75 cell: the mean lies on the other side of it than in four fifths
    of the siblings, or the distance is more than 3.5 robust deviations from their median. Methods of another sort (a
    detector among maps) break them as well as slips do.

    Returns:
        `table, dataset, row, sigma, kind`, the three cells as `x.50`, `x.75`, `mean`, and `rules` broken ("side",
        "distance").
    """
    rows = []
    for (number, dataset, row), values in methods(pd.concat([table(n) for n in NUMBERS if n != "X"])).items():
        for sigma in sorted({sigma for sigma, _ in values}):
            for kind in ("AP", "AR"):
                three = [values[sigma, f"{kind}.50"], values[sigma, f"{kind}.75"], values[sigma, f"m{kind}"]]
                rows.append((number, dataset, row, sigma, kind, *three))
    frame = pd.DataFrame(rows, columns=["table", "dataset", "row", "sigma", "kind", "x.50", "x.75", "mean"])
    frame["distance"] = (frame["x.75"] - frame["mean"]).round(6)
    one_each = frame.drop_duplicates(["sigma", "kind", "x.50", "x.75", "mean"])  # rows that repeat a model count once
    siblings = one_each.groupby(["sigma", "kind"])["distance"]
    place = pd.MultiIndex.from_frame(frame[["sigma", "kind"]])
    median = siblings.median().reindex(place).to_numpy()
    spread = 1.4826 * siblings.agg(lambda d: (d - d.median()).abs().median()).reindex(place).to_numpy()
    above = siblings.agg(lambda d: (d < 0).mean()).reindex(place).to_numpy()
    side = (frame["distance"] < 0) & (above <= _FEW)
    far = (frame["distance"] - median).abs() > _FAR * spread
    rules = [
        " and ".join(word for word, broken in (("side", s), ("distance", f)) if broken)
        for s, f in zip(side, far, strict=True)
    ]
    return frame.drop(columns="distance").assign(rules=rules).query("rules != ''").reset_index(drop=True)


def text_against_tables() -> pd.DataFrame:
    """Claims of the text that the tables do not bear out in every cell they speak of.

    Returns:
        `id`, `section`, `quote`, `predicate`, `parts`, `failed`, `undecidable`, `holds_in_print` ("partly", "no" or
        "undecidable") and `exceptions`, fewest parts failed first.
    """
    found = check_claims()
    found = found[found["holds_in_print"].isin(("partly", "no", "undecidable"))]
    found = found.assign(failed=found["parts"] - found["held"] - found["undecidable"])
    columns = ["id", "section", "quote", "predicate", "parts", "failed", "undecidable", "holds_in_print", "exceptions"]
    return found.sort_values(["failed", "undecidable"], kind="stable")[columns].reset_index(drop=True)


def _scores(number: str, row: str, sigma: int) -> dict[str, str]:
    """Printed scores of a row at one σ."""
    rows = table(number)
    rows = rows[(rows["row"] == row) & (rows["sigma"] == sigma) & rows["metric"].isin(COLUMNS)]
    return dict(zip(rows["metric"], rows["printed"], strict=True))


def _statements() -> Iterator[Statement]:
    sense = {
        metric: cells()[Cell("I", "SenseCrowd", "SenseCrowd", None, metric)] for metric in ("frames", "annotations")
    }
    frames, heads, shots = sense["frames"], sense["annotations"], 634.0
    yield Statement("Abstract", "frames, more than", "60K+", frames, 60_000, math.inf)
    yield Statement("Abstract", "annotations, more than", "2M+", heads, 2_000_000, math.inf)
    yield Statement("III", "frames of 20 s at 5 a second", "approximately 100", 20 * 5.0, 95, 105)
    yield Statement("III", "frames in a shot: 62,938 / 634", "approximately 100", frames / shots, 95, 105)
    yield Statement("III", "heads in a shot: 2,344,276 / 634", "3,698", heads / shots, 3697.5, 3698.5)
    yield Statement("III", "heads in a frame: 2,344,276 / 62,938", "37", heads / frames, 36.5, 37.5)
    yield Statement("III", "shots: 497 + 137", "634", 497 + 137.0, 634, 634)
    yield Statement("III", "training shots, %: 497 / 634", "78.4", 100 * 497 / shots, 78.35, 78.45)
    yield Statement("III", "test shots, %: 137 / 634", "21.6", 100 * 137 / shots, 21.55, 21.65)
    fdst = cells()[Cell("I", "FDST", "FDST", None, "annotations")]
    yield Statement("V-B2", "annotations of FDST, Table I", "394,000", fdst, 393_500, 394_500)
    yield Statement("IV-B2", "input channels: 3 frames of 512", "1,536", 3 * 512.0, 1536, 1536)
    yield Statement("IV-B1", "keyframe of m = 3: floor(m / 2), 0-based", "the middle frame", 3 // 2, 1, 1)
    pairs = [(c, c._replace(metric="MSE")) for c in cells() if c.table in ("VI", "VII") and c.metric == "MAE"]
    ordered = sum(cells()[mae] <= cells()[mse] for mae, mse in pairs)
    yield Statement(
        "V-C", "pairs with MAE ≤ MSE, a root mean square", f"{len(pairs)} pairs", ordered, len(pairs), len(pairs)
    )

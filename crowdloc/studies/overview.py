"""Table I beside the files: the tables of notebook 01, from the paper, the stored censuses and this run."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crowdloc import paper
from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets import census
from crowdloc.datasets.catalog import FACTS, label
from crowdloc.datasets.files import choose
from crowdloc.results.runs import DEPTHS

Censuses = Mapping[str, dict[str, Any]]
NOT_MEASURED = "not measured"
# Rows of Table I; the two parts of ShanghaiTech, which have no row there, are compared with their own paper.
_PAPER = {"ucsd": "UCSD", "mall": "Mall", "worldexpo": "WorldExpo", "fdst": "FDST", "dronecrowd": "DroneCrowd",
          "sensecrowd": "SenseCrowd"}  # fmt: skip
_SETS = (*_PAPER, "shanghaitech_a", "shanghaitech_b")
_WIDTHS = "head_widths.csv"
QUANTITIES = ("heads per frame", "nearest head", "head width")


def real_root(source: str, data_root: str | PathLike[str] = "") -> Path | None:
    """Folder of the real sets to read now, or None: at the depth "stored" only a folder that is named counts.

    Raises CrowdlocError for an unknown depth and for a folder that is not there.
    """
    choose("source", source, DEPTHS)
    if data_root or (source != "stored" and paths.data_root()):
        return paths.require_data_root(data_root)
    return None


def this_run(source: str, root: Path | None) -> dict[str, dict[str, Any]]:
    """Measure again: one domain of SynthCrowd, at the deeper depths all; the real sets that `root` holds."""
    names = list(census.GENERATED[:1] if source == "stored" else census.GENERATED)
    names += [name for name in census.REAL if root is not None and census.is_present(name, root)]
    return {name: census.measure(name, root, progress=False) for name in names}


def stored() -> dict[str, dict[str, Any]]:
    """The stored censuses by name."""
    found = {name: census.read(name) for name in census.NAMES}
    return {name: content for name, content in found.items() if content is not None}


def totals(now: Censuses) -> pd.DataFrame:
    """Frames, heads and heads per frame: what is printed, stored and found now; texts."""
    printed = paper.table("I", wide=True).set_index("dataset")
    kept = stored()
    rows = []
    for name in [*_SETS, *census.GENERATED]:
        if name in _PAPER:
            row = printed.loc[_PAPER[name]]
            rows.append(_total(name, "paper", row["resolution"], int(row["frames"]), int(row["annotations"])))
        elif name in FACTS:
            facts = FACTS[name]
            rows.append(_total(name, facts.published_in, "·", facts.frames, facts.annotations))
        measured = [(kind, found[name]) for kind, found in (("stored", kept), ("this run", now)) if name in found]
        for kind, found in measured:
            rows.append(_total(name, kind, resolution(found), found["frames"], found["annotations"]))
        if not measured:
            rows.append(dict.fromkeys(rows[-1], "·") | {"data set": label(name), "numbers": NOT_MEASURED})
    return pd.DataFrame(rows)


def _total(name: str, kind: str, size: str, frames: int, heads: int) -> dict[str, str]:
    return {
        "data set": label(name),
        "numbers": kind,
        "resolution": size,
        "frames": f"{frames:,}",
        "heads": f"{heads:,}",
        "heads per frame": f"{heads / frames:.1f}",
    }


def resolution(found: Mapping[str, Any]) -> str:
    """The image sizes of a census in the paper's notation, ranges where they vary."""
    if not found["sizes"]:
        return "·"
    sides = (f"{low}" if low == high else f"{low}–{high}" for low, high in (found["width"], found["height"]))
    return "×".join(sides)


def findings() -> pd.DataFrame:
    """What the files of the real sets hold besides totals: a column per stored census; texts."""
    rows = {
        "images present": "images",
        "images absent": "absent",
        "broken files": "broken",
        "images that are copies": "copies",
        "fewest heads in a frame": "fewest",
        "most heads in a frame": "most",
        "frames without heads": "empty",
        "points outside the image": "outside",
        "… in so many images": "outside images",
        "… farthest, pixels": "farthest",
        "points repeated": "repeated",
    }
    columns = {label(n): [f"{found[key]:,.0f}" for key in rows.values()] for n, found in stored().items() if n in FACTS}
    return pd.DataFrame(columns, index=pd.Index(rows))


def agreement(now: Censuses) -> str:
    """A line per data set: whether this run equals what is stored."""
    kept = stored()
    width = max(len(label(name)) for name in census.NAMES)
    return "\n".join(
        f"{label(name):{width}}  "
        + (census.verdict(now[name], kept.get(name)) if name in now else "not measured in this run")
        for name in census.NAMES
        if name in now or name in kept
    )


def doubts() -> pd.DataFrame:
    """What is wrong or odd about Table I, from the published-numbers audit and the errata; texts."""
    odd = paper.suspicious().query("table == 'I'")
    slips = paper.errata()
    slips = slips[slips["problem"].str.contains("Table I has") | (slips["section"] == "Table I")]
    rows = [(f"Table I, {r.row}", r.printed, r.reason) for r in odd.itertuples()]
    rows += [(r.section, r.printed, r.problem) for r in slips.itertuples()]
    return pd.DataFrame(rows, columns=["where", "printed", "problem"])


def contents() -> pd.DataFrame:
    """Scenes, frames and heads of SynthCrowd's splits, from the stored censuses; index (domain, split)."""
    rows = {}
    for name in census.GENERATED:
        for split, found in (census.read(name) or {"splits": {}})["splits"].items():
            rows[name.partition("-")[2], split] = {
                "scenes": found["scenes"],
                "frames": found["frames"],
                "heads": found["heads"],
                "mean": found["heads"] / found["frames"],
                "fewest": found["fewest"],
                "most": found["most"],
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["domain", "split"])


def head_widths() -> pd.DataFrame:
    """Head widths read by eye: `name` of the census, image `rows`, `read` pixels (missing: not legible), `true`.

    `true` is known for SynthCrowd only; how the heads were chosen and read stands in results/datasets/README.md.
    """
    path = paths.RESULTS / "datasets" / _WIDTHS
    try:
        return pd.read_csv(path, dtype={"name": str, "rows": float, "read": float, "true": float})
    except (OSError, ValueError):
        raise CrowdlocError(f"{path} cannot be read: restore it from version control") from None


def reading_ratio() -> tuple[float, float, int]:
    """Read over true head width on SynthCrowd: mean, standard deviation and number of heads."""
    known = head_widths().dropna()
    ratio = known["read"] / known["true"]
    return float(ratio.mean()), float(ratio.std()), len(ratio)


def read_widths() -> dict[str, np.ndarray]:
    """Head widths of the real sets in pixels of images with census.HEIGHT rows, corrected by the reading ratio."""
    table = head_widths().dropna(subset="read")
    table = table[table["true"].isna()]
    width = table["read"] * census.HEIGHT / table["rows"] / reading_ratio()[0]
    return {str(name): np.sort(values.to_numpy()) for name, values in width.groupby(table["name"])}


def imitated() -> dict[str, tuple[str, float]]:
    """Heads per frame of the sets that two domains stand for, by Table I: domain -> (printed name, mean)."""
    printed = paper.table("I", wide=True).set_index("dataset")[["frames", "annotations"]].astype(int)
    mean = printed["annotations"] / printed["frames"]
    pairs = {"synthcrowd-sense": "SenseCrowd", "synthcrowd-fdst": "FDST"}
    return {domain: (name, float(mean[name])) for domain, name in pairs.items()}


def quantiles() -> pd.DataFrame:
    """Quantiles of every stored distribution; index (quantity, data set), columns n and the levels in percent.

    Head widths of real sets are those read by eye.
    """
    rows = {}
    read = read_widths()
    for quantity in QUANTITIES:
        for name, found in stored().items():
            if quantity in found["distributions"]:
                spread = found["distributions"][quantity]
                rows[quantity, label(name)] = [spread["n"], *spread["quantiles"]]
            elif quantity == "head width" and name in read:
                rows[quantity, label(name)] = [len(read[name]), *np.percentile(read[name], found["levels"])]
    columns = ["n", *(f"{level} %" for level in census.LEVELS)]
    index = pd.MultiIndex.from_tuples(rows, names=["quantity", "data set"])
    return pd.DataFrame(rows.values(), index=index, columns=columns).astype({"n": int})


def crowding() -> pd.DataFrame:
    """Median of every quantity, and how many head widths the nearest head is away; index: the data set."""
    medians = quantiles()["50 %"].unstack("quantity")[list(QUANTITIES)]
    medians["nearest in head widths"] = medians["nearest head"] / medians["head width"]
    order = [label(name) for name in stored()]
    return medians.loc[[name for name in order if name in medians.index]]

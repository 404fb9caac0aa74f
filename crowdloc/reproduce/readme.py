"""The numbers of README.md, written from `results/`: `python -m crowdloc.reproduce.readme` brings them up to date.

What is generated stands between `<!-- generated: NAME -->` and `<!-- end -->`, for every name of `BLOCKS`; the rest of
the file is prose. A test compares the two, so a result that comes in asks for this command.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from crowdloc import paper
from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write, read_json
from crowdloc.paper import feasibility
from crowdloc.reproduce import frontpage, notebooks
from crowdloc.results import ledger
from crowdloc.results.seeds import counting_table
from crowdloc.results.tables import NOT_MEASURED, Table, compare, paper_rows, read_table, shown_name
from crowdloc.results.verdicts import FRAGILE, steps
from crowdloc.studies import kernels

README = "README.md"
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_WORDS = {"holds": "better", "does not hold": "worse", "inconclusive": "undecided"}
_STACK = "three frames stacked − one frame"
_ONE, _STACKED = "GNANet − one frame", "GNANet − three frames stacked"
_RANDOM = "Gaussian − random"
_APART, _APART_GNANET = "told apart − added", "told apart − GNANet"
_TOLD_APART = {_APART: ("stanet.concat", "stanet"), _APART_GNANET: ("stanet.concat", "gnanet")}
# What the tables of main numbers are about -> table, data set, and what σ is counted in: they do not compare.
_PHOTOS = {"A": "IV", "B": "V"}
_OWN = "the image. In brackets what the paper prints for the same test images"
_MAIN = {
    **{
        video: (frontpage.VIDEOS[video], None, pixels)
        for video, pixels in (
            ("SynthCrowd", "a 1080-row frame"),
            ("Mall (real video)", "the film's own 480-row frames"),
        )
    },
    **{f"ShanghaiTech {part}": (number, f"shanghaitech_{part.lower()}", _OWN) for part, number in _PHOTOS.items()},
}


def updated(text: str, content: Mapping[str, str]) -> str:
    """README.md with other content, by name, in its blocks.

    Raises:
        CrowdlocError: a block that is not known, or one that is missing.
    """
    names = [match[2] for match in _BLOCK.finditer(text)]
    if sorted(names) != sorted(content):
        raise CrowdlocError(f"{README} has the generated blocks {', '.join(names) or 'none'}, not {', '.join(content)}")
    return _BLOCK.sub(lambda match: f"{match[1]}{content[match[2]].strip()}\n{match[3]}", text)


def found() -> str:
    """What was found, a line each, and what was not measured."""
    table = read_table("II")
    ours = _rows(table, frontpage.PAIRS, 20) | _rows(table, {_ONE: frontpage.PAIRS[_ONE]}, 5)
    cells = _rows(read_table("IX"), {_RANDOM: ("gnanet.gamma5", "gnanet.random")}, 20)
    real = _rows(read_table("Mall"), frontpage.PAIRS, 20)
    told = _rows({**table, **read_table("Order")}, _TOLD_APART, 20)
    photos = {part: rows for part in _PHOTOS if (rows := _on_photos(part))[20]["low"]}  # those that are measured
    lines = [
        f"**GNANet against one frame** (RAZNet), SynthCrowd: {said(ours[_ONE, 20])}; at σ = 5 {said(ours[_ONE, 5])} "
        f"({_link(2)}).",
        f"**GNANet against the same three frames simply stacked**, SynthCrowd: {said(ours[_STACKED, 20])}; stacking "
        f"against one frame: {said(ours[_STACK, 20])} ({_link(2)}; {_link(8)} takes the network apart).",
        "**STANet adds its two frames**, a sum that is the same in either order; if they are concatenated instead, it "
        f"is {said(told[_APART, 20])}, and against GNANet {said(told[_APART_GNANET, 20])} ({_link(2)}).",
        f"**Gaussian neighbours against cells drawn anywhere**, SynthCrowd: {said(cells[_RANDOM, 20])} ({_link(9)}). "
        f"The bound of Appendix A is {_bound()} ({_link(16)}).",
        f"**Real video** (Mall, one camera), GNANet against one frame: {said(real[_ONE, 20])}; the paper's gain on "
        f"SenseCrowd is {_signed(_printed_gain())} ({_link(20)}).",
        "**Real photographs** (ShanghaiTech), S-GNANet, which attends within one image, against RAZNet: "
        + "; ".join(
            f"part {part} {said(rows[20])}, at σ = 5 {said(rows[5])} ({_link(paper.NUMBERS.index(_PHOTOS[part]) + 1)})"
            for part, rows in photos.items()
        )
        + ".",
        f"**The paper's tables**: {_impossible()} have printed cells that cannot be right together ({_link(17)}).",
    ]
    return "\n".join(f"- {line}" for line in lines) + f"\n\nNot measured: {'; '.join(not_measured())}."


def not_measured() -> list[str]:
    """What has no number here, in words."""
    there = {int(path.stem[:2]) for path in notebooks.numbered()}
    tables = [name for place, name in enumerate(paper.NUMBERS, 1) if place not in there]
    rows = compare("II").groupby("method", sort=False)["verdict"].agg(lambda words: (words == NOT_MEASURED).all())
    missing = ["SenseCrowd itself"] + [f"Tables {', '.join(tables)}"] * bool(tables)
    if rows.any():
        missing.append(f"{', '.join(rows.index[rows])} in Table II")
    if kernels.read("GPU") is None:
        missing.append("anything on a GPU")
    return missing


def numbers() -> str:
    """mAP and MAE of the main networks, a table for each video and for ShanghaiTech's two parts."""
    parts = []
    for title, (number, data, pixels) in _MAIN.items():
        found = read_table(number, data)
        cells = compare(found).query("metric == 'mAP'").astype({"sigma": str})
        counted = counting_table(found).set_index("method").rename(index=_rows_of(found, number))
        rows = []
        for method, group in cells.groupby("method", sort=False):
            if counted["seeds"].get(method, NOT_MEASURED) == NOT_MEASURED:
                continue
            shown = {
                f"mAP, σ = {r['sigma']}": _with_deviation(r) + (f" ({_printed(r)})" if pixels == _OWN else "")
                for r in group.to_dict("records")
            }
            rows.append({title: method, "seeds": counted["seeds"][method]} | shown | {"MAE": counted["MAE"][method]})
        if rows:
            parts.append(f"{frontpage.markdown(pd.DataFrame(rows))}\nσ in pixels of {pixels}.\n")
    return "\n".join(parts)


def status() -> str:
    """Every artefact with its notebook and what of it is measured."""
    return frontpage.status()


def claims() -> str:
    """How many claims the paper makes, and how often each answer was given."""
    return (
        f"[`results/claims.csv`](results/claims.csv) has a verdict on each of the paper's {len(paper.claims())} claims "
        "that a number can decide: from its own printed numbers (*undisputed*: also if the cells that cannot be right "
        "together are left open), on SynthCrowd, on real video, and on the operator itself.\n\n"
        f"{frontpage.answers(ledger.read())}"
    )


def speed() -> str:
    """What the attention of a large frame costs on a CPU."""
    stored = kernels.read("CPU")
    if stored is None:
        return "Times of the attention kernels are *not measured*."
    sizes = kernels.size_table(stored)
    largest = sizes[sizes["cells"] == sizes["cells"].max()].set_index("method")["ms"]
    fused = next(name for name in largest.index if name.startswith("GNA,") and "eager" not in name)
    ratios = kernels.ratio_table(stored)
    wide = ratios[ratios["case"].str.startswith("24x40x512")]
    times, memory = wide["times faster"], wide["memory (%)"]
    return (
        f"The attention of one 1080p frame ({sizes['map'].iloc[-1]} cells, 512 channels) takes "
        f"{largest[fused] / 1000:.2f} s compiled, {largest['full'] / 1000:.0f} s for full attention; on 24×40 cells "
        f"the compiled loops are {times.min():.0f} to {times.max():.0f} times faster than eager PyTorch and take "
        f"{memory.min():.0f} to {memory.max():.0f} % of its extra memory ({_link(18)}; {kernels.where(stored)})."
    )


def loading() -> str:
    """How fast data is made and read."""
    stored = read_json(paths.RESULTS / "kernels" / "loader.json")
    spare = min(
        row["loader"][how] / row["training"]["clips_per_second"] for row in stored["rows"] for how in ("cold", "warm")
    )
    cores = stored["metadata"]["cores"]
    return (
        f"On {cores} cores SynthCrowd is generated at {stored['generation']['frames_per_second']:.0f} frames a second, "
        f"and clips are read {spare:.0f} times as fast as training from images takes them "
        "(`python -m crowdloc.benchmarks.loader`)."
    )


BLOCKS: dict[str, Callable[[], str]] = {
    "found": found,
    "numbers": numbers,
    "claims": claims,
    "status": status,
    "speed": speed,
    "loading": loading,
}


def said(row: Mapping[str, Any]) -> str:
    """A difference in words: "**better**, +.008 (.003 to .012)"; the verdict of all tests together where it differs."""
    if not row["low"]:
        return f"**{row['verdict']}**"
    word, together = (_word(row[name]) for name in ("verdict", "after Holm"))
    aside = "" if word == together else f", {together} when all are tested together"
    low, high = (_signed(row[name]).removeprefix("+") for name in ("low", "high"))
    return f"**{word}**, {_signed(row['difference'])} ({low} to {high}){aside}"


def _rows(table: Any, pairs: Mapping[str, tuple[str, str]], sigma: int) -> dict[tuple[str, int], Any]:
    """Differences in mAP by comparison and σ; all of them are tested together."""
    return {(row["comparison"], sigma): row for row in steps(table, pairs, sigmas=(sigma,)).to_dict("records")}


def _rows_of(table: Table, number: str) -> dict[str, str]:
    """Methods as they are called here -> the paper's row of each, where a table has one."""
    return {shown_name(name): row for name in table for row in paper_rows(number, name)}


def _on_photos(part: str) -> dict[int, Any]:
    """S-GNANet − RAZNet in mAP by σ on ShanghaiTech A or B."""
    number, data, _ = _MAIN[f"ShanghaiTech {part}"]
    table, pair = read_table(number, data), {"S-GNANet − RAZNet": ("s-gnanet", "raznet")}
    return {sigma: next(iter(_rows(table, pair, sigma).values())) for sigma in (5, 20)}


def _word(verdict: str) -> str:
    bare = verdict.removesuffix(FRAGILE)
    return _WORDS.get(bare, bare) + verdict[len(bare) :]


def _signed(number: str | float) -> str:
    """+.008 or −.017, as the paper prints parts of one."""
    text = re.sub(r"^([+-])0\.", r"\1.", number if isinstance(number, str) else f"{number:+.3f}")
    return text.replace("-", "−") if float(text) else text[1:]


def _bound() -> str:
    from crowdloc.studies import appendix_a, appendix_maps

    maps = appendix_maps.kinds_of_maps("synthcrowd-sense-mini/gnanet/seed0", source="stored", seed=0)
    loose = appendix_a.looseness(appendix_a.walk(maps, norm="spectral"))["median"]
    return f"{loose.min():.0f} to {loose.max():.0f} times the error, in the medians of four kinds of maps"


def _printed_gain() -> float:
    """GNANet − RAZNet in the paper's Table II: mAP at σ = 20."""
    table = paper.table("II")
    cells = table[(table["sigma"] == 20) & (table["metric"] == "mAP")].set_index("row")["value"]
    return float(cells["GNANet"] - cells["RAZNet"])


def _impossible() -> str:
    printed = pd.concat([paper.table(number) for number in paper.NUMBERS])
    wrong = feasibility.explained(printed)[["table", "dataset", "row"]].drop_duplicates()
    # Table X prints means alone, which contradict nothing.
    whole = [cells for cells in feasibility.methods(printed).values() if any("AP.50" == metric for _, metric in cells)]
    return f"{len(wrong)} of {len(whole)} methods"


def _with_deviation(cell: Mapping[str, Any]) -> str:
    """ ".464 ± .012", mean and deviation over seeds."""
    value, spread = (f"{cell[name]:.3f}".removeprefix("0") for name in ("this run", "deviation"))
    return value if pd.isna(cell["deviation"]) else f"{value} ± {spread}"


def _printed(cell: Mapping[str, Any]) -> str:
    """What the paper prints in a cell."""
    return f"{cell['paper']:.3f}".removeprefix("0")


def _link(number: int) -> str:
    return f"[{number:02}](notebooks/{notebooks.find(str(number)).name})"


def main(arguments: Iterable[str] | None = None) -> None:
    """Write the numbers of README.md from what is stored."""
    parser = argparse.ArgumentParser(prog="python -m crowdloc.reproduce.readme", description=main.__doc__)
    parser.parse_args(None if arguments is None else list(arguments))
    path = paths.ROOT / README
    content = {name: block() for name, block in BLOCKS.items()}  # takes a while, in which the prose may change
    before = path.read_text(encoding="utf-8")
    after = updated(before, content)
    if after != before:
        with atomic_write(path) as temporary:
            temporary.write_text(after, encoding="utf-8")
    print(f"{README} {'changed' if after != before else 'is unchanged'}")


if __name__ == "__main__":
    main()

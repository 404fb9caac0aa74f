"""Appendix A on the maps of one stored network in one table, which the claims ledger reads (notebook 16).

`python -m crowdloc.studies.appendix_study --id ID` makes the study of a stored GNANet from validation clips.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import pandas as pd

from crowdloc.results.experiments import Experiment
from crowdloc.results.verdicts import FAILS, HOLDS, combined
from crowdloc.studies.appendix_a import looseness, steps_table, walk
from crowdloc.studies.appendix_bounds import compare, ratios
from crowdloc.studies.appendix_errors import by_foci, crossovers, expected_errors, verdict
from crowdloc.studies.appendix_maps import trained_maps
from crowdloc.studies.appendix_similarity import correlations, similarity
from crowdloc.studies.stored import read_study, write_study

SUMMARY, ERRORS, SIMILARITY = "appendix_{}", "appendix_errors_{}", "appendix_similarity_{}"


def summary(
    walked: pd.DataFrame, compared: pd.DataFrame, found: pd.DataFrame, foci: pd.DataFrame, errors: pd.DataFrame
) -> pd.DataFrame:
    """All that notebook 16 says of each kind of maps, and the verdicts on the appendix's three claims.

    The bound holds where no query violates any of its steps; a statistical claim where its 95 % interval over maps lies
    below 0, and not where it lies above: *similarity falls* by the correlation, *GNA errs less* where it does so for
    every set of foci, and not where it does not for one.

    Args: frames of `appendix_a.walk`, `appendix_bounds.compare`, `appendix_similarity.correlations`,
        `appendix_errors.by_foci` and `appendix_errors.expected_errors`.
    """
    table = steps_table(walked)
    table["bound holds"] = [HOLDS if count == 0 else FAILS for count in table["violations"]]
    table = table.join(looseness(walked).add_prefix("bound / error: ").iloc[:, :3])
    table["TV bound / error"] = ratios(compared).xs("TV·diam(V), draws", level="bound")["median"]
    table = table.join(found)
    table["similarity falls"] = [verdict(*ends) for ends in zip(table["low"], table["high"], strict=True)]
    for name, rows in foci.groupby(level="γ", sort=False):
        rows = rows.droplevel("γ")
        table[f"γ {name}: Gaussian − random"] = rows["difference"]
        table[f"γ {name}: verdict"] = rows["verdict"]
    words = foci["verdict"].groupby(level="kind", sort=False).agg(set)
    table["GNA errs less"] = [combined(words[kind]) for kind in table.index]
    table["P*"] = crossovers(errors)["P*"]
    return table.rename_axis("maps")


def stored(group: str) -> dict[str, pd.DataFrame]:
    """The three stored tables of a group like "mall-mini": "summary" (index maps), "errors", "similarity".

    Raises:
        CrowdlocError: one is not stored.
    """
    names = {"summary": SUMMARY, "errors": ERRORS, "similarity": SIMILARITY}
    tables = {what: read_study(name.format(group)) for what, name in names.items()}
    tables["summary"] = tables["summary"].set_index("maps")
    return tables


def beside(here: pd.DataFrame, stored: pd.DataFrame, name: str = "Mall") -> pd.DataFrame:
    """Rows measured now, and below them the same columns of stored ones; their kinds are called "Mall: backbone"."""
    if "kind" in here:
        return pd.concat([here, stored.assign(kind=f"{name}: " + stored["kind"])[list(here)]], ignore_index=True)
    return pd.concat([here, stored[list(here)].rename(index=lambda kind: f"{name}: {kind}")])


def as_text(here: pd.DataFrame, stored: pd.DataFrame, names: tuple[str, str] = ("SynthCrowd", "Mall")) -> str:
    """Summaries of the same kinds of maps beside each other, a column per kind."""
    columns = pd.concat({names[0]: here.loc[stored.index].T, names[1]: stored.T}, axis=1)
    return columns.map(_cell).rename_axis(columns=["", "maps"]).to_string()


def _cell(value: object) -> str:
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    digits = 0 if number == int(number) or abs(number) >= 100 else 1 if abs(number) >= 5 else 3
    return f"{number:,.{digits}f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m crowdloc.studies.appendix_study", description=__doc__)
    parser.add_argument("--id", default="mall-mini/gnanet/seed0", help="a stored GNANet; its data must be here")
    parser.add_argument("--maps", type=int, default=8, metavar="N", help="validation clips")
    options = parser.parse_args(arguments)
    maps = trained_maps(options.id, number=options.maps)
    errors = expected_errors(maps)
    found = summary(walk(maps), compare(maps), correlations(maps), by_foci(maps), errors)
    group = Experiment.parse(options.id).group
    height, width = maps["backbone"][0].shape[-2:]
    facts = {"network": options.id, "map": [height, width], "clips": options.maps, "split": "val"}
    for name, table, digits in (
        (SUMMARY, found.reset_index(), 4),
        (ERRORS, errors, 5),
        (SIMILARITY, similarity(maps), 5),
    ):
        print(write_study(name.format(group), table.round(digits), facts))


if __name__ == "__main__":
    main()

"""The cells of a table for people: a styled table (HTML), and the same numbers as plain text, which notebooks check.

Both have one row per σ and method and, per metric, the paper's number beside ours. Ours is the mean over the seeds of
this run, with their standard deviation where there are several.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crowdloc.datasets.catalog import label
from crowdloc.metrics import sigma_scale
from crowdloc.results.tables import NOT_MEASURED, PRINTED, YARDSTICK

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler
    from pandas.io.formats.style_render import CSSDict

_LOWER_IS_BETTER = ("MAE", "MSE")
_HEADINGS = {"MSE": "MSE (a root)"}
_BETTER, _WORSE = (1, 115, 178), (222, 143, 5)  # blue, orange: told apart by colour-blind readers
_FULL_SHADE = 0.2  # a difference from which on the shade is the strongest


def as_text(cells: pd.DataFrame) -> str:
    """`compare` as plain text: a row per σ and method, paper and ours side by side."""
    wide = _wide(cells)
    shown = _texts(wide)
    lines = [*_what(cells), (shown if _has_sigma(cells) else shown.droplevel("σ")).to_string()]
    if missing := _missing(cells):
        lines.append(f"{NOT_MEASURED}: {', '.join(missing)}")
    return "\n".join(lines)


def styled(cells: pd.DataFrame) -> Styler:
    """`compare` to be looked at: the best of each column in bold, ours shaded by its distance from the paper."""
    wide, missing = _wide(cells), _missing(cells)
    yardsticks = set(cells.loc[cells["verdict"] == YARDSTICK, "method"])
    shown, css = _texts(wide), _bold(wide, yardsticks)
    if "paper" in wide:
        for metric in wide["ours"]:
            gap = (wide["ours"][metric] - wide["paper"][metric]) * (-1 if metric in _LOWER_IS_BETTER else 1)
            scale = wide["paper"][metric].abs().clip(lower=1.0) * _FULL_SHADE
            css[_place(metric, "ours", wide)] += (gap / scale).map(_shade)
    first = _place(wide["ours"].columns[0], "ours", wide)
    for row in shown.index:
        if row[1] in missing:
            shown.loc[row, first], css.loc[row, first] = NOT_MEASURED, "color: #777; font-style: italic"
    for row in shown.index[shown.index.isin(yardsticks, level="method")]:
        css.loc[row] += "color: #777; "
    notes = ["Bold: best of its column", *(["grey: no method, a yardstick"] if yardsticks else [])]
    if "paper" in wide:
        notes.append("shaded: ours above (blue) or below (orange) the paper's quality, on other data")
    elif missing:
        notes.append(f"{NOT_MEASURED}: {', '.join(missing)}")
    style = shown.style.apply(lambda _: css, axis=None).set_caption("; ".join([*_what(cells), *notes]))
    if not _has_sigma(cells):
        style = style.hide(level="σ")
    tops = [row for row, (sigma, _) in enumerate(shown.index) if row and sigma != shown.index[row - 1][0]]
    rules = [_css(f"tbody tr:nth-child({row + 1}) > *", "border-top: 1px solid #999") for row in tops]
    return style.set_table_styles([*_STYLES, *rules])


def _css(selector: str, props: str) -> CSSDict:
    return {"selector": selector, "props": props}


_STYLES = [
    _css("", "border-collapse: collapse; font-size: 12px"),
    _css("caption", "text-align: left; font-size: 12px; padding-bottom: 6px"),
    _css("th, td", "padding: 2px 6px; white-space: nowrap"),
    _css("td", "text-align: right; font-variant-numeric: tabular-nums"),
    _css("th.col_heading", "text-align: center"),
    _css("th.row_heading", "text-align: left; vertical-align: top; font-weight: normal"),
]


def _wide(cells: pd.DataFrame) -> pd.DataFrame:
    """Index (σ, method), columns (paper | ours | deviation, metric); without "paper" where it prints nothing."""
    sides = {"paper": "paper", "this run": "ours", "deviation": "deviation"}
    if cells["paper"].isna().all():
        del sides["paper"]
    cells = cells[cells[list(sides)].notna().any(axis=1)]  # neither printed nor measured: there is nothing to show
    order = {name: rank for rank, name in enumerate(dict.fromkeys(cells["method"]))}
    metrics = list(dict.fromkeys(cells["metric"]))
    frame = cells.assign(sigma=[("" if pd.isna(sigma) else int(sigma)) for sigma in cells["sigma"]])
    keys = sorted({(s, m) for s, m in zip(frame["sigma"], frame["method"], strict=True)},
                  key=lambda key: (key[0] or 0, order[key[1]]))  # fmt: skip
    parts = {
        side: frame.set_index(["sigma", "method", "metric"])[column].unstack("metric").reindex(keys)[metrics]
        for column, side in sides.items()
    }
    wide = pd.concat(parts, axis=1)
    wide.index = pd.MultiIndex.from_tuples(keys, names=["σ", "method"])
    return wide


def _place(metric: str, side: str, wide: pd.DataFrame) -> tuple[str, ...]:
    """Column of a shown number: (heading, paper | ours), the heading alone where there is one side."""
    heading = _HEADINGS.get(metric, metric)
    return (heading, side) if "paper" in wide else (heading,)


def _frame(columns: dict[tuple[str, ...], Any], wide: pd.DataFrame) -> pd.DataFrame:
    frame = pd.DataFrame(list(columns.values()), columns=wide.index).T
    frame.columns = pd.MultiIndex.from_tuples(list(columns)) if "paper" in wide else [key[0] for key in columns]
    return frame


def _texts(wide: pd.DataFrame) -> pd.DataFrame:
    """Every shown number as text."""
    columns = {}
    for metric in wide["ours"]:
        digits = 2 if metric in _LOWER_IS_BETTER else 3
        if "paper" in wide:
            columns[_place(metric, "paper", wide)] = [_number(value, digits) for value in wide["paper"][metric]]
        ours = zip(wide["ours"][metric], wide["deviation"][metric], strict=True)
        columns[_place(metric, "ours", wide)] = [
            _number(value, digits) + ("" if np.isnan(deviation) else f"±{_number(deviation, digits)}")
            for value, deviation in ours
        ]
    return _frame(columns, wide)


def _number(value: float, digits: int) -> str:
    text = "" if np.isnan(value) else f"{value:.{digits}f}"
    return text[1:] if text.startswith("0.") and digits == 3 else text


def _bold(wide: pd.DataFrame, yardsticks: Collection[str] = ()) -> pd.DataFrame:
    """CSS of every shown number: bold where a method is the best of its σ and column, to the digits that are shown."""
    css, methods = {}, ~wide.index.isin(yardsticks, level="method")
    for metric in wide["ours"]:
        for side in [side for side in ("paper", "ours") if side in wide]:
            values = wide[side][metric].round(2 if metric in _LOWER_IS_BETTER else 3).where(methods)
            of_sigma = values.groupby(level="σ")
            best = of_sigma.transform("min" if metric in _LOWER_IS_BETTER else "max")
            bold = (values == best) & (of_sigma.transform("count") > 1)
            css[_place(metric, side, wide)] = np.where(bold, "font-weight: bold; ", "")
    return _frame(css, wide)


def _shade(gap: float) -> str:
    if np.isnan(gap):
        return ""
    red, green, blue = _BETTER if gap > 0 else _WORSE
    return f"background-color: rgba({red}, {green}, {blue}, {0.45 * min(abs(gap), 1.0):.2f})"


def _missing(cells: pd.DataFrame) -> list[str]:
    """Methods without any number of ours."""
    nothing = cells["this run"].isna().groupby(cells["method"], sort=False).all()
    return [str(method) for method in nothing.index[nothing]]


def _what(cells: pd.DataFrame) -> list[str]:
    """Which numbers these are."""
    about = cells.attrs
    seeds = sorted(set(cells.loc[cells["seeds"] > 0, "seeds"]))
    of = {"stored": "recomputed from stored evidence", "weights": "stored weights run now", "train": "trained now"}
    ours = [f"{label(about['data'])} {about['preset']}"]
    if seeds:
        several = f"{'-'.join(map(str, seeds))} seeds, mean±deviation"
        ours += [of[about["source"]], "one seed" if seeds == [1] else several]
    lines = [f"ours: {', '.join(ours)}"]
    if cells["paper"].notna().any():
        lines.insert(0, f"paper: Table {about['number']}, {PRINTED[about['data']]}")
    if _has_sigma(cells):
        group = f"{about['data']}-{about['preset']}"
        lines.append("σ in pixels of a 1080-row frame" if sigma_scale(group) != 1 else "σ in pixels of the image")
    return lines


def _has_sigma(cells: pd.DataFrame) -> bool:
    return bool(cells["sigma"].notna().any())

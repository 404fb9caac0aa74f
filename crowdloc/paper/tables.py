"""Tables I-XII as printed (`results/paper/table*.csv`), wide or with one row per cell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.paths import PAPER

COLUMNS = ("AP.50", "AP.75", "mAP", "AR.50", "AR.75", "mAR")  # of the localization tables


class Cell(NamedTuple):
    """Address of a printed or measured number; `sigma` is None where a table has none."""

    table: str
    dataset: str
    row: str
    sigma: int | None
    metric: str


@dataclass(frozen=True)
class _Table:
    file: str
    title: str
    keys: tuple[str, ...]  # columns that name the row
    dataset: str | None = "SenseCrowd"  # None: the data set stands in the column or the row
    sigma: int | None = None  # the σ of all rows, where the caption gives it


_COMPONENTS = ("SM", "K-GNA", "T-GNA", "MF")
_TABLES = {
    "I": _Table(
        "table01_datasets",
        "The summary of existing video datasets and SenseCrowd for crowd counting and localization. Note that all"
        " datasets are collected by surveillance cameras except for DroneCrowd.",
        ("dataset",),
        None,
    ),
    "II": _Table(
        "table02_sensecrowd_localization",
        "Comparison results of localization performance on SenseCrowd. σ is the positive range when evaluating the"
        " detected points.",
        ("method",),
    ),
    "III": _Table(
        "table03_fdst_localization",
        "Comparison results of localization on FDST. GNANet* denotes the model pre-trained on SenseCrowd.",
        ("method",),
        "FDST",
    ),
    "IV": _Table(
        "table04_shanghaitech_a_localization",
        "Comparison results on ShanghaiTech A. The results of RAZNet are reported as in the literature.",
        ("method",),
        "ShanghaiTech A",
    ),
    "V": _Table(
        "table05_shanghaitech_b_localization",
        "Comparison results on ShanghaiTech B. The results of RAZNet are reported as in the literature.",
        ("method",),
        "ShanghaiTech B",
    ),
    "VI": _Table(
        "table06_single_image_counting",
        "The single-image counting performance on SenseCrowd, FDST and ShanghaiTech (Part A and Part B). Note that"
        " the counting results of RAZNet and our method are derived from the localization results.",
        ("method",),
        None,
    ),
    "VII": _Table(
        "table07_video_counting",
        "The video counting performance on SenseCrowd and FDST. Note that the counting results our method are"
        " derived from the localization results.",
        ("method",),
        None,
    ),
    "VIII": _Table(
        "table08_components",
        "The results of ablation study on GNANet. SM, K-GNA, T-GNA and MF are the abbreviations for scene modeling"
        " module, keyframe GNA, temporal GNA and multi-focus mechanism respectively. The model in the first row is"
        " the baseline that lacks all components, while the last model is GNANet. Note that we only report the"
        " results under σ = 20.",
        _COMPONENTS,
        sigma=20,
    ),
    "IX": _Table(
        "table09_attention",
        "The results of random attention (RANet), local attention (LANet), deformable attention (DFANet) and"
        " Gaussian neighbor attention (GNANet). Multi-focus mechanism in GNANet is discarded for fair comparisons.",
        ("model",),
    ),
    "X": _Table(
        "table10_sampling_times",
        "The performance and runtime speed of GNANet with different numbers of sampling times.",
        ("times",),
    ),
    "XI": _Table(
        "table11_points",
        "The results of GNANet with different numbers of sampled points in GNA on SenseCrowd.",
        ("points",),
    ),
    "XII": _Table(
        "table12_gamma",
        "The results of different values of standard deviation γ in GNA on SenseCrowd.",
        ("gamma",),
    ),
}
NUMBERS = tuple(_TABLES)


def table(number: str | int, *, wide: bool = False) -> pd.DataFrame:
    """A table of the paper.

    Args:
        number: "I" … "XII", or 1 … 12 as int or text.
        wide: the layout and the text of the printed table instead of one row per cell.

    Returns:
        One row per cell with the columns `table` ("II"), `dataset` ("SenseCrowd"), `row` (method; components such as
        "SM + K-GNA" in VIII; number of samplings in X, of points in XI; γ in XII; data set in I), `sigma` (Int64,
        missing in I, VI and VII), `metric`, `value` (float64) and `printed` (the text). A printed dash has value NaN.
        Table I's resolution gives the metrics width and height; deviations of Table X are metrics of their own.
        With `wide`, a frame of texts.

    Raises:
        CrowdlocError: no such table, or its file is missing or damaged.
    """
    return (_wide if wide else _tidy)(_roman(number)).copy()


def title(number: str | int) -> str:
    """Caption of a table, in sentence case and with the spelling "EXPECT" of Table I corrected."""
    return _TABLES[_roman(number)].title


@cache
def cells() -> dict[Cell, float]:
    """Every printed number of the twelve tables by its address."""
    found = {}
    for number in NUMBERS:
        for r in _tidy(number).dropna(subset="value").itertuples():
            sigma = None if pd.isna(r.sigma) else int(r.sigma)
            found[Cell(r.table, r.dataset, r.row, sigma, r.metric)] = r.value
    return found


@cache
def roundings() -> dict[Cell, float]:
    """How far a printed number may be from the true one: half a unit of its last digit; 0 for Table I, which counts."""
    found = {}
    for number in NUMBERS:
        for r in _tidy(number).dropna(subset="value").itertuples():
            sigma = None if pd.isna(r.sigma) else int(r.sigma)
            decimals = len(r.printed.partition(".")[2])
            found[Cell(r.table, r.dataset, r.row, sigma, r.metric)] = 0.0 if number == "I" else 0.5 * 10.0**-decimals
    return found


def read(name: str) -> pd.DataFrame:
    """A CSV file of `results/paper` as texts."""
    path = PAPER / name
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise CrowdlocError(
            f"{path}: cannot read the published numbers ({error}); restore the file from the repository"
        ) from None


def _roman(number: str | int) -> str:
    text = str(number).strip().upper()
    if text.isdecimal() and 1 <= int(text) <= len(NUMBERS):
        return NUMBERS[int(text) - 1]
    if text not in _TABLES:
        raise CrowdlocError(f"no table {number!r} in the paper: choose one of {', '.join(NUMBERS)} (or 1 to 12)")
    return text


@cache
def _wide(number: str) -> pd.DataFrame:
    layout = _TABLES[number]
    frame = read(layout.file + ".csv")
    values = [column for column in frame if column not in layout.keys]
    return frame.assign(**frame[values].replace("", "—"))  # the file leaves cells empty where the paper has a dash


@cache
def _tidy(number: str) -> pd.DataFrame:
    layout = _TABLES[number]
    path = PAPER / (layout.file + ".csv")
    rows = []
    for line in _wide(number).to_dict("records"):
        key = _row_name(layout, line)
        sigma = int(line["sigma"]) if "sigma" in line else layout.sigma
        for column, text in line.items():
            if column in (*layout.keys, "sigma"):
                continue
            for dataset, metric, printed in _split(number, layout, key, column, text):
                rows.append((number, dataset, key, sigma, metric, _value(printed, path, key, column), printed))
    tidy = pd.DataFrame(rows, columns=["table", "dataset", "row", "sigma", "metric", "value", "printed"])
    return tidy.astype({"sigma": "Int64", "value": "float64"})


def _row_name(layout: _Table, line: dict[str, str]) -> str:
    if layout.keys == _COMPONENTS:
        return " + ".join(name for name in _COMPONENTS if line[name]) or "Baseline"
    return line[layout.keys[0]]


def _split(number: str, layout: _Table, key: str, column: str, text: str) -> list[tuple[str, str, str]]:
    """(data set, metric, text) of a printed cell; a resolution is two numbers."""
    if layout.dataset is not None:
        return [(layout.dataset, column, text)]
    if number != "I":
        dataset, metric = column.rsplit(" ", 1)
        return [(dataset, metric, text)]
    if column == "resolution":
        width, _, height = text.partition("×")
        return [(key, "width", width), (key, "height", height)]
    return [(key, column, text)]


def _value(text: str, path: Path, row: str, column: str) -> float:
    if text == "—":
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise CrowdlocError(
            f"{path}: {column} of {row} is {text!r}, not a number; restore the file from the repository"
        ) from None

"""What a reader sees of a table: one row per σ and method, no number twice, and words where there is no number."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from crowdloc import results


def cells(**attrs: str) -> pd.DataFrame:
    """Two σ and two metrics of three methods: measured and printed, printed alone, measured alone."""
    none = [np.nan, np.nan]
    numbers = {"RAZNet": ([0.6, 0.5], [0.61, 0.44]), "FCOS": ([0.4, 0.3], none), "stacked frames": (none, [0.7, 0.3])}
    rows = [
        {"method": method, "sigma": sigma, "metric": metric, "paper": paper, "stored": ours, "this run": ours}
        | {"deviation": 0.012 if ours == ours else np.nan, "seeds": 3 * (ours == ours), "difference": 0 * ours}
        | {"verdict": "reproduced" if ours == ours else "not measured"}
        for method, (printed, measured) in numbers.items()
        for sigma in (5, 20)
        for metric, paper, ours in zip(("AP.50", "mAP"), printed, measured, strict=True)
    ]
    frame = pd.DataFrame(rows).astype({"sigma": "Int64"})
    frame.attrs = {"number": "II", "data": "synthcrowd-sense", "preset": "mini", "source": "stored"} | attrs
    return frame


def test_text_has_one_row_per_sigma_and_method_and_words_for_what_is_missing() -> None:
    lines = results.as_text(cells()).splitlines()
    assert lines[:3] == [
        "paper: Table II, SenseCrowd",
        "ours: SynthCrowd sense mini, recomputed from stored evidence, 3 seeds, mean±deviation",
        "σ in pixels of a 1080-row frame",
    ]
    assert [line.split() for line in lines[3:]] == [
        ["AP.50", "mAP"],
        ["paper", "ours", "paper", "ours"],
        ["σ", "method"],
        *(
            [*sigma, *row]
            for sigma in (["5"], ["20"])
            for sigma, row in zip(
                [sigma, [], []],
                [
                    ["RAZNet", ".600", ".610±.012", ".500", ".440±.012"],
                    ["FCOS", ".400", ".300"],
                    ["stacked", "frames", ".700±.012", ".300±.012"],
                ],
                strict=True,
            )
        ),
        ["not", "measured:", "FCOS"],
    ]
    assert "·" not in "\n".join(lines) and "nan" not in "\n".join(lines).lower()


def test_without_a_printed_table_there_are_only_ours() -> None:
    lines = results.as_text(cells(data="mall", number="Mall").assign(paper=np.nan)).splitlines()
    assert lines[0] == "ours: Mall mini, recomputed from stored evidence, 3 seeds, mean±deviation"
    assert lines[1] == "σ in pixels of the image"
    assert not any("FCOS" in line for line in lines[:-1]) and lines[-1] == "not measured: FCOS"
    assert lines[2].split() == ["AP.50", "mAP"] and "paper" not in "".join(lines)


def test_counting_errors_are_called_what_they_are_and_less_is_better() -> None:
    counts = cells().replace({"metric": {"AP.50": "MAE", "mAP": "MSE"}}).query("sigma == 5")
    counts["sigma"] = pd.NA
    assert "MSE (a root)" in results.as_text(counts) and "σ" not in results.as_text(counts)
    html = results.styled(counts).to_html()
    assert "σ" not in html
    assert _cells(html, "font-weight: bold") == ["0.61±0.01", "0.40", "0.30", "0.30±0.01"]
    shades = {text: css for text, css in _styles(html) if "background-color" in css}
    assert "rgba(222, 143, 5" in shades["0.61±0.01"] and "rgba(1, 115, 178" in shades["0.44±0.01"]


def test_the_styled_table_has_the_best_in_bold_and_shades_the_difference() -> None:
    html = results.styled(cells()).to_html()
    assert _cells(html, "font-weight: bold") == [".600", ".500", ".440±.012", ".700±.012"] * 2
    shaded = {text: css for text, css in _styles(html) if "background-color" in css}
    assert set(shaded) == {".610±.012", ".440±.012"}  # what the paper has no number for is not shaded
    assert "rgba(1, 115, 178, 0.02)" in shaded[".610±.012"] and "rgba(222, 143, 5, 0.1" in shaded[".440±.012"]
    assert html.count("not measured") == 2 and "one seed" not in html
    plain = re.sub("<[^>]*>", " ", html)
    assert all(word in plain for word in results.as_text(cells()).split() if word[0] == ".")


def test_the_summary_counts_states() -> None:
    found = cells()
    assert results.summary(found) == (
        "8/8 measured cells agree with the stored values within 1e-09; 4 cells not measured"
    )


def _styles(html: str) -> list[tuple[str, str]]:
    """(text, CSS) of every table cell."""
    rules: dict[str, str] = {}
    for selectors, css in re.findall(r"((?:#T_\w+_row\d+_col\d+,? ?)+) \{([^}]*)\}", html):
        rules |= dict.fromkeys(re.findall(r"row\d+_col\d+", selectors), css)
    found = re.findall(r'<td id="T_\w+?_(row\d+_col\d+)"[^>]*>([^<]*)</td>', html)
    return [(text, rules.get(place, "")) for place, text in found]


def _cells(html: str, css: str) -> list[str]:
    return [text for text, style in _styles(html) if css in style]


def test_a_yardstick_is_shown_in_grey_and_is_never_the_best() -> None:
    perfect = pd.DataFrame({"AP.50": [0.99, 1.0], "mAP": [0.9, 1.0]}, index=pd.Index([5, 20], name="sigma"))
    found = results.with_yardsticks(cells(), {"centres of boxes": perfect})
    assert found.attrs == cells().attrs and (found.dtypes == cells().dtypes).all()
    assert results.summary(found) == results.summary(cells())
    lines = results.as_text(found).splitlines()
    assert [line.split()[-2:] for line in lines if "centres" in line] == [[".990", ".900"], ["1.000", "1.000"]]
    assert "3 seeds" in lines[1] and lines[-1] == "not measured: FCOS"
    html = results.styled(found).to_html()
    assert "grey: no method, a yardstick" in html
    plain = results.styled(cells()).to_html()
    assert html.count("font-weight: bold") == plain.count("font-weight: bold")
    css = re.search(r'id="(T_\w+_row3_col1)"', html)
    assert css is not None and re.search(rf"#{css[1]}[^{{]*\{{[^}}]*color: #777", html)

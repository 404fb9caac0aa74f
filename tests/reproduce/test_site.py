"""The static site: a small one is built and every link followed; nothing is fetched from anywhere."""

from __future__ import annotations

import json
import re
import runpy
from types import SimpleNamespace

import pandas as pd
import pytest
from docutils import nodes
from site_pages import Links, broken, fetched, pages

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.reproduce import frontpage, graph, notebooks, reference, site
from crowdloc.reproduce.artefacts import Artefact
from crowdloc.results import ledger
from crowdloc.results.experiments import Experiment

ANSWERS = {"print": "yes", "undisputed": "partly", "synthcrowd": "not measured", "real": "holds", "real data": "mall"}
CLAIM = {"id": "a", "section": "V", "table": "II V", "predicate": "one | two", "no data": "", "decided by": "x"}
LEDGER = pd.DataFrame([CLAIM | ANSWERS])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A site of two notebooks and one room, and what Sphinx warned of."""
    out = tmp_path_factory.mktemp("site") / "pages"
    with pytest.MonkeyPatch.context() as patch:
        few = [path for path in notebooks.numbered() if path.stem[:2] in ("13", "18")]
        patch.setattr(notebooks, "numbered", lambda: few)
        patch.setattr(reference, "ROOMS", {"core": "errors, files, paths"})
        patch.setattr(ledger, "read", lambda: LEDGER)
        start = site.build("table | stored\nII    | .5\n", out)
    assert start == out / "index.html"
    return out


def test_every_link_leads_somewhere_and_nothing_is_fetched(built):
    found = pages(built)
    names = {str(path.relative_to(built)) for path in found}
    assert {"index.html", "readme.html", "claims.html", "report.html", "contributing.html", "search.html"} <= names
    assert fetched(found) == []
    few = ("notebooks/", "api/")  # pages that this small site leaves out
    assert [line for line in broken(built, found) if not any(part in line for part in few)] == []


def test_start_page_says_what_was_found_and_mathematics_is_drawn_by_the_browser(built):
    start = (built / "index.html").read_text(encoding="utf-8")
    assert re.search(r"GNANet − one frame: [+−]0\.\d+ mAP \(95 % interval [+−]0", start)
    assert "Mall (real video)" in start and "found.png" in start
    assert "Annotated samples" in start and "none yet" in start
    assert "undisputed" in start and "not measured" in start  # how often each answer was given
    claims = (built / "claims.html").read_text(encoding="utf-8")
    assert all(
        f"<p>{text}</p>" in claims
        for text in ("one | two<br><em>(x)</em>", "holds (Mall)", "yes (partly)", "V, Table II, V")
    )
    assert ".5" in (built / "report.html").read_text(encoding="utf-8")
    assert "math" in Links((built / "notebooks/18_kernel_benchmark.html").read_text(encoding="utf-8")).kinds
    assert (built / "searchindex.js").is_file()


def test_links_to_code_lead_to_the_reference_and_to_data_to_copies():
    text = "[m](../crowdloc/metrics/matching.py) [p](../crowdloc/metrics/__init__.py) [c](results/claims.csv)"
    assert site.linked(text) == "[m](#crowdloc.metrics.matching) [p](#crowdloc.metrics) [c](/results/claims.csv)"
    assert site.linked("[x](../results/MANIFEST.txt) [y](README.md)") == "x [y](readme.md)"


def cell(kind, source, tags=(), outputs=()):
    return {"cell_type": kind, "source": source, "metadata": {"tags": list(tags)}, "outputs": list(outputs)}


def test_a_page_says_how_it_was_executed_and_shows_no_real_frame():
    image = {"output_type": "display_data", "data": {"image/png": "…"}}
    text = {"output_type": "stream", "name": "stdout", "text": "kept\n"}
    cells = [
        cell("markdown", "# Title\n\ntext"),
        cell("code", 'source = "weights"', ["injected-parameters"]),
        cell("code", "show()", ["real-frames"], [image, text]),
        cell("code", "plot()", (), [image]),
    ]
    page = site.prepared({"cells": json.loads(json.dumps(cells))})["cells"]
    assert page[0]["source"].startswith('# Title\n\n*Executed with* `source="weights"`')
    assert [o.get("text", "image") for o in page[2]["outputs"]] == ["kept\n", page[2]["outputs"][1]["text"]]
    assert "not on this site" in page[2]["outputs"][1]["text"]
    assert page[3]["outputs"] == [image]


def test_a_page_has_no_widgets_whose_scripts_would_come_from_the_network():
    view = {"output_type": "display_data", "data": {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "x"}}
    cells = [cell("markdown", "# Title"), cell("code", "explore()", (), [view]), cell("code", "1", (), [{"data": {}}])]
    page = site.prepared({"cells": cells, "metadata": {"widgets": {"state": {}}, "kernelspec": {}}})
    assert page["metadata"] == {"kernelspec": {}}
    assert [o["output_type"] for o in page["cells"][1]["outputs"]] == ["stream"]
    assert page["cells"][2]["outputs"] == [{"data": {}}]


def test_an_executed_copy_counts_only_for_the_same_notebook(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    (tmp_path / "notebooks").mkdir()
    ours, made = tmp_path / "13_x.ipynb", tmp_path / "notebooks" / "13_x.ipynb"
    ours.write_text(json.dumps({"cells": [cell("code", "a = 1")]}))
    assert site.executed(ours) == ours
    given = cell("code", "b = 2", ["injected-parameters"])
    made.write_text(json.dumps({"cells": [cell("code", "a = 1"), given]}))
    assert site.executed(ours) == made
    made.write_text(json.dumps({"cells": [cell("code", "a = 3")]}))
    assert site.executed(ours) == ours


def test_without_a_clone_there_is_no_site(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with pytest.raises(CrowdlocError, match="needs a clone"):
        site.build("", tmp_path / "out")


CONFIGURATION = runpy.run_path(str(paths.ROOT / "docs" / "conf.py"))


def drawn(latex):
    translator = SimpleNamespace(body=[], encode=str)
    with pytest.raises(nodes.SkipNode):
        CONFIGURATION["_math"](translator, nodes.math("", latex), block=False)
    return re.sub(r"\s*\n\s*", "", "".join(translator.body))


@pytest.mark.parametrize("latex", [r"\tfrac12", r"\frac12", r"\tfrac 1 2", r"\frac{1}{2}"])
def test_a_half_in_every_spelling_of_latex(latex):
    assert "<mfrac><mn>1</mn><mn>2</mn></mfrac>" in drawn(latex)


@pytest.mark.filterwarnings("ignore")
def test_mathematics_that_docutils_cannot_read_stays_latex():
    assert drawn(r"\nosuch") == r"<code>\nosuch</code>"


def test_docstrings_are_prose():
    lines = ["Deviations:", "- a `*b` *c*", "  over two lines", "- n_ and n_i", "", "- alone"]
    CONFIGURATION["_plain"](None, "", "", None, None, lines)
    assert lines[:3] == ["Deviations:", "", r"- a `*b` \*c\*"]
    assert lines[3:] == ["  over two lines", r"- n\_ and n_i", "", "- alone"]


def test_a_sentence_says_when_a_verdict_needs_to_stand_alone():
    row = {"comparison": "a − b", "difference": "-0.007", "low": "-0.014", "high": "-0.001"}
    words = "a − b: −0.007 mAP (95 % interval −0.014 to −0.001), *worse*"
    assert frontpage._sentence(row | {"verdict": "does not hold", "after Holm": "does not hold"}) == f"{words}."
    alone = frontpage._sentence(row | {"verdict": "does not hold", "after Holm": "inconclusive"})
    assert alone == f"{words} by itself, *inconclusive* when all three are tested together."
    assert frontpage._sentence({"comparison": "a − b", "low": "", "verdict": "not measured"}) == "a − b: not measured."


def test_bars_do_not_end_a_cell():
    assert re.fullmatch(r"\| a \|\n\| --- \|\n\| x\\\|y \|\n", frontpage.markdown(pd.DataFrame({"a": ["x|y"]})))


def test_what_is_measured_is_said_by_number_of_seeds(monkeypatch, tmp_path):
    ids = ("raznet.stage1/seed0", "gnanet/seed0", "gnanet/seed1", "raznet/seed0")
    of_it = [Experiment.parse(f"synthcrowd-sense-mini/{name}") for name in ids]
    monkeypatch.setattr(graph, "uses", lambda path: graph.Uses((), (), tuple(of_it)))
    monkeypatch.setattr(graph, "state", lambda experiment: ["stored"] if experiment == of_it[1] else ["weights"])
    assert frontpage._measured(Artefact(14, tmp_path, "Figure 2")) == ("1 of 2 seeds: GNANet", "RAZNet")
    monkeypatch.setattr(graph, "state", lambda experiment: ["stored"])
    assert frontpage._measured(Artefact(14, tmp_path, "Figure 2")) == ("2 seeds: GNANet; 1 seed: RAZNet", "–")


def test_the_site_is_a_job_of_a_run_and_is_built_again_when_a_page_changes(tmp_path, monkeypatch):
    assert graph.has_site() and "rule site:" in (paths.ROOT / "Snakefile").read_text()
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(graph, "report_key", lambda todo: "")
    assert not graph.has_site()  # no clone
    (tmp_path / "docs").mkdir()
    names = ("docs/conf.py", "README.md", "CONTRIBUTING.md", "CHANGELOG.md")
    for name in names:
        (tmp_path / name).write_text("before")
    assert graph.has_site()
    keys = {graph.site_key(None)}
    for name in names:
        (tmp_path / name).write_text("after")
        keys.add(graph.site_key(None))
    assert len(keys) == 1 + len(names)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not graph.has_site()  # no Sphinx


def test_what_was_decided_without_data_says_so():
    claim = CLAIM | ANSWERS
    assert frontpage._elsewhere(claim) == "holds (Mall)"
    assert frontpage._elsewhere(claim | {"real": "not measured"}) == "not measured"
    assert frontpage._elsewhere(claim | {"no data": "does not hold"}) == "does not hold (without data)"
    assert frontpage._printed(claim | {"undisputed": "yes"}) == "yes"

"""The static site: a small one is built and every link followed; nothing is fetched from anywhere."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.reproduce import frontpage, notebooks, reference, site


class Links(HTMLParser):
    """What a page leads to and what it loads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.leads, self.loads, self.anchors, self.kinds = [], [], {""}, set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.kinds.add(tag)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and "href" in found:
            self.leads.append(found["href"])
        self.loads += [found[key] for key in ("src", "href") if key in found and tag != "a"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A site of two notebooks and one room, and what Sphinx warned of."""
    out = tmp_path_factory.mktemp("site") / "pages"
    with pytest.MonkeyPatch.context() as patch:
        few = [path for path in notebooks.numbered() if path.stem[:2] in ("13", "18")]
        patch.setattr(notebooks, "numbered", lambda: few)
        patch.setattr(reference, "ROOMS", {"core": "errors, files, paths"})
        patch.setattr(frontpage, "ledger", lambda: "| claim |\n|---|\n| one |\n")
        start = site.build("table | stored\nII    | .5\n", out)
    assert start == out / "index.html"
    return out


def pages(out: Path) -> dict[Path, Links]:
    return {path: Links(path.read_text(encoding="utf-8")) for path in sorted(out.rglob("*.html"))}


def test_every_link_leads_somewhere_and_nothing_is_fetched(built):
    found = pages(built)
    names = {str(path.relative_to(built)) for path in found}
    assert {"index.html", "readme.html", "claims.html", "report.html", "contributing.html", "search.html"} <= names
    broken = []
    for path, page in found.items():
        assert [link for link in page.loads if urlsplit(link).scheme in ("http", "https")] == [], path.name
        for link in page.leads + page.loads:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("data:"):
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            if not target.is_file():
                broken.append(f"{path.name}: {link}")
            elif target in found and parts.fragment and parts.fragment not in found[target].anchors:
                broken.append(f"{path.name}: {link}")
    few = ("notebooks/", "api/")  # pages that this small site leaves out
    assert [line for line in broken if not any(part in line for part in few)] == []


def test_start_page_says_what_was_found_and_mathematics_is_drawn_by_the_browser(built):
    start = (built / "index.html").read_text(encoding="utf-8")
    assert "GNANet (attention) − one frame (RAZNet): +0.008" in start and "found.png" in start
    assert "Annotated samples" in start and "none yet" in start
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


def test_bars_do_not_end_a_cell():
    import pandas as pd

    assert re.fullmatch(r"\| a \|\n\| --- \|\n\| x\\\|y \|\n", frontpage.markdown(pd.DataFrame({"a": ["x|y"]})))

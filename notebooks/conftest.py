"""nbval compares what a cell prints; warnings, HTML and SVG differ with versions, not with results."""

from __future__ import annotations


def pytest_collectstart(collector):
    if type(collector).__name__ == "IPyNbFile":
        collector.skip_compare += ("stderr", "text/html", "image/svg+xml")

"""Pages of a built site: what each leads to and loads."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


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


def pages(site: Path) -> dict[Path, Links]:
    return {path: Links(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def fetched(found: dict[Path, Links]) -> list[str]:
    """What pages load from elsewhere."""
    return [f"{path.name}: {url}" for path, page in found.items() for url in page.loads if re.match("https?:", url)]


def broken(site: Path, found: dict[Path, Links]) -> list[str]:
    """Links within the site to a file or an anchor that is not there."""
    bad = []
    for path, page in found.items():
        for link in page.leads + page.loads:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("data:"):
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            lost = target in found and parts.fragment and unquote(parts.fragment) not in found[target].anchors
            if not target.is_file() or lost:
                bad.append(f"{path.relative_to(site)}: {link}")
    return bad

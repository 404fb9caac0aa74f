"""How Sphinx makes the site: `crowdloc report --site` copies this folder, adds what is generated, and calls Sphinx."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

project = "crowdloc"
author = "The crowdloc authors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["generated"]
default_role = "code"  # docstrings write `names` like this
suppress_warnings = ["ref.python"]  # of several things with one name, type hints link the nearest

nb_execution_mode = "off"  # pages show what was executed, and nothing else
nb_output_stderr = "remove"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

viewcode_follow_imported_members = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = "crowdloc"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_math_renderer = "docutils"  # MathML, which every browser draws itself: no script, no network


def _math(translator: Any, node: nodes.Element, *, block: bool) -> None:
    """MathML in place of LaTeX; what docutils cannot read stays LaTeX, with a warning."""
    try:
        # LaTeX takes \\frac12 as \frac{1}{2}; docutils wants the braces.
        text = re.sub(r"\\[dt]?frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", node.astext())
        made = tex2mathml(text, as_block=block)
        # docutils marks ⊤ and ⟂ as identifiers; browsers set those in italics and sometimes as a box.
        made = re.sub(r"<mi>(⊤|⊥)</mi>", r'<mi mathvariant="normal">\1</mi>', made)
    except MathError as error:
        from sphinx.util import logging

        logging.getLogger(__name__).warning("mathematics: %s", error, location=node)
        made = f"<code>{translator.encode(node.astext())}</code>"
    translator.body.append(f'<div class="math">{made}</div>\n' if block else made)
    raise nodes.SkipNode


def _plain(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are prose, no reStructuredText: `*`, `|` and a trailing `_` mean themselves, outside of backticks.

    A list may follow its sentence without a blank line.
    """
    plain: list[str] = []
    for line in lines:
        before = plain[-1] if plain else ""
        if line.startswith("- ") and before and not before.startswith(("- ", "  ")):
            plain.append("")
        parts = re.split(r"(`[^`]*`)", line)
        plain.append("".join(p if p.startswith("`") else re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", p) for p in parts))
    lines[:] = plain


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer(
        "docutils",
        inline_renderers=(lambda translator, node: _math(translator, node, block=False), None),
        block_renderers=(lambda translator, node: _math(translator, node, block=True), None),
    )
    app.connect("autodoc-process-docstring", _plain, priority=400)

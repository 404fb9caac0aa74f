"""What the audit's picture says of a cell."""

from __future__ import annotations

import pandas as pd
import pytest

from crowdloc.figures import audit, looks
from crowdloc.paper import coherence, feasibility


@pytest.fixture(scope="module")
def found():
    return feasibility.impossible(("II", "VIII", "XII"))


def test_cells_are_told_apart_by_whether_an_explanation_spares_them(found):
    marks = audit.shading(found, coherence.unusual())
    assert marks["II", "STANet", 40, "AR.75"] == audit.ALONE
    assert marks["XII", "3", 20, "AR.50"] == marks["XII", "3", 40, "mAR"] == audit.ALONE  # both are needed
    assert marks["VIII", "Baseline", 20, "AR.50"] == marks["VIII", "Baseline", 20, "AR.75"] == audit.AMONG
    assert marks["XII", "10", 40, "mAR"] == audit.AMONG
    assert marks["II", "STANet", 40, "mAR"] == audit.ODD  # off the pattern, and of no explanation
    assert ("II", "GNANet", 20, "mAP") not in marks


def test_the_pictures_show_every_cell_and_every_single_explanation(found):
    looks.style()
    figure = audit.tables(audit.shading(found, coherence.unusual()))
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert texts.count(".747") == 2 and ".606" in texts and "γ = 10" in texts and "Table VIII" in texts
    assert sum(text.startswith(".") for text in texts) == 6 * (15 + 12 + 9 + 9 + 6 + 12 + 9 + 12)
    labels = [label.get_text() for label in audit.intervals(found).axes[0].get_yticklabels()]
    assert labels == ["II  STANet, AR.75 σ 40", "VIII  Baseline, AR.50 σ 20", "VIII  Baseline, AR.75 σ 20"]


def test_nothing_to_say_is_nothing_shaded():
    unusual = coherence.unusual().iloc[:0]
    assert audit.shading(pd.DataFrame(columns=["table", "row", "changes", "cell"]), unusual) == {}

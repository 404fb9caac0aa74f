"""Pictures are drawn without a screen, in the style of the project, and closed."""

from __future__ import annotations

import matplotlib
import pytest

matplotlib.use("agg")

import matplotlib.pyplot as plt

from crowdloc.figures.looks import style


@pytest.fixture(autouse=True)
def styled():
    with matplotlib.rc_context():
        style()
        yield
    plt.close("all")

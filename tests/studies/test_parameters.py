"""Parameters that a notebook cannot use are refused with the reason."""

from __future__ import annotations

import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.studies.parameters import only


def test_another_value_is_refused():
    only("nothing is trained here", seed=(0, 0), data=("synthcrowd", "synthcrowd"))
    with pytest.raises(CrowdlocError, match=r"^seed=3: this notebook takes only 0 \(nothing is trained here\)"):
        only("nothing is trained here", data=("synthcrowd", "synthcrowd"), seed=(3, 0))

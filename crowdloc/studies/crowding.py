"""Where a mean over images comes from: accuracy by how crowded the images are, from stored evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.results.evidence import Evidence
from crowdloc.results.runs import Run
from crowdloc.results.seeds import spread
from crowdloc.results.tables import shown_name


def crowding_table(table: Mapping[str, Sequence[Run]], parts: int = 3) -> pd.DataFrame:
    """Localization by how many heads an image has: a row per part of the test images and method.

    Images are sorted by their heads and cut into equal parts; AP and AR pool the detections of a part alone. The count
    is that of the points above the threshold; its error is the sum of |counted - annotated| over the images, in percent
    of their heads, and `bias` the same without the bars. Mean ± deviation over seeds.

    Raises:
        CrowdlocError: fewer images than parts.
    """
    rows = []
    located = {name: group for name, group in table.items() if group and group[0].evidence is not None}
    for part in range(parts):
        for name, group in located.items():
            chosen = [_part(_evidence(run), part, parts) for run in group]
            found = [some.localization for some in chosen]
            errors = [some.counts(_threshold(run)) - some.heads for some, run in zip(chosen, group, strict=True)]
            heads = chosen[0].heads
            rows.append(
                {"images": f"{len(heads)} of {heads.min()}-{heads.max()} heads", "method": shown_name(name)}
                | {f"mAP σ{sigma}": spread([f[str(sigma)]["mAP"] for f in found]) for sigma in (5, 20)}
                | {"mAR σ20": spread([f["20"]["mAR"] for f in found])}
                | {"count error (%)": spread([100 * np.abs(e).sum() / heads.sum() for e in errors], 1)}
                | {"bias (%)": spread([100 * e.sum() / heads.sum() for e in errors], 1, sign="+")}
            )
    return pd.DataFrame(rows)


def _evidence(run: Run) -> Evidence:
    assert run.evidence is not None
    return run.evidence


def _threshold(run: Run) -> float:
    assert run.threshold is not None  # who locates has one
    return run.threshold


def _part(evidence: Evidence, part: int, parts: int) -> Evidence:
    """The part-th of equal parts of the images, in order of their heads; ties stay in the order of the images."""
    if len(evidence.images) < parts:
        raise CrowdlocError(f"{len(evidence.images)} images cannot be cut into {parts} parts: ask for fewer parts")
    chosen: NDArray[np.int64] = np.array_split(np.argsort(evidence.heads, kind="stable"), parts)[part]
    return Evidence(
        [evidence.images[i] for i in chosen],
        [evidence.scenes[i] for i in chosen],
        evidence.heads[chosen],
        [evidence.scores[i] for i in chosen],
        [evidence.flags[i] for i in chosen],
    )

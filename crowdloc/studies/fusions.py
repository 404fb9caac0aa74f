"""What would make attention win? Ours, not the paper's: other ways to join values and feature (notebooks 09 and 20)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from crowdloc.results import runs
from crowdloc.results.runs import Run
from crowdloc.results.verdicts import steps
from crowdloc.studies.scoring import learned

ROWS = {
    "mean, not sum": "gnanet.mean",
    "learned factor": "gnanet.gated",
    "1×1 projection": "gnanet.project",
    "1×1 of all, concatenated": "gnanet.concat",
    "centre minus surround": "gnanet.difference",
    "stacked frames + GNA": "gnanet.stacked",
}
AGAINST = {"GNANet, γ = 5": "gnanet.gamma5", "RAZNet": "raznet", "baseline": "frame-stack"}


def gains(table: Mapping[str, Sequence[Run]]) -> dict[str, pd.DataFrame]:
    """Differences in mAP at σ 20 of the rows of table "Fusion" over each of `AGAINST`, as `results.steps`.

    On Mall the table has fewer rows than on SynthCrowd.
    """
    return {
        f"over {title}": steps(table, {row: (name, other) for row, name in ROWS.items() if name in table})
        for title, other in AGAINST.items()
    }


def gates_text(group: Sequence[Run]) -> str:
    """The learned factors, of temporal and of keyframe attention, of runs that keep their weights."""
    parts = []
    for run in group:
        if run.has_weights:
            gates = learned(runs.load_model(run.experiment, run.folder / runs.WEIGHTS))["gates"]
            parts.append(f"seed {run.experiment.seed}: {gates}")
    return "; ".join(parts) or "no weights"

"""Which stored weights fare best on footage that they were not trained on: what `crowdloc locate` takes by default.

`python -m crowdloc.studies.foreign --data-root FOLDER` writes `build/studies/foreign.csv`, a line per network and set
of validation images (test images choose nothing): ShanghaiTech B, which no stored network has seen; the drawn film of
notebook 22; and each network's own kind and the other's.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.datasets.own import load_own
from crowdloc.results.evidence import Evidence
from crowdloc.results.experiments import Experiment
from crowdloc.results.networks import PREFERRED, Network, open_network
from crowdloc.results.scoring import measure
from crowdloc.studies import footage
from crowdloc.studies.stored import read_study, write_study

STUDY = "foreign"
METHODS = ("raznet", "gnanet")
FRAMES = 40  # of every set, evenly spaced
FILM = "drawn film"
_SETS = {"ShanghaiTech B": "shanghaitech_b", "Mall": "mall", "SynthCrowd": "synthcrowd-sense"}


def line(found: Evidence, threshold: float) -> dict[str, Any]:
    """Scores with σ in pixels of the image; counts with the network's own threshold and with the one that is best here.

    `ceiling` is the share of the heads that are detected at all, whatever the score (AR.50 at σ 20).
    """
    best = found.best_counting_threshold()
    own, there = found.metrics(threshold), found.metrics(best)
    return {
        "images": len(found.images),
        "heads": round(float(found.heads.mean()), 1),
        **{f"mAP σ{sigma}": round(row["mAP"], 3) for sigma, row in own["localization"].items()},
        "ceiling": round(own["localization"]["20"]["AR.50"], 3),
        "threshold": threshold,
        "MAE": round(own["counting"]["MAE"], 2),
        "best": best,
        "MAE best": round(there["counting"]["MAE"], 2),
    }


def sets(root: str | Path | None, drawn: Path) -> dict[str, ClipDataset]:
    """Validation images by the name of their set."""
    footage.draw(drawn)
    found = {name: Experiment(data, "mini", "raznet", 0).load("val", root) for name, data in _SETS.items()}
    return {name: _some(data) for name, data in {FILM: load_own(drawn / "plaza"), **found}.items()}


def _some(data: ClipDataset) -> ClipDataset:
    """Evenly spaced frames, their neighbours in time with them."""
    return data.subset(range(0, len(data), -(-len(data) // FRAMES)))


def make(root: str | Path | None = None) -> pd.DataFrame:
    """The table of the study."""
    networks = [open_network(experiment=f"{group}/{method}/seed0") for group in PREFERRED for method in METHODS]
    with tempfile.TemporaryDirectory() as drawn:
        found = sets(root, Path(drawn))
        return pd.DataFrame([_row(name, data, network) for name, data in found.items() for network in networks])


def _row(name: str, data: ClipDataset, network: Network) -> dict[str, Any]:
    network.method.to(memory_format=torch.channels_last)
    found = measure(network.method, data, progress=False)
    assert isinstance(found, Evidence) and network.threshold is not None
    group, method, _ = network.id.split("/")
    return {"tested on": name, "trained on": group.removesuffix("-mini"), "method": method} | line(
        found, network.threshold
    )


def as_text(among: Sequence[str] = (FILM, *_SETS)) -> str:
    """The stored study for a notebook, of the sets that are named."""
    shown = ["tested on", "trained on", "method", "mAP σ5", "mAP σ20", "ceiling", "MAE", "MAE best"]
    rows = read_study(STUDY)
    return rows.loc[rows["tested on"].isin(among), shown].to_string(index=False)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m crowdloc.studies.foreign", description="Make the study.")
    parser.add_argument("--data-root", help="folder of the real data sets (default: CROWDLOC_DATA)")
    try:
        print(write_study(STUDY, make(parser.parse_args(arguments).data_root), {"split": "val", "seed": 0}))
    except CrowdlocError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()

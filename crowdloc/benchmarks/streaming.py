"""What a frame of one's own video costs, stage by stage: `python -m crowdloc.benchmarks.streaming [--json PATH]`.

The stored networks over a drawn film of 640×480 pixels, with one thread and its processor time, so that other work on
the machine does not count; kinds of arithmetic take turns, frame by frame. "faster" is the ratio to the first of them.
"stream" is `predict_frames` over the film, which runs everything with channels last; its share is what the stages alone
would allow of the frames per second that it reaches.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from crowdloc.benchmarks.loader import one_thread
from crowdloc.core.files import write_json
from crowdloc.core.provenance import measurement
from crowdloc.inference.windows import encode, predict_frames
from crowdloc.results.networks import Network, open_network

METHODS = ("raznet", "gnanet")
HEIGHT, WIDTH = 480, 640
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
ARITHMETIC = tuple(itertools.product(LAYOUTS, ("fp32", "bf16")))


def film(frames: int, *, height: int = HEIGHT, width: int = WIDTH) -> list[NDArray[np.uint8]]:
    """Noise with pale discs that wander, (h, w, 3): what a frame costs depends on its size, little on what it shows."""
    import cv2

    random = np.random.default_rng(0)
    ground = random.integers(60, 120, (height, width, 3), dtype=np.uint8)
    start = random.random((30, 2)) * np.array([width, height])
    made = []
    for number in range(frames):
        picture = ground.copy()
        for x, y in start + np.array([4.0 * number, 0.0]):
            cv2.circle(picture, (round(x), round(y)), 6, (220, 200, 180), cv2.FILLED)
        made.append(picture)
    return made


def measure(
    methods: Sequence[str] = METHODS, *, frames: int = 12, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> pd.DataFrame:
    """Milliseconds of processor time of a frame, medians: a row per method, layout and precision."""
    pictures = film(frames, height=size[0], width=size[1])
    with one_thread():
        rows = [row for method in methods for row in _of(open_network(method=method), pictures)]
    return pd.DataFrame(rows)


def _of(network: Network, pictures: Sequence[NDArray[np.uint8]]) -> list[dict[str, Any]]:
    times: dict[tuple[str, str], list[tuple[float, float]]] = {kind: [] for kind in ARITHMETIC}
    for picture in [pictures[0], *pictures]:  # the first one warms up
        for kind in ARITHMETIC:
            times[kind].append(_stages(network, picture, *kind))
    rows: list[dict[str, Any]] = []
    first = 0.0
    for (layout, precision), found in times.items():
        encoding, decoding = (1e3 * statistics.median(values) for values in zip(*found[1:], strict=True))
        row: dict[str, Any] = {
            "method": network.about["experiment"]["method"], "layout": layout, "precision": precision,
            "encode": round(encoding, 1), "decode": round(decoding, 1),
        }  # fmt: skip
        first = first or encoding + decoding
        row["faster"] = round(first / (encoding + decoding), 2)
        if layout == "channels last":
            whole = 1e3 * _stream(network, pictures, precision)
            row |= {
                "stream": round(whole, 1), "share": round((encoding + decoding) / whole, 3),
                "frames per second": round(1e3 / whole, 2),
            }  # fmt: skip
        rows.append(row)
    return rows


def _stages(network: Network, picture: NDArray[np.uint8], layout: str, precision: str) -> tuple[float, float]:
    """Seconds of one frame's encoding, and of decoding a window of it."""
    method = network.method.to(memory_format=LAYOUTS[layout]).eval()
    begun = time.process_time()
    encoded = encode(method, picture, precision=precision)
    between = time.process_time()
    with torch.inference_mode():
        method.decode([encoded.maps] * len(method.offsets), encoded.size)
    return between - begun, time.process_time() - between


def _stream(network: Network, pictures: Sequence[NDArray[np.uint8]], precision: str) -> float:
    """Seconds per frame of the stream over all pictures."""
    begun = time.process_time()
    for _ in predict_frames(network.method, pictures, image=lambda picture: picture, precision=precision):
        pass
    return (time.process_time() - begun) / len(pictures)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m crowdloc.benchmarks.streaming", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results to this file")
    parser.add_argument("--frames", type=int, default=12, help="frames of the film (default 12; half a minute in all)")
    options = parser.parse_args(arguments)
    if options.frames < 2:
        parser.error("--frames must be at least 2")
    facts = measurement()  # before this run makes the machine busy
    rows = measure(frames=options.frames)
    print(rows.to_string(index=False, na_rep=""))
    if options.json:
        what = {"height": HEIGHT, "width": WIDTH, "frames": options.frames, "unit": "ms of processor time a frame"}
        write_json(options.json, {"metadata": facts | what, "rows": rows.to_dict("records")})


if __name__ == "__main__":
    main()

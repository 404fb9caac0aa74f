"""SenseCrowd (the paper, Section III), released as VSCrowd: 634 videos, head points, boxes and track ids."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import Frame
from crowdloc.datasets.files import find_folder, listed, read_text
from crowdloc.datasets.reading import Listing, hold_out

# folders of images and annotations, how many tokens precede the heads, and the columns of: id, box, point
_OFFICIAL = ("videos", "annotations", 1, (0, slice(1, 5), slice(5, 7)))
_REPACKED = ("video_ori", "label_list_all", 3, (6, slice(0, 4), slice(4, 6)))


def scan(root: Path, split: str) -> Listing:
    """`videos/<video>/<frame>.jpg` with `annotations/<video>.txt`, or `video_ori` with `label_list_all`.

    A line of a .txt is one frame: its name, then seven numbers a head (official: id x1 y1 x2 y2 px py;
    repacked: two tokens to ignore before the heads, and the id last). A name alone is a frame without heads.
    Videos are scenes; val is every tenth training video. Coordinates are taken as 0-based pixels, which the
    release does not specify.
    """
    folder = find_folder(
        root,
        ("sensecrowd", "SenseCrowd", "VSCrowd", "vscrowd", "VSCrowd-Dataset"),
        ["annotations|label_list_all", "videos|video_ori"],
        "sensecrowd",
    )
    layout = _OFFICIAL if (folder / _OFFICIAL[1]).is_dir() else _REPACKED
    parts = []
    for half in {"test": ("test",), "all": ("train", "test")}.get(split, ("train",)):
        videos = listed(folder / layout[1], f"{half}_*.txt", "sensecrowd")
        parts += [
            partial(read_video, path, folder / layout[0] / path.stem, repacked=layout is _REPACKED)
            for path in (videos if half == "test" else hold_out(videos, split))
        ]
    return Listing(parts)


def read_video(path: Path, images: Path, *, repacked: bool = False) -> list[Frame]:
    """The frames that one annotation file names; errors name the file and the line."""
    _, _, lead, (identity, box, point) = _REPACKED if repacked else _OFFICIAL
    frames: dict[str, Frame] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        tokens = line.split()
        if not tokens:
            continue
        where, stem = f"annotation {path}, line {number}", Path(tokens[0]).stem
        if len(tokens) < lead or (len(tokens) - lead) % 7:
            raise CrowdlocError(f"{where}: {len(tokens)} tokens are not {lead} and seven a head: restore the file")
        if not stem or "\0" in stem or len(stem) > 60 or stem in frames:  # longer names can be no file's
            fault = "repeated" if stem in frames else "no name"
            raise CrowdlocError(f"{where}: frame {tokens[0][:60]!r} is {fault}: restore the file")
        try:
            heads = np.array([float(token) for token in tokens[lead:]]).reshape(-1, 7)  # (n, 7)
        except ValueError:
            raise CrowdlocError(f"{where}: a token after {tokens[0]!r} is no number: restore the file") from None
        ids = heads[:, identity]
        if not np.isfinite(heads).all() or (ids != np.round(ids)).any() or (np.abs(ids) > 2**53).any():
            raise CrowdlocError(f"{where}: a coordinate is not finite or an id no whole number: restore the file")
        frames[stem] = Frame(
            f"{path.stem}_{stem}",
            path.stem,
            images / f"{stem}.jpg",
            heads[:, point],
            heads[:, box],
            ids.astype(np.int64),
        )
    return list(frames.values())

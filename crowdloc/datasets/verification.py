"""Read everything that a data set's folder holds and compare it with what was published."""

from __future__ import annotations

import os
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from os import PathLike

import numpy as np

from crowdloc.core.errors import CrowdlocError, printable
from crowdloc.datasets.base import Frame
from crowdloc.datasets.catalog import FACTS
from crowdloc.datasets.images import decode_image, read_bytes
from crowdloc.datasets.overheard import Overheard, jpeg_damage, overhear
from crowdloc.datasets.reading import inside_roi, outside_image

_SHOWN = 10  # how many of a list are printed
_Image = tuple[tuple[int, int], bytes, bool]  # size, digest, suspected of damage


@dataclass
class Report:
    """What `verify` found; `str` gives the table."""

    name: str
    frames: int = 0  # annotated, whether or not the image is there
    images: int = 0  # present and whole
    missing: int = 0
    annotations: int = 0
    in_roi: int = 0
    empty: int = 0  # frames without heads
    fewest: int | None = None
    most: int = 0
    outside: int = 0  # points that round to no pixel of their image
    outside_images: int = 0
    farthest: float = 0.0  # pixels from the border
    repeated_points: int = 0  # points that stand in an image already
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    copies: list[str] = field(default_factory=list)  # images that equal another, byte for byte
    broken: list[str] = field(default_factory=list)  # one message for each unreadable file
    notes: list[str] = field(default_factory=list)  # what is absent that counts need

    @property
    def totals(self) -> tuple[tuple[str, int, int, bool], ...]:
        """(what, found, published, as expected) for frames and annotations."""
        facts = FACTS[self.name]
        found = self.in_roi if facts.counted_in_roi else self.annotations
        what = "annotations in the region" if facts.counted_in_roi else "annotations"
        return (
            ("annotated frames", self.frames, facts.frames, self.frames == facts.frames),
            (what, found, facts.annotations, found == (facts.measured or facts.annotations)),
        )

    @property
    def ok(self) -> bool:
        """No broken file and the totals of the official files; absent images are reported, but are no failure."""
        return not self.broken and all(row[3] for row in self.totals)

    @property
    def exit_code(self) -> int:
        """0 if `ok`, else 1."""
        return 0 if self.ok else 1

    def __str__(self) -> str:
        facts = FACTS[self.name]
        rows = [(self.name, "found", facts.published_in, "")]
        for what, found, published, expected in self.totals:
            verdict = "equal" if found == published else "as in the official files" if expected else "DIFFERS"
            rows.append((what, f"{found:,}", f"{published:,}", verdict))
        spread = f"{self.fewest}-{self.most}" if self.frames else "-"
        reach = f"in {self.outside_images:,} images, up to {self.farthest:.0f} px" if self.outside else ""
        rows += [
            ("images present and whole", f"{self.images:,}", "", f"{self.missing:,} absent" if self.missing else ""),
            ("image sizes", self._size_range(), "", f"{len(self.sizes)} sizes" if len(self.sizes) > 1 else ""),
            ("heads in a frame", spread, "", f"{self.empty:,} frames without" if self.empty else ""),
            ("points outside the image", f"{self.outside:,}", "", reach),
            ("points repeated in an image", f"{self.repeated_points:,}", "", ""),
            ("images that are copies", f"{len(self.copies):,}", "", ""),
            ("broken files", f"{len(self.broken):,}", "", ""),
        ]
        first, second, third = (max(len(row[column]) for row in rows) for column in range(3))
        lines = [f"{a:<{first}}  {b:>{second}}  {c:>{third}}  {d}".rstrip() for a, b, c, d in rows]
        lines += [f"note: {note}" for note in [facts.note, *self.notes] if note]
        for title, items in (("broken", self.broken), ("copy", self.copies)):
            lines += [f"{title}: {item}" for item in items[:_SHOWN]]
            lines += [f"{title}: and {len(items) - _SHOWN:,} more"] if len(items) > _SHOWN else []
        rest = f", but {self.missing:,} of the annotated images are absent" if self.missing else ""
        return printable("\n".join([*lines, f"verified{rest}" if self.ok else "NOT as published"]))

    def _size_range(self) -> str:
        if not self.sizes:
            return "-"
        (w0, w1), (h0, h1) = ((min(side), max(side)) for side in zip(*self.sizes, strict=True))
        return f"{w0}x{h0}" if len(self.sizes) == 1 else f"{w0}-{w1} x {h0}-{h1}"


def verify(name: str, root: str | PathLike[str] | None = None, progress: bool = True) -> Report:
    """Read every annotation and decode every image of a real data set, with all cores and bounded memory.

    A damaged file is an entry of `broken` and the rest is read all the same; a progress bar goes to stderr. Raises
    CrowdlocError where the data set is unknown or its folder absent.
    """
    from tqdm import tqdm

    from crowdloc.datasets import scan

    listing = scan(name, root, "all")
    report = Report(name, notes=list(listing.notes))
    workers = os.cpu_count() or 1
    pending: deque[tuple[Frame, Future[_Image]]] = deque()
    scene_size: dict[str, tuple[int, int]] = {}
    first_of: dict[bytes, Frame] = {}
    suspects: list[Frame] = []
    rois: dict[str, np.ndarray] = {}
    for scene, read in listing.rois.items():
        try:
            rois[scene] = read()
        except CrowdlocError as error:
            report.broken.append(str(error))

    def settle_oldest() -> None:
        frame, future = pending.popleft()
        try:
            size, digest, suspect = future.result()
        except CrowdlocError as error:
            report.broken.append(str(error))
            return
        report.images += 1
        report.sizes[size] += 1
        if suspect:
            suspects.append(frame)
        if scene_size.setdefault(frame.scene, size) != size:
            report.broken.append(f"image {frame.path} differs in size from the other frames of its scene")
        _add_outside(report, frame, size)
        if digest in first_of:
            report.copies.append(f"{frame.path} = {first_of[digest].path}")
        first_of.setdefault(digest, frame)

    with (
        overhear() as (heard, screen),
        tqdm(total=FACTS[name].frames, desc=name, unit="frame", file=screen, disable=not progress) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        for part in listing.parts:
            try:
                frames = part()
            except CrowdlocError as error:
                report.broken.append(str(error))
                continue
            for frame in frames:
                bar.update()
                _add_annotation(report, frame, rois.get(frame.scene))
                if not frame.path.is_file():
                    report.missing += 1
                    continue
                pending.append((frame, pool.submit(_inspect, frame, heard)))
                if len(pending) > 4 * workers:
                    settle_oldest()
        while pending:
            settle_oldest()
    for frame in suspects:
        if damage := jpeg_damage(read_bytes(frame.path)):
            report.images -= 1
            report.broken.append(f"image {frame.path} is damaged ({damage}): restore the file from its source")
    return report


def _inspect(frame: Frame, heard: Overheard) -> _Image:
    """Size and digest of an image, and whether anything was said of damage while it was decoded, here or in another
    thread; the threads spend their time in the decoder and the hash, which free the lock."""
    data, before = read_bytes(frame.path), len(heard)
    height, width = decode_image(data, frame.path).shape[:2]
    return (width, height), blake2b(data, digest_size=16).digest(), len(heard) > before


def _add_annotation(report: Report, frame: Frame, roi: np.ndarray | None) -> None:
    count = len(frame.points)
    report.frames += 1
    report.annotations += count
    report.in_roi += count if roi is None else int(inside_roi(roi, frame.points).sum())
    report.empty += count == 0
    report.fewest = count if report.fewest is None else min(report.fewest, count)
    report.most = max(report.most, count)
    report.repeated_points += count - len(np.unique(frame.points, axis=0))


def _add_outside(report: Report, frame: Frame, size: tuple[int, int]) -> None:
    out = frame.points[outside_image(frame.points, size)]
    if len(out):
        report.outside += len(out)
        report.outside_images += 1
        distance = np.abs(out - np.clip(out, 0, np.array(size) - 1)).max()
        report.farthest = max(report.farthest, float(distance))

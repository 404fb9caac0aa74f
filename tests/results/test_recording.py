"""The folder that `locate --out` writes: readable at any moment, gone on with after any end, never overwritten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pandas as pd
import pytest
from helpers import disc_video

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import read_json
from crowdloc.core.paths import ROOT
from crowdloc.figures.footage import binned, write_count_over_time
from crowdloc.models import Method, Prediction
from crowdloc.results import locating
from crowdloc.results.networks import Network
from crowdloc.results.recording import COUNTS, PARQUET, POINTS, RUN, Located, Recording, line, read


class Bright(Method):
    """Finds as many heads as the frame before, this one and the next are bright."""

    offsets = (-1, 0, 1)

    def encode(self, images):
        self.encoded = getattr(self, "encoded", 0) + 1
        return (images.mean(dim=(1, 2, 3), keepdim=True),)

    def decode(self, window, size):
        means = [float(maps[0]) for maps in window]
        number = max(0, round(4 * (sum(means) + 5)))
        points = np.stack([np.arange(number) + 0.123456, np.full(number, means[1])], axis=1)
        return Prediction(points, np.linspace(1, 0.6, number))


@pytest.fixture
def method(monkeypatch, tmp_path):
    import torch

    method = Bright()
    method.weight = torch.nn.Parameter(torch.zeros(()))
    about = {"experiment": {"id": "own/bright/seed0", "method": "gnanet", "data": "own"}}
    network = Network(method, 0.5, about, tmp_path / "w.safetensors", "0123")
    monkeypatch.setattr(locating, "open_network", lambda *_, **__: network)
    return method


def frames(folder, number):
    folder.mkdir()
    for k in range(number):
        cv2.imwrite(str(folder / f"f_{k}.png"), np.full((8, 12, 3), 15 * k, np.uint8))
    return folder


def contents(folder):
    return {name: (folder / name).read_bytes() for name in (POINTS, COUNTS)}


def run(source, out, **options):
    return locating.record(source, out, progress=False, **options)


def test_every_frame_has_a_line_and_numbers_are_short(method, tmp_path):
    found = run(frames(tmp_path / "in", 5), tmp_path / "out", fps=2)
    assert (found.frames, found.complete, found.stopped) == (5, True, False)
    counts = pd.read_csv(tmp_path / "out" / COUNTS)
    points = pd.read_csv(tmp_path / "out" / POINTS)
    assert list(counts["frame"]) == [f"f_{k}.png" for k in range(5)]
    assert list(counts["time"]) == [0, 0.5, 1, 1.5, 2]
    assert counts["count"].sum() == len(points) == found.heads > 0
    assert (counts["count"] == 0).any()  # a frame without heads is there
    assert max(len(str(value)) for value in points["x"]) <= 5
    assert [(f.frame, len(f.points)) for f in read(tmp_path / "out")] == list(
        zip(counts["frame"], counts["count"], strict=True)
    )


@pytest.mark.parametrize("stop", [1, 2, 4, 5, 6])
def test_a_stopped_run_goes_on_to_the_same_files(method, tmp_path, stop):
    source = frames(tmp_path / "in", 6)
    run(source, tmp_path / "whole")
    first = run(source, tmp_path / "out", limit=stop)
    assert first.frames == stop
    assert len(list(read(tmp_path / "out"))) == stop
    method.encoded = 0
    again = run(source, tmp_path / "out")
    assert again.complete and contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert method.encoded <= 6 - stop + 1  # only what later frames look at
    method.encoded = 0
    assert run(source, tmp_path / "out").complete and method.encoded == 0  # nothing is left to do


@pytest.mark.parametrize("damage", ["half a line of points", "points without a count", "half a count", "lost points"])
def test_whatever_a_kill_leaves_is_mended(method, tmp_path, damage):
    source, out = frames(tmp_path / "in", 6), tmp_path / "out"
    run(source, tmp_path / "whole")
    run(source, out, limit=5)
    points, counts = out / POINTS, out / COUNTS
    if damage == "half a line of points":
        points.write_bytes(points.read_bytes() + b"f_5.png,1.1")
    elif damage == "points without a count":
        points.write_bytes(points.read_bytes() + b"f_5.png,1.10,2.00,0.9000\n")
    elif damage == "half a count":
        counts.write_bytes(counts.read_bytes()[:-2])
    else:
        points.write_bytes(points.read_bytes()[:-20])
    assert run(source, out).complete
    assert contents(out) == contents(tmp_path / "whole")


def test_a_folder_of_something_else_is_left_alone(method, tmp_path):
    source, out = frames(tmp_path / "in", 3), tmp_path / "out"
    run(source, out)
    before = contents(out)
    with pytest.raises(CrowdlocError, match=r"out holds another run \(threshold differ\): choose another folder"):
        run(source, out, threshold=0.9)
    with pytest.raises(CrowdlocError, match="source differ"):
        run(frames(tmp_path / "other", 3), out)
    assert contents(out) == before
    run(source, out, threshold=2.0, overwrite=True)
    assert len(pd.read_csv(out / POINTS)) == 0
    with pytest.raises(CrowdlocError, match="in holds other files: choose another folder"):
        run(source, source)
    (out / COUNTS).write_text("frame,time,count\nf_0.png,,many\n")
    with pytest.raises(CrowdlocError, match=r"counts\.csv is damaged in line 2"):
        run(source, out, threshold=2.0)


def test_pictures_are_made_of_every_frame_also_after_a_stop(method, tmp_path):
    source, out = frames(tmp_path / "in", 5), tmp_path / "out"
    run(source, out, fps=4, limit=2)
    run(source, out, fps=4, annotate=True)
    film = cv2.VideoCapture(str(out / "annotated.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 5 and film.get(cv2.CAP_PROP_FPS) == 4
    assert not list(out.glob(".annotated*"))
    run(source, tmp_path / "slow", fps=4, every=2, annotate=True)
    assert cv2.VideoCapture(str(tmp_path / "slow" / "annotated.mp4")).get(cv2.CAP_PROP_FPS) == 2
    run(source, tmp_path / "album", annotate=True)
    assert sorted(p.name for p in (tmp_path / "album" / "annotated").iterdir()) == [f"f_{k}.png.jpg" for k in range(5)]


def test_frames_of_changing_size_are_located_and_filmed(method, tmp_path):
    """Where the size changes a new video begins: the frames beside the change are their own neighbours."""
    source = frames(tmp_path / "in", 5)
    for k in (3, 4):
        cv2.imwrite(str(source / f"f_{k}.png"), np.full((10, 6, 3), 15 * k, np.uint8))
    assert run(source, tmp_path / "out", fps=4, annotate=True).frames == 5
    film = cv2.VideoCapture(str(tmp_path / "out" / "annotated.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 5 and film.get(cv2.CAP_PROP_FRAME_WIDTH) == 12
    run(frames(tmp_path / "same", 3), tmp_path / "alone", fps=4)
    assert [f.points.tolist() for f in read(tmp_path / "out")][:3] == [
        f.points.tolist() for f in read(tmp_path / "alone")
    ]


def test_a_codec_that_cannot_be_written_is_named_and_nothing_is_lost(method, tmp_path, monkeypatch):
    source, out = frames(tmp_path / "in", 4), tmp_path / "out"

    class Unable:
        def __init__(self, *_):
            pass

        def isOpened(self):
            return False

        def release(self):
            pass

    with monkeypatch.context() as patched:
        patched.setattr(cv2, "VideoWriter", type("W", (Unable,), {"fourcc": staticmethod(cv2.VideoWriter.fourcc)}))
        with pytest.raises(CrowdlocError, match="lacks the codec mp4v, leave --annotate away"):
            run(source, out, fps=4, annotate=True)
    assert not list(out.glob("*.mp4"))
    assert run(source, out, fps=4).complete
    run(source, tmp_path / "whole", fps=4)
    assert contents(out) == contents(tmp_path / "whole")


def test_another_precision_is_another_run(method, tmp_path):
    source, out = frames(tmp_path / "in", 3), tmp_path / "out"
    run(source, out, precision="fp32")
    assert read_json(out / RUN)["run"]["precision"] == "fp32"
    with pytest.raises(CrowdlocError, match=r"another run \(precision differ\)"):
        run(source, out, precision="bf16")


def test_parquet_holds_what_the_csv_holds(method, tmp_path):
    run(frames(tmp_path / "in", 4), tmp_path / "out", parquet=True)
    table = pd.read_parquet(tmp_path / "out" / PARQUET)
    text = pd.read_csv(tmp_path / "out" / POINTS)
    assert list(table["frame"]) == list(text["frame"])
    np.testing.assert_allclose(table[["x", "y", "score"]], text[["x", "y", "score"]], atol=1e-4)


def test_an_unreadable_image_of_a_folder_is_left_out_and_noted(method, tmp_path):
    source = frames(tmp_path / "in", 4)
    (source / "f_2.png").write_bytes((source / "f_2.png").read_bytes()[:30])
    with pytest.warns(match=r"f_2\.png is truncated.*; it is left out"):
        assert run(source, tmp_path / "out").frames == 3
    assert "f_2.png" in read_json(tmp_path / "out" / RUN)["warnings"][0]


def test_names_are_one_line_whatever_they_hold(tmp_path):
    found = Located('a,"b"\nc.png', np.array([[1.0, 2.0]]), np.array([0.5]))
    with Recording(tmp_path / "out", {}) as recording:
        recording.add(found)
    (again,) = read(tmp_path / "out")
    assert again.frame == 'a,"b"\\x0ac.png' and again.points.tolist() == [[1, 2]]
    assert line(("a", 1)) == "a,1\n"


def test_long_recordings_are_plotted_from_few_rows(tmp_path):
    values = np.random.default_rng(0).integers(0, 50, 5003)
    path = tmp_path / COUNTS
    path.write_text("frame,time,count\n" + "".join(f"{k},{k / 10:.3f},{v}\n" for k, v in enumerate(values)))
    when, table, unit = binned(path, bins=100)
    assert unit == "minutes" and len(when) <= 100 and when[0] == 0
    assert table[:, 0].min() == values.min() and table[:, 2].max() == values.max()
    size = 64  # 5003 frames in at most 100 bins of a power of two
    np.testing.assert_allclose(table[:-1, 1], values[: len(values) // size * size].reshape(-1, size).mean(axis=1))
    assert write_count_over_time(tmp_path).stat().st_size > 1000
    path.write_text("frame,time,count\n")
    with pytest.raises(CrowdlocError, match="holds no frame"):
        write_count_over_time(tmp_path)


def test_ctrl_c_leaves_whole_frames_and_says_so(tmp_path):
    """The command itself, on a folder of frames, stopped after its first ones."""
    disc_video(tmp_path / "in", frames=60, size=(96, 128))
    out = tmp_path / "out"
    arguments = ["locate", str(tmp_path / "in"), "--out", str(out), "--threshold", "0.05"]
    command = [sys.executable, "-m", "crowdloc", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 240
    while not (out / COUNTS).is_file() or (out / COUNTS).read_bytes().count(b"\n") < 4:
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    printed, _ = started.communicate(timeout=60)
    partial = list(read(out))
    assert started.returncode == 130 and b"the same command goes on" in printed
    assert 3 <= len(partial) < 60
    facts = read_json(out / RUN)
    assert (facts["frames"], facts["complete"]) == (len(partial), False)
    assert facts["heads"] == len(pd.read_csv(out / POINTS)) == sum(len(found.points) for found in partial)

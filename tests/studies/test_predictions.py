"""Causes of errors on a frame made by hand; what else is in a generated scene; which frames and failures are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets import samples
from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.datasets.synthcrowd import build_scene, scene_annotations
from crowdloc.datasets.synthcrowd.geometry import UNIT
from crowdloc.results.experiments import Experiment
from crowdloc.results.runs import Run
from crowdloc.studies import predictions as p

NONE = np.empty((0, 2))


def frame(*points: tuple[float, float]) -> Frame:
    at = np.array(points, dtype=float)
    return Frame("a", "a", Path("a"), at, np.hstack([at - 5.5, at + 5.5]), np.arange(len(at)))


def judged(points, scores, truth, *, lookalikes=NONE, objects=NONE, people=NONE) -> p.Shown:
    """With a scale of 2, near is within 11.77 pixels; counted is .5 and more."""
    where = p.Others(*(np.asarray(part, dtype=float).reshape(-1, 2) for part in (lookalikes, objects, people)))
    return p.causes(np.array(points, dtype=float), np.array(scores), truth, where, 0.5, 2.0)


def test_false_detections_lie_on_what_is_nearest():
    points = [(20, 20), (60, 20), (90, 20), (120, 20), (22, 20), (200, 90), (160, 20)]
    found = judged(points, [0.9, 0.9, 0.8, 0.7, 0.6, 0.6, 0.55], frame((21, 20)), lookalikes=[(62, 20), (150, 20)],
                   objects=[(91, 20), (159, 20)], people=[(120, 25), (122, 40)])  # fmt: skip
    assert found.cause.tolist() == ["", "look-alike", "object", "person not annotated", "head found twice", "nothing",
                                    "object"]  # fmt: skip
    assert found.match.tolist() == [0] and found.false.sum() == 6 and not found.missed.any()


def test_near_is_as_far_as_a_match_may_be():
    found = judged([(50, 20), (90, 20)], [0.9, 0.8], frame((200, 20)), lookalikes=[(61.7, 20)], objects=[(101.9, 20)])
    assert found.cause.tolist() == ["look-alike", "nothing"]


def test_missed_heads_were_seen_or_not():
    truth = frame((20, 20), (60, 20), (100, 20))
    found = judged([(20, 21), (63, 20)], [0.9, 0.2], truth)
    assert found.why.tolist() == ["", "score too low", "not seen"]
    assert found.missed.tolist() == [False, True, True] and len(found.points) == 1
    assert found.diameter == pytest.approx([10.0] * 3)
    assert found.f1 == pytest.approx(2 * 1 / (3 + 1))


def test_nothing_found_and_nobody_there():
    assert judged(NONE, [], frame((20, 20))).why.tolist() == ["not seen"]
    empty = Frame("a", "a", Path("a"), NONE, np.empty((0, 4)), np.empty(0))
    assert judged([(3, 3)], [0.9], empty).cause.tolist() == ["nothing"]
    assert judged(NONE, [], empty).f1 == 0


def test_others_are_all_that_is_not_annotated():
    scene, shown = build_scene("sense", "dev", 3), samples.synthetic("sense", 3, 2)
    where = p.others("sense", "dev", 3, 2)
    inside = ((where.lookalikes >= 0) & (where.lookalikes <= (511, 287))).all(axis=1)
    assert np.array_equal(where.lookalikes[inside], shown.lookalikes) and len(shown.lookalikes) > 0
    assert sum(map(len, where)) + len(shown.points) == len(scene.figures)
    assert len(where.people) + len(scene_annotations(scene, 2).points) == scene.people
    annotated = {tuple(point) for point in np.rint(shown.points * UNIT)}
    assert not annotated & {tuple(point) for part in where for point in np.rint(part * UNIT)}


def shown(f1_hits: int, *, scores=(0.9,), size=10.0, name: str = "") -> p.Shown:
    """Four heads, `f1_hits` of them found, and as many false look-alikes as there are scores."""
    heads = np.array([[10.0 * k, 5.0] for k in range(4)])
    points = np.vstack([heads[:f1_hits], np.array([[7.0, 50.0 + k] for k in range(len(scores))]).reshape(-1, 2)])
    match = np.where(np.arange(4) < f1_hits, np.arange(4), -1)
    cause = np.array([""] * f1_hits + ["look-alike"] * len(scores))
    why = np.where(match >= 0, "", "not seen")
    sure = np.array([0.99] * f1_hits + list(scores))
    return p.Shown(name, 0, np.zeros((9, 9, 3), np.uint8), heads, np.full(4, size), points, sure, match, cause, why)


def test_the_typical_frame_is_the_median():
    frames = [shown(k, name=str(k)) for k in (4, 0, 2, 1)]
    assert p.typical(frames).title == "1"  # the lower one of the two in the middle
    assert p.typical(frames[:3]).title == "2"


def test_the_worst_are_the_surest_and_the_largest():
    frames = [shown(3, scores=(0.6, 0.8), size=9, name="a"), shown(3, scores=(0.7,), size=20, name="b")]
    found = p.worst(frames, each=2)
    assert [(f.title, f.frame.title) for f in found] == [
        ("false: look-alike", "a"), ("false: look-alike", "b"), ("missed: not seen", "b"), ("missed: not seen", "a"),
    ]  # fmt: skip
    assert found[0].at == (7, 51) and found[2].at == (30, 5)


def test_domain_table_pools_frames():
    row = p.domain_table({"sense": [shown(3), shown(1, scores=())]}).loc["sense"]
    assert row[["frames", "heads", "recall", "precision"]].tolist() == [2, 8, 0.5, 0.8]
    assert row["F1"] == pytest.approx(2 * 4 / 13) and row["count error per frame"] == pytest.approx(-1.5)


def test_spread_takes_the_middles():
    class Ten(list):
        pass

    assert p._spread(Ten(range(10)), 2) == [2, 7] and p._spread(Ten(range(96)), 12)[:2] == [4, 12]
    assert p._address("synthcrowd-sense", "test", 23) == ("sense", "test", 2, 3)


def test_tables_of_errors(monkeypatch):
    frames = [shown(3, scores=(0.6, 0.8)), shown(2)]
    monkeypatch.setattr(p, "tested", lambda run: iter(frames))
    monkeypatch.setattr(p, "lookalikes", lambda experiment: 12)
    runs = [
        Run(Experiment("synthcrowd-sense", "mini", "gnanet", s), "stored", None, None, 0.5, {}, Path()) for s in (0, 1)
    ]
    row = p.false_table({"gnanet": runs, "fcos": []}).loc["GNANet"]
    assert row[["seeds", "false", "look-alike", "nothing"]].tolist() == [2, 3, 3, 0]
    assert row["of all look-alikes (%)"] == 25
    table = p.heads_table(runs)
    assert table["share"].tolist() == pytest.approx([5 / 8, 0, 3 / 8], nan_ok=True)
    assert table.loc["found", "crowded"] == 0 and table.loc["found", "at the edge"] == pytest.approx(2 / 5)


def test_crowded_heads_by_hand():
    assert p._neighbour(np.array([[0.0, 0], [3, 4], [3, 5]])).tolist() == [5, 1, 1]
    assert p._neighbour(np.array([[1.0, 1]])).tolist() == [np.inf]


def test_real_frames_are_not_shown(monkeypatch):
    monkeypatch.setattr(p, "_network", lambda experiment, source: (None, 0.5))
    monkeypatch.setattr(Experiment, "load", lambda self, split: ClipDataset([], name="none"))
    with pytest.raises(CrowdlocError, match="mall is a real data set"):
        p.look("synthcrowd-sense-mini/gnanet/seed0", "mall", frames=1)

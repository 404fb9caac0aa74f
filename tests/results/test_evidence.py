import json

import numpy as np
import pytest
from helpers import disc_video

from crowdloc.core.errors import CrowdlocError
from crowdloc.metrics import SIGMAS, localization_scores
from crowdloc.models.decoding import Detections
from crowdloc.results import bootstrap, pooling, runs
from crowdloc.results import evidence as ev
from crowdloc.results import tables as results
from crowdloc.results import verdicts as claims
from crowdloc.results.bootstrap import Difference, paired_differences
from crowdloc.results.evidence import Evidence


@pytest.fixture
def found(tmp_path):
    """A data set of 4 images and noisy detections of it, some missing, some invented."""
    data = disc_video(tmp_path / "data")
    random = np.random.default_rng(3)
    detections = []
    for frame in data.frames:
        points = np.concatenate([frame.points[1:] + random.normal(0, 3, (3, 2)), random.random((2, 2)) * 40])
        scores = np.sort(random.random(5).astype(np.float32).astype(np.float64))[::-1]
        detections.append(Detections(np.round(points * 64) / 64, scores))
    return data, detections


@pytest.mark.parametrize("write", ["predictions", "matches"])
def test_metrics_come_back_exactly(tmp_path, found, write):
    data, detections = found
    if write == "predictions":
        ev.write_predictions(tmp_path, detections, data)
    else:
        ev.write_matches(tmp_path, ev.match(detections, data, scale=1.0))
    again = ev.read_evidence(tmp_path, scale=1.0)
    direct = localization_scores(detections, [f.points for f in data.frames])
    for sigma in SIGMAS:
        assert again.localization[str(sigma)] == direct.loc[sigma].to_dict()
    assert again.heads.tolist() == [4] * 4
    assert again.scenes == ["discs"] * 4


def test_evidence_of_real_data_holds_no_coordinates(tmp_path, found):
    data, detections = found
    ev.write_matches(tmp_path, ev.match(detections, data, scale=1.0))
    columns = ev._load(tmp_path / ev.MATCHES)
    assert set(columns) == {"image", "rank", "score", *ev._FLAGS}
    assert not (tmp_path / ev.PREDICTIONS).exists()


def test_counts_and_f1_by_hand():
    flags = np.zeros((3, 10, 3), dtype=bool)
    flags[:, :, 0] = True
    flags[1, 0, 2] = True
    one = Evidence(["a"], ["s"], np.array([2]), [np.array([0.9, 0.5, 0.2])], [flags])
    metrics = one.metrics(0.5)
    assert metrics["counting"] == {"MAE": 0.0, "MSE": 0.0}
    assert metrics["f1"] == {"precision": 0.5, "recall": 0.5, "F1": 0.5}
    assert metrics["detections_per_head"] == 1.5
    assert one.best_counting_threshold() == 0.5  # the highest threshold that still counts two


def test_an_image_without_heads_or_detections(tmp_path):
    data = disc_video(tmp_path / "data", heads=0)
    nothing = [Detections(np.zeros((0, 2)), np.zeros(0))] * 4
    some = [Detections(np.array([[1.0, 2.0]]), np.array([0.5])), *nothing[1:]]
    ev.write_predictions(tmp_path, some, data)
    again = ev.read_evidence(tmp_path, scale=1.0)
    assert [len(s) for s in again.scores] == [1, 0, 0, 0]
    assert np.isnan(again.localization["5"]["mAP"])


def test_damaged_evidence_is_named(tmp_path, found):
    data, detections = found
    ev.write_predictions(tmp_path, detections, data)
    (tmp_path / ev.PREDICTIONS).write_bytes(b"nonsense")
    with pytest.raises(CrowdlocError, match=r"predictions\.parquet cannot be read"):
        ev.read_evidence(tmp_path, scale=1.0)
    (tmp_path / ev.IMAGES).write_text("image,scene\n1,2\n")
    with pytest.raises(CrowdlocError, match=r"images\.csv cannot be read"):
        ev.read_evidence(tmp_path, scale=1.0)


def test_a_tampered_metric_is_named(tmp_path):
    stored = {"localization": {"20": {"mAP": 0.5}}, "counting": {"MAE": 3.0}}
    results._same(tmp_path / runs.METRICS, stored, json.loads(json.dumps(stored)), 1e-9)
    with pytest.raises(CrowdlocError, match=r"metrics\.json: localization\.20\.mAP is 0\.5, its evidence says 0\.4"):
        results._same(tmp_path / runs.METRICS, stored, {"localization": {"20": {"mAP": 0.4}}}, 1e-9)
    with pytest.raises(CrowdlocError, match=r"counting\.MSE is missing"):
        results._same(tmp_path / runs.METRICS, stored, {"counting": {"MSE": 1.0}}, 1e-9)


def _evidence(quality: float, seed: int, scenes: int = 6) -> Evidence:
    random = np.random.default_rng(seed)
    scores = [np.sort(random.random(20))[::-1] for _ in range(4 * scenes)]
    hits = [random.random((1, 1, 20)) < quality for _ in scores]
    flags = [np.broadcast_to(h, (3, 10, 20)) for h in hits]
    names = [f"{i}" for i in range(len(scores))]
    return Evidence(names, [f"s{i // 4}" for i in range(len(scores))], np.full(len(scores), 20), scores, flags)


def test_replicates_equal_repeating_the_images_by_hand():
    run = _evidence(0.6, 5)
    weights = np.random.default_rng(0).integers(0, 4, (5, 24))
    weights[1] = 1
    fast, slow = (f(run, 20, weights) for f in (pooling.pooled_scores, pooling.reference_scores))
    np.testing.assert_allclose(fast, slow, atol=1e-12)
    assert fast[1, 0] == pytest.approx(run.localization["20"]["mAP"], abs=1e-12)


def test_bootstrap_agrees_with_the_metric_and_sees_a_clear_difference():
    good, bad = [_evidence(0.8, s) for s in (1, 2)], [_evidence(0.4, s) for s in (3, 4)]
    result = paired_differences(good, bad, replicates=200)
    means = [np.mean([e.localization["20"]["mAP"] for e in side]) for side in (good, bad)]
    assert result["mAP"].estimate == pytest.approx(means[0] - means[1], abs=1e-9)
    assert result["mAP"].low < result["mAP"].estimate < result["mAP"].high
    assert result["mAP"].verdict() == "holds"
    assert result["mAR"].estimate == pytest.approx(0.4, abs=0.05)
    other = paired_differences(bad, good, replicates=200)["mAP"]
    assert other.verdict() == "does not hold"
    assert other.p_value == pytest.approx(2 / 201)


def test_bootstrap_of_equals_is_inconclusive_and_repeats():
    same = [_evidence(0.5, s) for s in (1, 2)]
    result = paired_differences(same, same, replicates=100)
    assert result["mAP"].verdict() == "inconclusive"
    assert result["mAP"].p_value > 0.05
    assert result == paired_differences(same, same, replicates=100)


def test_verdicts_by_hand():
    assert Difference(0.001, -0.003, 0.004).verdict("similar") == "holds"
    assert Difference(0.02, 0.01, 0.03).verdict("similar") == "does not hold"
    assert Difference(0.004, -0.003, 0.009).verdict("similar") == "inconclusive"
    with pytest.raises(ValueError, match="relation"):
        Difference(0, 0, 0).verdict("worse")
    with pytest.raises(ValueError, match="same images"):
        paired_differences([_evidence(0.5, 1)], [_evidence(0.5, 1, scenes=5)])


def test_units_are_scenes_or_stretches_of_a_video():
    many = [f"s{i // 3}" for i in range(18)]
    assert bootstrap.independent_units(many).tolist() == [i // 3 for i in range(18)]
    one = bootstrap.independent_units(["mall"] * 50)
    assert one.tolist() == [i // bootstrap.BLOCK for i in range(50)]


def test_holm_by_hand():
    assert claims.holm([0.01, 0.04, 0.03]) == [True, False, False]  # 0.01 ≤ .05/3; 0.03 > .05/2
    assert claims.holm([0.01, 0.02, 0.03]) == [True, True, True]
    assert claims.holm([]) == []

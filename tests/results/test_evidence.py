import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import disc_video

from crowdloc.core.errors import CrowdlocError
from crowdloc.metrics import SIGMAS, counting_errors, localization_scores
from crowdloc.models.method import Prediction
from crowdloc.results import evidence as ev
from crowdloc.results import formats
from crowdloc.results.evidence import CountEvidence, Evidence
from crowdloc.results.experiments import Experiment

GENERATED = Experiment.parse("synthcrowd-sense-paper/raznet/seed0")  # σ scale 1
REAL = Experiment.parse("mall-mini/raznet/seed0")
EITHER = pytest.mark.parametrize("experiment", [GENERATED, REAL], ids=["generated", "real"])


@pytest.fixture
def data(tmp_path):
    """4 images with 4 heads each, at whole pixels."""
    return disc_video(tmp_path / "data")


def noisy(data, seed: int = 3, count: float | None = None) -> list[Prediction]:
    """Detections of it, unrounded, some missing, some invented."""
    random = np.random.default_rng(seed)
    made = []
    for frame in data.frames:
        points = np.concatenate([frame.points[1:] + random.normal(0, 3, (3, 2)), random.random((2, 2)) * 40])
        made.append(Prediction(np.abs(points), np.sort(random.random(5))[::-1], count))
    return made


def stored(tmp_path, experiment, predictions, data) -> Evidence:
    folder = tmp_path / experiment.id
    ev.write_evidence(folder, experiment, predictions, data)
    located, counted = ev.read_evidence(folder, experiment)
    assert located is not None
    assert counted is None
    return located


@EITHER
def test_what_is_stored_is_what_was_measured(tmp_path, data, experiment):
    predictions = noisy(data)
    again = stored(tmp_path, experiment, predictions, data)
    measured = ev.measure(predictions, data, scale=1.0)
    assert again.metrics(0.4) == measured.metrics(0.4)
    rounded = [(p.points, p.scores) for p in ev.quantise(predictions)]
    direct = localization_scores(rounded, [f.points for f in data.frames])
    for sigma in SIGMAS:
        assert again.localization[str(sigma)] == direct.loc[sigma].to_dict()
    assert again.heads.tolist() == [4] * 4
    assert (again.images, again.scenes) == ([f.id for f in data.frames], ["discs"] * 4)
    for a, b in zip(again.flags, measured.flags, strict=True):
        np.testing.assert_array_equal(a, b)


def test_quantised_predictions_stay_as_they_are_and_fall(data):
    once = ev.quantise(noisy(data))
    for a, b in zip(once, ev.quantise(once), strict=True):
        np.testing.assert_array_equal(a.points, b.points)
        np.testing.assert_array_equal(a.scores, b.scores)
        assert (np.diff(a.scores) <= 0).all()
        assert (a.points * 64 == np.round(a.points * 64)).all()
    # Scores that differ by less than a level tie, and tied detections keep their order.
    close = Prediction(np.array([[1.0, 0], [2, 0]]), np.array([0.5 + 1e-7, 0.5 + 2e-7]))
    assert ev.quantise([close])[0].points[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        (Prediction(np.array([[np.nan, 1]]), np.array([0.5])), "points of image 0 are not finite"),
        (Prediction(np.array([[1.0, 1e9]]), np.array([0.5])), "points of image 0 are not finite"),
        (Prediction(np.zeros((1, 2)), np.array([np.nan])), "scores of image 0 lie outside [0, 1]"),
        (Prediction(np.zeros((1, 2)), np.array([1.5])), "scores of image 0 lie outside [0, 1]"),
        (Prediction(count=float("inf")), "the count of image 0 is inf"),
    ],
)
def test_what_no_evidence_can_hold_is_refused(prediction, words):
    with pytest.raises(CrowdlocError) as caught:
        ev.quantise([prediction])
    assert words in str(caught.value)


def test_scores_of_older_results_come_back_as_the_floats_they_are(tmp_path):
    scores = [np.array([0.7, 0.2], dtype=np.float32).astype(np.float64), np.zeros(0)]
    points = [np.array([[1.015625, 2], [-0.5, 70000.25]]), np.zeros((0, 2))]
    formats.write_predictions(tmp_path / "p.parquet", formats.Located(["a", "b"], points, scores))
    again = formats.read_predictions(tmp_path / "p.parquet")
    assert again.images == ["a", "b"]
    for name in ("points", "scores"):
        for a, b in zip(getattr(again, name), locals()[name], strict=True):
            np.testing.assert_array_equal(a, b)
    types = {field.name: str(field.type) for field in pq.read_schema(tmp_path / "p.parquet")}
    assert "float" in types["score"]
    assert "int32" in types["x"]  # negative, or beyond 1,023 px: no uint16


def test_an_experiment_of_240_images_with_40_heads_keeps_within_the_budget(tmp_path):
    """As today: 2.6 detections per head, anywhere in a frame of 288 x 512, any score above the floor."""
    random = np.random.default_rng(0)
    sizes = [104] * 240
    points = [random.random((n, 2)) * (511, 287) for n in sizes]
    scores = [np.sort(random.random(n) * 0.95 + 0.05)[::-1] for n in sizes]
    found = ev.quantise([Prediction(p, s) for p, s in zip(points, scores, strict=True)])
    images = [f"sense-test-scene{i // 4:03d}/{i % 4:03d}" for i in range(240)]
    path = tmp_path / ev.PREDICTIONS
    formats.write_predictions(path, formats.Located(images, [p.points for p in found], [p.scores for p in found]))
    assert path.stat().st_size <= 150_000


def test_heads_of_generated_data_are_stored_once(tmp_path, data):
    for seed in (0, 1):
        experiment = Experiment(GENERATED.data, GENERATED.preset, "raznet", seed)
        stored(tmp_path, experiment, noisy(data, seed), data)
    files = sorted(
        p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".png"
    )
    group = GENERATED.group
    assert files == [f"{group}/raznet/seed{n}/predictions.parquet" for n in (0, 1)] + [f"truth/{group}-test.parquet"]
    truth = formats.read_truth(tmp_path / files[-1])
    for points, frame in zip(truth.points, data.frames, strict=True):
        np.testing.assert_array_equal(points, frame.points)
    assert pq.read_schema(tmp_path / files[0]).names == ["image", "x", "y", "score"]


def test_evidence_of_real_data_holds_no_coordinates(tmp_path, data):
    stored(tmp_path, REAL, noisy(data), data)
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".png"]
    assert [p.name for p in files] == [ev.MATCHES]
    assert pq.read_schema(files[0]).names == ["image", "scene", "heads", "score", "flags"]


def test_heads_of_real_data_cannot_be_stored_by_mistake(tmp_path):
    real = formats.Truth(["a"], ["s"], [np.array([[1.1, 2.0]])])
    with pytest.raises(CrowdlocError, match="only those of generated data are stored"):
        formats.write_truth(tmp_path / "t.parquet", real)


@EITHER
def test_a_method_may_count_without_locating(tmp_path, data, experiment):
    folder, counts = tmp_path / experiment.id, [3.25, 4.0, 0.1, 1e-17]
    predictions = [Prediction(count=count) for count in counts]
    assert isinstance(ev.measure(predictions, data, scale=1.0), CountEvidence)
    ev.write_evidence(folder, experiment, predictions, data)
    located, counted = ev.read_evidence(folder, experiment)
    assert located is None
    assert counted.counts.tolist() == counts
    assert ev.metrics(None, counted, None) == {
        "images": 4,
        "heads": 16,
        "counting": counting_errors(counts, [4] * 4),
    }


@EITHER
def test_a_method_may_do_both(tmp_path, data, experiment):
    folder = tmp_path / experiment.id
    ev.write_evidence(folder, experiment, noisy(data, count=2.5), data)
    located, counted = ev.read_evidence(folder, experiment)
    both = ev.metrics(located, counted, 0.4)
    assert both["counting"] == {"MAE": 1.5, "MSE": 1.5}
    assert both["localization"] == located.localization
    # What is written again replaces all that was there.
    ev.write_evidence(folder, experiment, [Prediction(count=1.0)] * 4, data)
    assert [p.name for p in ev.evidence_files(folder)] == [ev.COUNTS]


def test_evidence_that_is_missing_is_said_to_be(tmp_path, data):
    with pytest.raises(CrowdlocError, match="holds no evidence"):
        ev.read_evidence(tmp_path / REAL.id, REAL)
    with pytest.raises(CrowdlocError, match="counting threshold is missing"):
        ev.metrics(stored(tmp_path, REAL, noisy(data), data), None, None)
    with pytest.raises(CrowdlocError, match="neither points nor a count"):
        ev.measure([Prediction(count=1.0)] * 3 + [Prediction()], data, scale=1.0)


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


@EITHER
def test_images_without_heads_or_detections(tmp_path, experiment):
    data = disc_video(tmp_path / "data", heads=0)
    nothing = [Prediction(np.zeros((0, 2)), np.zeros(0))] * 4
    some = [Prediction(np.array([[1.0, 2.0]]), np.array([0.5])), *nothing[1:]]
    again = stored(tmp_path, experiment, some, data)
    assert [len(s) for s in again.scores] == [1, 0, 0, 0]
    assert np.isnan(again.localization["5"]["mAP"])
    assert np.isnan(again.metrics(0.5)["detections_per_head"])
    assert [len(s) for s in stored(tmp_path, experiment, nothing, data).scores] == [0] * 4


def test_the_digest_of_evidence_depends_on_the_heads_too(tmp_path, data):
    stored(tmp_path, GENERATED, noisy(data), data)
    folder = tmp_path / GENERATED.id
    before, truth = ev.evidence_digest(folder), ev.truth_file(folder)
    content = formats.read_truth(truth)
    formats.write_truth(truth, content._replace(points=[p + 1 / 64 for p in content.points]))
    assert ev.evidence_digest(folder) != before


# Damage: one line that names the file, never a traceback and never another value.


@pytest.mark.parametrize("experiment", [GENERATED, REAL], ids=["predictions", "matches"])
def test_no_flipped_bit_reads_as_another_value(tmp_path, data, experiment):
    before = stored(tmp_path, experiment, noisy(data), data)
    (path,) = ev.evidence_files(tmp_path / experiment.id)
    whole, wrong = path.read_bytes(), []
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            again, _ = ev.read_evidence(path.parent, experiment)
        except CrowdlocError as error:
            assert path.name in str(error) and "\n" not in str(error)
            continue
        if again.metrics(0.4) != before.metrics(0.4) or again.scenes != before.scenes:
            wrong.append(place)
    assert not wrong


def _damaged(path, how):
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "other": b"nonsense"}[how])


@EITHER
@pytest.mark.parametrize("how", ["empty", "cut", "other"])
def test_damaged_evidence_is_named(tmp_path, data, experiment, how):
    stored(tmp_path, experiment, noisy(data), data)
    (path,) = ev.evidence_files(tmp_path / experiment.id)
    _damaged(path, how)
    with pytest.raises(CrowdlocError, match=rf"{path.name} cannot be read \([^\n]*$"):
        ev.read_evidence(path.parent, experiment)


@pytest.mark.parametrize("how", ["empty", "cut", "other"])
def test_damaged_counts_are_named(tmp_path, data, how):
    folder = tmp_path / REAL.id
    ev.write_evidence(folder, REAL, [Prediction(count=1.5)] * 4, data)
    _damaged(folder / ev.COUNTS, how)
    with pytest.raises(CrowdlocError, match=r"counts\.csv[^\n]*$"):
        _, counted = ev.read_evidence(folder, REAL)
        formats.same_images(folder / ev.COUNTS, counted.images, [f.id for f in data.frames])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a,s,4,nan", "not finite"),
        ("a,s,-1,1", "fewer than 0"),
        ("a,s,many,1", "invalid literal"),
        ("a,s,99999999999999999999,1", "cannot be read"),
        ("a,s,4", "cannot be read"),
        ("000,s,4,1.0", "an image twice"),
    ],
)
def test_impossible_counts_are_named(tmp_path, line, words):
    path = tmp_path / "counts.csv"
    path.write_text(f"image,scene,heads,count\n000,s,4,1.0\n{line}\n")
    with pytest.raises(CrowdlocError, match=rf"counts\.csv.*{words}"):
        formats.read_counts(path)


def _rewritten(path, column, change):
    """One column changed as somebody would who writes a whole, sound file again."""
    table = pq.read_table(path).to_pydict()
    table[column] = change(table[column])
    import pyarrow as pa

    pq.write_table(pa.table(table), path)


@pytest.mark.parametrize(
    ("experiment", "column", "change", "words"),
    [
        (GENERATED, "image", lambda c: ["unknown", *c[1:]], "image 'unknown' where its split has '000'"),
        (GENERATED, "image", lambda c: [c[1], c[0], *c[2:]], "image '001' where its split has '000'"),
        (GENERATED, "x", lambda c: [c[0][1:], *c[1:]], "not as many x as y"),
        (GENERATED, "x", lambda c: [[None, *c[0][1:]], *c[1:]], "gaps"),
        (GENERATED, "x", lambda c: [[float(v) for v in row] for row in c], "not whole"),
        (GENERATED, "score", lambda c: [c[0][1:], *c[1:]], "not as many scores"),
        (GENERATED, "score", lambda c: [sorted(row) for row in c], "do not fall"),
        (GENERATED, "score", lambda c: [[70000, *row[1:]] for row in c], "at most 1"),
        (GENERATED, "score", lambda c: [[float("nan")] * len(row) for row in c], "do not fall"),
        (GENERATED, "score", lambda c: ["text"] * len(c), "holds string"),
        (REAL, "image", lambda c: [c[0]] * len(c), "an image twice"),
        (REAL, "image", lambda c: list(range(len(c))), "holds int64, not text"),
        (REAL, "heads", lambda c: [0] * len(c), "do not fit"),
        (REAL, "flags", lambda c: [[1 << 30] * len(row) for row in c], "do not fit"),
        (REAL, "flags", lambda c: [row[1:] for row in c], "do not fit"),
        (REAL, "scene", lambda c: [None] * len(c), "gaps|not text"),
    ],
)
def test_impossible_evidence_is_named(tmp_path, data, experiment, column, change, words):
    stored(tmp_path, experiment, noisy(data), data)
    (path,) = ev.evidence_files(tmp_path / experiment.id)
    _rewritten(path, column, change)
    with pytest.raises(CrowdlocError, match=rf"{path.name}[^\n]*({words})"):
        ev.read_evidence(path.parent, experiment)


def test_other_columns_are_named(tmp_path, data):
    stored(tmp_path, REAL, noisy(data), data)
    path = tmp_path / REAL.id / ev.MATCHES
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["heads"]), path)
    with pytest.raises(CrowdlocError, match=r"matches\.parquet holds the columns image, scene, score, flags"):
        ev.read_evidence(path.parent, REAL)

"""`check` finds every change of `results/`, and what contradicts even where the manifest was rewritten."""

import json
import math
import os
import shutil
import time
from dataclasses import replace

import made_results as made
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import read_json, write_json
from crowdloc.models.method import Method
from crowdloc.models.registry import METHODS, Entry
from crowdloc.results import checking, formats
from crowdloc.results import evidence as ev
from crowdloc.results.checking import CheckError, check
from crowdloc.results.comparing import compare_truth, differences, generated_truth
from crowdloc.results.experiments import Experiment
from crowdloc.results.manifest import MANIFEST, accept, files_below
from crowdloc.results.store import promote

GROUP = "synthcrowd-sense-mini"
IDS = [f"{GROUP}/raznet/seed0", f"{GROUP}/raznet/seed1", f"{GROUP}/gnanet/seed0", "mall-mini/raznet/seed0"]
COUNTS = "mall-mini/counter/seed1"


class Counter(Method):
    yields = ("count",)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made.frames(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data):
    """Results of four experiments that locate and one that counts, with a table, a study, a census and a timing."""
    root = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "BUILD", root / "build")
        patch.setattr(paths, "RESULTS", root / "results")
        patch.setitem(METHODS, "counter", Entry(Counter, label="counter"))
        for seed, id in enumerate(IDS):
            made.finish(id, data, seed=seed)
        made.finish(COUNTS, data, seed=9, count=True)
        for id in (*IDS, COUNTS):
            promote(id)
    results = root / "results"
    for name, text in (
        ("paper/table02.csv", "method,mAP\nGNANet,.747\n"),
        ("paper/README.md", "What the paper prints.\n"),
        ("studies/rates.csv", "rate,mAP\n0.1,0.5\n"),
        ("datasets/mall.json", json.dumps({"name": "mall", "run": made.PROVENANCE})),
        ("kernels/cpu.json", json.dumps({"metadata": {"device": "an older record"}, "ms": [0.25, 0.5]})),
    ):
        (results / name).parent.mkdir(exist_ok=True)
        (results / name).write_text(text)
    accept(results, [results])
    return results


@pytest.fixture
def results(tmp_path, whole, data, monkeypatch):
    """A copy of them in place of the stored ones; the heads that the code generates are those of the test's images."""
    use(monkeypatch, tmp_path / "results", data)
    shutil.copytree(whole, tmp_path / "results")
    return tmp_path / "results"


def use(monkeypatch, folder, data):
    monkeypatch.setattr(paths, "RESULTS", folder)
    monkeypatch.setattr(paths, "BUILD", folder.parent / "build")
    monkeypatch.setitem(METHODS, "counter", Entry(Counter, label="counter"))
    truth = formats.Truth([f.id for f in data.frames], [f.scene for f in data.frames], [f.points for f in data.frames])
    monkeypatch.setattr(checking, "generated_truth", lambda experiment: truth)


def problems(accepted: bool = False) -> list[str]:
    """What `check` finds, one line each; `accepted`: after the manifest was rewritten to hide the change."""
    if accepted:
        accept(paths.RESULTS, [paths.RESULTS])
    try:
        check()
    except CheckError as error:
        assert error.problems
        assert str(error) == "\n".join(error.problems)
        assert all("\n" not in line and ": " in line for line in error.problems)
        return error.problems
    return []


def test_sound_results_pass_and_say_how_they_were_verified(results):
    states = check().set_index("experiment")["state"].to_dict()
    located = dict.fromkeys([id for id in IDS if id.startswith(GROUP)], "recomputed from points")
    assert states == located | {IDS[3]: "recomputed from flags", COUNTS: "recomputed from counts"}


# 1. Every change of a file, by the manifest.


def test_a_digit_anywhere_is_noticed_and_named(results):
    for name, path in files_below(results).items():
        content = path.read_bytes()
        place = next((i for i, byte in enumerate(content) if 48 <= byte < 58), len(content) // 2)
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert any(f"{results / name} has SHA-256" in line for line in problems()), name
        path.write_bytes(content)
    assert problems() == []


@pytest.mark.parametrize("name", ["", *sorted({GROUP, "mall-mini", "paper", "truth", f"{GROUP}/raznet", IDS[1]})])
def test_a_folder_that_is_gone_is_noticed(results, name):
    shutil.rmtree(results / name)
    lost = [line for line in problems() if "is missing" in line or "not found" in line]
    assert lost
    if name:
        assert all(f"{results / name}/" in line for line in lost if "is missing" in line)


def test_a_file_more_or_less_or_elsewhere_is_noticed(results):
    (results / IDS[0] / "notes.txt").write_text("more")
    (results / "paper" / ".table.csv.1.part").write_text("left by a killed process")
    (results / IDS[1] / "metrics.json").rename(results / IDS[1] / "metric.json")
    (results / "kernels" / "cpu.json").unlink()
    os.symlink(results / "datasets" / "mall.json", results / "datasets" / "link.json")
    found = "\n".join(problems())
    for words in (
        "seed0/notes.txt is not in MANIFEST.json",
        "seed0/notes.txt has no place in this result",
        ".table.csv.1.part is not in MANIFEST.json",
        "seed1/metric.json is not in MANIFEST.json",
        "seed1/metrics.json is missing",
        "kernels/cpu.json is missing",
        "datasets/link.json is no regular file",
    ):
        assert words in found
    (results / MANIFEST).unlink()
    assert any("MANIFEST.json not found" in line for line in problems())


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory, whole):
    folder = tmp_path_factory.mktemp("fuzzed") / "results"
    shutil.copytree(whole, folder)
    return folder


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_no_change_is_missed_and_none_ends_in_a_traceback(fuzzed, data, monkeypatch, draw):
    """Change a byte, cut, swap two files, delete, add: `check` fails with lines that name what was touched."""
    use(monkeypatch, fuzzed, data)
    names = [*files_below(fuzzed), MANIFEST]
    name = draw.draw(st.sampled_from(names), label="file")
    path, before = fuzzed / name, (fuzzed / name).read_bytes()
    how = draw.draw(st.sampled_from(["byte", "cut", "swap", "delete", "add", "insert"]), label="how")
    place = draw.draw(st.integers(0, max(len(before) - 1, 0)), label="place")
    byte = draw.draw(st.integers(0, 255), label="byte")
    other = fuzzed / draw.draw(st.sampled_from(names), label="other")
    kept = other.read_bytes()
    added = path.with_name(f"{path.name}.{byte}")
    try:
        if how == "byte":
            path.write_bytes(before[:place] + bytes([byte]) + before[place + 1 :])
        elif how == "insert":
            path.write_bytes(before[:place] + bytes([byte]) + before[place:])
        elif how == "cut":
            path.write_bytes(before[:place])
        elif how == "swap":
            path.write_bytes(kept)
            other.write_bytes(before)
        elif how == "delete":
            path.unlink()
        else:
            added.write_bytes(before)
        same = path.exists() and path.read_bytes() == before and other.read_bytes() == kept and not added.exists()
        found = problems()
        assert bool(found) != same
        assert same or any(p.name in "\n".join(found) for p in (path, added, other))
    finally:
        added.unlink(missing_ok=True)
        other.write_bytes(kept)
        path.write_bytes(before)


# 2. What contradicts another file or the code, also where somebody rewrote the manifest.


def edit(path, change):
    content = read_json(path)
    change(content)
    path.write_text(json.dumps(content, indent=1) + "\n")


def swap(one, other):
    for path, target in ((one, one.with_name("x")), (other, one), (one.with_name("x"), other)):
        path.rename(target)


def _edited(id, name, change):
    return lambda results: edit(results / id / name, change)


def _replaced(name, old, new):
    def change(results):
        path = results / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def _points(change):
    def rewrite(results):
        path = results / IDS[0] / ev.PREDICTIONS
        formats.write_predictions(path, change(formats.read_predictions(path)))

    return rewrite


def _matches(change):
    def rewrite(results):
        path = results / IDS[3] / ev.MATCHES
        formats.write_matches(path, change(formats.read_matches(path)))

    return rewrite


def _truth(change):
    def rewrite(results):
        path = results / f"truth/{GROUP}-test.parquet"
        formats.write_truth(path, change(formats.read_truth(path)))

    return rewrite


def _foreign(results):
    shutil.copy(results / IDS[2] / "weights.safetensors", results / IDS[0] / "weights.safetensors")


def _bit(results):
    path = results / IDS[0] / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def _cut(results):
    path = results / IDS[0] / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def _set(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def _copied_seed(results):
    """Seed 1 becomes a copy of seed 0 whose ids were put right."""
    for path in (results / IDS[0]).iterdir():
        if path.name != "weights.safetensors":
            text = path.read_bytes().replace(b'raznet/seed0"', b'raznet/seed1"').replace(b'"seed": 0', b'"seed": 1')
            (results / IDS[1] / path.name).write_bytes(text)


M, R, E = "metrics.json", "run.json", "experiment.json"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: swap(r / f"{GROUP}/raznet", r / f"{GROUP}/gnanet"), "experiment.json: method is"),
        (lambda r: swap(r / IDS[0], r / IDS[1]), "experiment.json: seed is 1, this code says 0"),
        (_copied_seed, "is a copy of"),
        (lambda r: (r / IDS[0] / M).unlink(), "seed0/metrics.json is missing"),
        (lambda r: shutil.copytree(r / IDS[0], r / f"{GROUP}/unknown/seed0"), "unknown method 'unknown'"),
        (lambda r: shutil.copytree(r / IDS[0], r / f"{GROUP}/raznet/seed00"), "must end like"),
        (lambda r: (r / GROUP / "stray.txt").write_text("x"), "stray.txt belongs to no experiment"),
        (_edited(IDS[0], M, _set("id", value=IDS[1])), f'id is "{IDS[1]}", its evidence says "{IDS[0]}"'),
        (_edited(IDS[0], M, _set("localization", "20", "mAP", value=math.nan)), "localization.20.mAP is nan"),
        (_edited(IDS[0], M, _set("localization", "20", "mAP", value=0.123)), "mAP is 0.123, its evidence says"),
        (_edited(IDS[0], M, _set("counting", "MAE", value="0")), 'counting.MAE is "0", its evidence says'),
        (_edited(IDS[0], M, _set("counting_threshold", value=0.9)), "its evidence says"),
        (_edited(IDS[0], M, _set("counting_threshold", value=None)), "counting_threshold is None"),
        (_edited(IDS[0], M, _set("sigma_scale", value=1.0)), "sigma_scale is 1.0, its evidence says 3.75"),
        (_edited(IDS[0], M, _set("score_floor", value=0.01)), "score_floor is 0.01"),
        (_edited(IDS[0], M, _set("images", value=True)), "images is True, not a finite"),
        (_edited(IDS[0], M, _set("extra", value=1)), "extra is there, its evidence says missing"),
        (_edited(IDS[0], M, _set("f1", "extra", value=1)), "f1.extra is there"),
        (_edited(IDS[0], M, lambda m: m.pop("heads")), "heads is missing, its evidence says there"),
        (_edited(IDS[0], M, lambda m: m.pop("validation_mAP_sigma20")), "validation_mAP_sigma20"),
        (_edited(IDS[0], M, _set("validation_mAP_sigma20", value=math.inf)), "validation_mAP_sigma20 is inf"),
        (_edited(IDS[0], M, _set("convergence", "train_mAP_sigma20", value=None)), "train_mAP_sigma20 is None"),
        (_edited(IDS[0], M, _set("convergence", "more", value=1)), "convergence holds"),
        (_edited(IDS[0], M, lambda m: m.pop("convergence")), "convergence holds None"),
        (_edited(COUNTS, M, _set("counting", "MAE", value=1.0)), "counting.MAE is 1.0, its evidence says 8.5"),
        (_replaced(f"{COUNTS}/counts.csv", "12.5", "12.75"), "counting.MAE is 8.5, its evidence says 8.5625"),
        (_edited(IDS[0], E, _set("recipe", "learning_rate", value=1.0)), "recipe.learning_rate is 1.0, this code says"),
        (_edited(IDS[0], E, _set("score_floor", value=0.5)), "score_floor is 0.5, this code says 0.05"),
        (_edited(IDS[0], E, _set("options", value={"a": 1})), "options.a is there, this code says missing"),
        (_edited(IDS[0], E, _set("extra", value=1)), "extra is there, this code says missing"),
        (_edited(IDS[0], R, _set("weights", value="0" * 16)), "run.json says 0000000000000000"),
        (_edited(IDS[0], R, _set("weights", value="x")), "not a digest"),
        (_edited(IDS[0], R, _set("training_seconds", value=-1)), "training_seconds is -1"),
        (_edited(IDS[0], R, _set("extra", value=1)), "unknown field 'extra'"),
        (_edited(IDS[0], R, lambda r: r.pop("processor")), "no field 'processor'"),
        (_edited(IDS[0], R, _set("evaluation", value={})), "evaluation: the provenance"),
        (_edited(IDS[0], R, _set("earlier", value=5)), "earlier 0: the provenance"),
        (_edited(IDS[0], R, _set("from_step", value=-3)), "began at steps"),
        (_bit, "weights.safetensors has digest"),
        (_cut, "weights.safetensors has digest"),
        (_foreign, "weights.safetensors has digest"),
        (_replaced(f"{IDS[0]}/log.csv", "\n5,", "\n6,"), "log.csv, line 7: not the finite numbers of step 5"),
        (_replaced(f"{IDS[0]}/log.csv", "\n0,0", "\n0,nan"), "log.csv, line 2"),
        (_replaced(f"{IDS[0]}/log.csv", "\n9,", "\n"), "log.csv, line 11"),
        (_replaced(f"{IDS[0]}/log.csv", "step,loss", "step,lost"), "log.csv, line 2"),
        (_points(lambda p: p._replace(points=[p.points[0] + 8, *p.points[1:]])), "its evidence says"),
        (_points(lambda p: p._replace(images=["unknown", *p.images[1:]])), "image 'unknown' where its split has"),
        (_matches(lambda m: m._replace(heads=m.heads + 1)), "its evidence says"),
        (_matches(lambda m: m._replace(scenes=["x"] * len(m.scenes))), "has scene"),
        (_truth(lambda t: t._replace(scenes=["x"] * len(t.scenes))), "is of scene 'x', the code says 'discs'"),
        (_truth(lambda t: t._replace(points=[p + 1 / 64 for p in t.points])), "this code generates"),
        (_truth(lambda t: t._replace(points=[p[1:] for p in t.points])), "has 3 heads, this code generates 4"),
        (_replaced("paper/table02.csv", "GNANet,", ""), "table02.csv, line 2: 1 cells instead of 2"),
        (_replaced("studies/rates.csv", "rate,mAP", "rate,rate"), "rates.csv is no table"),
        (_replaced("datasets/mall.json", '"cores": 2', '"cores": 0'), "provenance field 'cores' is 0"),
    ],
)  # fmt: skip
def test_contradictions_are_found_without_the_manifest(results, change, words):
    change(results)
    assert problems(), "by the manifest"
    found = problems(accepted=True)
    assert any(words in line for line in found), found


def test_the_scene_of_one_experiment_against_the_others(results):
    """Scenes drive the bootstrap: they must be the same for all experiments of a group."""
    path = results / COUNTS / ev.COUNTS
    path.write_text(path.read_text().replace("discs", "other"))
    assert any("has scene 'other' and 4 heads" in line or "has scene 'discs'" in line for line in problems(True))


def test_all_problems_are_listed(results):
    edit(results / IDS[0] / M, _set("heads", value=1))
    edit(results / IDS[3] / M, _set("images", value=1))
    (results / COUNTS / "log.csv").unlink()
    found = "\n".join(problems(accepted=True))
    for words in (
        "seed0/metrics.json: heads is 1, its evidence says 16 (tolerance 1e-09)",
        "images is 1, its evidence says 4",
        "counter/seed1/log.csv is missing",
    ):
        assert words in found


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "{}", "\x00", "[" * 100_000, '{"a": 1e999}', "{" * 9])
@pytest.mark.parametrize("name", [M, R, E, "log.csv", ev.PREDICTIONS, "weights.safetensors"])
def test_damaged_files_are_one_line_each_even_when_accepted(results, name, text):
    (results / IDS[0] / name).write_text(text)
    assert any(f"{results / IDS[0] / name}" in line for line in problems(accepted=True))


def test_bytes_that_are_no_text(results):
    for name in (M, R, E, "log.csv"):
        (results / IDS[0] / name).write_bytes(b"\xff\xfe\x00{")
    found = problems(accepted=True)
    assert all(any(f"seed0/{name}" in line for line in found) for name in (M, R, E, "log.csv"))


def test_what_knows_only_the_manifest_is_said_plainly(results):
    """A consistent forger: other detections, their metrics, a new manifest. The docstring says that this passes."""
    folder, experiment = results / IDS[1], Experiment.parse(IDS[1])
    found = formats.read_predictions(folder / ev.PREDICTIONS)
    formats.write_predictions(folder / ev.PREDICTIONS, found._replace(points=[p + 1 for p in found.points]))
    located, _ = ev.read_evidence(folder, experiment)
    write_json(folder / M, read_json(folder / M) | located.metrics(0.4))
    assert problems()
    assert problems(accepted=True) == []
    assert "rewrites the manifest" in " ".join(checking.__doc__.split())


# 3. With a data root.


def test_flags_of_real_data_are_verified_against_annotations(results, data):
    asked = []

    def evaluate(experiment, root):
        asked.append((experiment.id, root))
        return ev.read_evidence(results / experiment.id, experiment)

    states = check("/data", evaluate=evaluate).set_index("experiment")["state"].to_dict()
    assert asked == [(IDS[3], "/data")]  # the only real one with weights
    assert states[IDS[3]] == "verified against annotations (flags of 4 of 4 images the same)"
    assert states[COUNTS] == "recomputed from counts"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: replace(e, flags=[~f for f in e.flags]), "weights and annotations say"),
        (lambda e: replace(e, heads=e.heads + 1), "has 4 heads, its annotation 5"),
        (lambda e: replace(e, images=["other", *e.images[1:]]), "where its split has 'other'"),
    ],
)
def test_flags_that_do_not_follow_from_weights_and_annotations_are_found(results, change, words):
    def evaluate(experiment, root):
        located, _ = ev.read_evidence(results / experiment.id, experiment)
        return change(located), None

    with pytest.raises(CheckError) as caught:
        check("/data", evaluate=evaluate)
    assert any(words in line for line in caught.value.problems)


def test_data_that_cannot_be_read_is_a_problem_like_others(results):
    def evaluate(experiment, root):
        raise CrowdlocError("3 test images are missing: complete the data set")

    with pytest.raises(CheckError, match="3 test images are missing"):
        check("/data", evaluate=evaluate)


# 4. Parts.


def test_differences_by_hand():
    assert differences({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}, 0.0) == []
    assert differences(1.0, 1.0 + 1e-10, 1e-9) == []
    assert differences(100.0, 100.0 + 1e-8, 1e-9) == []  # relative above 1
    assert differences(0.5, 0.5 + 1e-8, 1e-9) == [("", "0.5", "0.50000001")]
    assert differences(math.nan, math.nan, 1.0) == [("", "NaN", "NaN")]
    assert differences(math.nan, 0.5, 1.0)
    assert differences(0.5, math.nan, 1.0)
    assert differences(math.inf, 0.5, 1.0)
    assert differences(True, 1, 1.0)
    assert differences("1", 1, 1.0)
    assert differences({}, {"a": None}, 0.0) == [("a", "missing", "there")]


def test_heads_that_the_code_generates_are_those_that_a_data_set_would_have(tmp_path):
    experiment = Experiment.parse(IDS[0])
    truth = generated_truth(experiment)
    assert len(truth.images) == len(truth.scenes) == len(truth.points) == 240
    formats.write_truth(tmp_path / "t.parquet", truth)
    compare_truth(tmp_path / "t.parquet", truth)
    moved = truth._replace(points=[*truth.points[:-1], truth.points[-1] + np.array([0, 1 / 64])])
    with pytest.raises(CrowdlocError, match=rf"head 0 of image {truth.images[-1]} is at"):
        compare_truth(tmp_path / "t.parquet", moved)


def test_all_that_is_stored_passes_within_the_promised_time():
    """20 seconds on two cores for today's results, without what is imported for the first time."""
    started = time.process_time()
    states = check()
    assert time.process_time() - started < 20
    assert set(states["experiment"]) >= {"/".join(p.parts[-4:-1]) for p in paths.RESULTS.glob("*/*/seed*/run.json")}

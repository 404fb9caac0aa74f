import json
import multiprocessing
import os
import shutil
import signal

import made_results as made
import numpy as np
import pytest

from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import read_json, write_json
from crowdloc.models.method import Method, Prediction
from crowdloc.models.registry import METHODS, Entry
from crowdloc.results import evidence as ev
from crowdloc.results import store
from crowdloc.results.experiments import Experiment
from crowdloc.results.manifest import MANIFEST, accept, files_below, read_manifest, sha256
from crowdloc.results.store import promote

ID = "synthcrowd-sense-mini/raznet/seed0"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Empty `build` and `results`, and a data set."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    return made.frames(tmp_path / "data")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_result_comes_in_whole_with_its_digests(data):
    experiment = made.finish(ID, data, seed=1)
    folder = promote(ID)
    assert folder == paths.RESULTS / ID
    names = {"experiment.json", "metrics.json", "run.json", "log.csv", "weights.safetensors", "predictions.parquet"}
    assert {path.name for path in folder.iterdir()} == names
    trained, evaluated = (paths.BUILD / kind / ID for kind in ("experiments", "evaluations/train"))
    for origin, name in (
        (trained, "log.csv"), (trained, "weights.safetensors"), (trained, "experiment.json"),
        (evaluated, "predictions.parquet"),
    ):  # fmt: skip
        assert (folder / name).read_bytes() == (origin / name).read_bytes()
    assert read_manifest(paths.RESULTS) == {n: sha256(p) for n, p in files_below(paths.RESULTS).items()}
    assert set(read_manifest(paths.RESULTS)) == {f"{ID}/{n}" for n in names} | {
        "truth/synthcrowd-sense-mini-test.parquet"
    }
    metrics, run = read_json(folder / "metrics.json"), read_json(folder / "run.json")
    located, _ = ev.read_evidence(folder, experiment)
    assert metrics["localization"] == located.localization
    assert (metrics["id"], metrics["sigma_scale"], metrics["score_floor"]) == (ID, 3.75, 0.05)
    assert (metrics["validation_mAP_sigma20"], metrics["convergence"]) == (0.6, made.CONVERGENCE)
    assert (run["training_seconds"], run["from_step"], run["processor"]) == (12.5, 7, "any")
    assert run["earlier"] == [made.PROVENANCE | {"from_step": 0}]
    assert run["evaluation"] == made.PROVENANCE


def test_weights_are_kept_for_one_seed_and_heads_once(data):
    for seed in (0, 1):
        made.finish(f"synthcrowd-sense-mini/raznet/seed{seed}", data, seed=seed)
        promote(f"synthcrowd-sense-mini/raznet/seed{seed}")
    assert [p.parent.name for p in paths.RESULTS.rglob("weights.safetensors")] == ["seed0"]
    assert len(list(paths.RESULTS.rglob("truth/*"))) == 1


def test_promoting_again_replaces_all_of_it(data):
    made.finish(ID, data, seed=1)
    folder = promote(ID)
    before = contents(folder)
    (folder / "left.over").write_text("from another time")
    for kind in ("experiments", "evaluations"):
        shutil.rmtree(paths.BUILD / kind)
    made.finish(ID, data, seed=2)
    promote(ID)
    after = contents(folder)
    assert set(after) == set(before)
    assert {n for n in after if after[n] == before[n]} == {"experiment.json"}
    assert read_manifest(paths.RESULTS) == {n: sha256(p) for n, p in files_below(paths.RESULTS).items()}


def test_real_data_comes_in_as_matches_without_truth(data):
    made.finish("mall-mini/raznet/seed0", data, seed=1)
    folder = promote("mall-mini/raznet/seed0")
    assert (folder / "matches.parquet").is_file()
    assert not (paths.RESULTS / "truth").exists()


class Counter(Method):
    yields = ("count",)


def test_a_method_that_counts_comes_in_with_counts(data, monkeypatch):
    monkeypatch.setitem(METHODS, "counter", Entry(Counter, label="counter"))
    made.finish("mall-mini/counter/seed0", data, seed=1, count=True)
    metrics = read_json(promote("mall-mini/counter/seed0") / "metrics.json")
    assert metrics["counting"] == {"MAE": 0.5, "MSE": 0.5}
    assert metrics["validation_MAE"] == 2.0
    assert "sigma_scale" not in metrics


def _json(name, **changes):
    def change(root):
        path = root / name
        write_json(path, read_json(path) | changes)

    return change


TRAINED, EVALUATED = f"experiments/{ID}", f"evaluations/train/{ID}"
NAN = {**made.CONVERGENCE, "train_mAP_sigma20": float("nan")}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda b: (b / TRAINED / "training.json").unlink(), r"training\.json is missing: `crowdloc train"),
        (lambda b: (b / EVALUATED / "evaluation.json").unlink(), r"evaluation\.json is missing: `crowdloc evaluate"),
        (lambda b: (b / TRAINED / "weights.safetensors").unlink(), r"weights\.safetensors is missing"),
        (lambda b: (b / EVALUATED / "predictions.parquet").unlink(), r"evaluation\.json: evidence is"),
        (_json(f"{TRAINED}/experiment.json", id="other"), r"experiment\.json: id is 'other'.* say 'synthcrowd"),
        (_json(f"{TRAINED}/experiment.json", seed=1), r"experiment\.json: seed is 1"),
        (_json(f"{TRAINED}/experiment.json", extra=1), r"experiment\.json: extra is 1.* say missing"),
        (_json(f"{TRAINED}/training.json", id="other"), r"training\.json: id is 'other'"),
        (_json(f"{TRAINED}/training.json", weights="0" * 16), r"training\.json: weights is '0000"),
        (_json(f"{EVALUATED}/evaluation.json", weights="0" * 16), r"evaluation\.json: weights is '0000"),
        (_json(f"{EVALUATED}/evaluation.json", threshold=0.41), r"evaluation\.json: threshold is 0\.41"),
        (_json(f"{EVALUATED}/evaluation.json", provenance={}), r"evaluation: the provenance has no field"),
        (_json(f"{TRAINED}/training.json", history=[]), r"history is \[\]"),
        (_json(f"{TRAINED}/training.json", history=[made.PROVENANCE | {"from_step": -1}]), r"began at steps \[-1\]"),
        (_json(f"{TRAINED}/training.json", seconds=None), r"training_seconds is None"),
        (_json(f"{TRAINED}/training.json", convergence=NAN), r"convergence\.train_mAP_sigma20 is nan"),
        (_json(f"{TRAINED}/training.json", convergence={}), r"convergence holds nothing, not last_third"),
        (_json(f"{TRAINED}/training.json", validation={}), r"validation_mAP_sigma20 is None"),
        (lambda b: (b / TRAINED / "log.csv").write_text("step,loss\n"), r"log\.csv holds 0 steps, the recipe"),
    ],
)
def test_what_is_unfinished_or_does_not_belong_together_stays_out(data, damage, words):
    made.finish(ID, data, seed=1)
    promote(ID)
    before = contents(paths.RESULTS)
    damage(paths.BUILD)
    with pytest.raises(CrowdlocError, match=rf"^[^\n]*{words}[^\n]*$"):
        promote(ID)
    assert contents(paths.RESULTS) == before


def test_evidence_that_was_changed_stays_out(data):
    """The digest in evaluation.json belongs to what was measured."""
    experiment = made.finish(ID, data, seed=1)
    ev.write_evidence(paths.BUILD / EVALUATED, experiment, made.noisy(data, 5), data)
    with pytest.raises(CrowdlocError, match=r"evaluation\.json: evidence is '[0-9a-f]{16}', this code"):
        promote(ID)
    assert not paths.RESULTS.exists()


def test_results_of_other_heads_do_not_come_beside_the_stored_ones(data, tmp_path):
    made.finish(ID, data, seed=1)
    promote(ID)
    shutil.rmtree(paths.BUILD)
    other = ID.replace("seed0", "seed1")
    made.finish(other, made.disc_video(tmp_path / "other", heads=5), seed=2)
    with pytest.raises(CrowdlocError, match=r"differs from .*, to which all results of this group belong"):
        promote(other)


@pytest.mark.parametrize("name", ["../raznet/seed0", "mall-mini/raznet/seed00", "mall-mini/raznet", "x/../../y", ""])
def test_a_name_that_is_no_id_is_refused(data, name):
    with pytest.raises(CrowdlocError, match="experiment"):
        promote(name)


@pytest.mark.parametrize("room", ["studies", "kernels", "datasets"])
@pytest.mark.parametrize("name", ["../../secret", "a/b", "", ".hidden", ".."])
def test_names_of_studies_censuses_and_timings_lead_nowhere_else(data, room, name):
    with pytest.raises(CrowdlocError, match="is no name"):
        promote(f"{room}/{name}")


def test_studies_censuses_and_timings_come_in_with_provenance(data):
    build = paths.BUILD
    (build / "studies").mkdir(parents=True)
    (build / "studies" / "rates.csv").write_text("rate,mAP\n0.1,0.5\n")
    with pytest.raises(CrowdlocError, match=r"rates\.json not found"):
        promote("studies/rates")
    write_json(build / "studies" / "rates.json", {"provenance": made.PROVENANCE})
    assert promote("studies/rates") == paths.RESULTS / "studies" / "rates.csv"
    (build / "studies" / "rates.csv").write_text("rate,mAP\n0.1\n")
    with pytest.raises(CrowdlocError, match=r"rates\.csv, line 2: 1 cells instead of 2"):
        promote("studies/rates")

    write_json(build / "datasets" / "mall.json", {"name": "ucsd", "run": made.PROVENANCE})
    with pytest.raises(CrowdlocError, match="census of 'ucsd'"):
        promote("datasets/mall")
    write_json(build / "datasets" / "mall.json", {"name": "mall", "broken": 3, "run": made.PROVENANCE})
    with pytest.raises(CrowdlocError, match="3 files are broken"):
        promote("datasets/mall")
    write_json(build / "datasets" / "mall.json", {"name": "mall", "broken": 0, "run": made.PROVENANCE})
    promote("datasets/mall")

    write_json(build / "kernels" / "cpu.json", {"metadata": made.PROVENANCE})
    with pytest.raises(CrowdlocError, match=r"cpu\.json: the provenance has no field 'utc'"):
        promote("kernels/cpu")
    measured = made.PROVENANCE | {"utc": "2026-01-01T00:00:00+00:00", "load": 0.5}
    write_json(build / "kernels" / "cpu.json", {"metadata": measured})
    promote("kernels/cpu")
    names = ["datasets/mall.json", "kernels/cpu.json", "studies/rates.csv", "studies/rates.json"]
    assert list(read_manifest(paths.RESULTS)) == names


def _killed_in_between(build, results):
    paths.BUILD, paths.RESULTS = build, results
    copied, whole = [], store._copy

    def copy(origin, target):
        whole(origin, target)
        copied.append(target)
        if len(copied) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    store._copy = copy
    promote(ID)


def test_a_promotion_that_is_killed_leaves_the_old_result(data):
    made.finish(ID, data, seed=1)
    folder = promote(ID)
    before = contents(folder)
    shutil.rmtree(paths.BUILD)
    made.finish(ID, data, seed=2)
    process = multiprocessing.get_context("fork").Process(target=_killed_in_between, args=(paths.BUILD, paths.RESULTS))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert contents(folder) == before
    assert list(folder.parent.glob(".*"))
    promote(ID)
    assert contents(folder) != before
    assert not list(folder.parent.glob(".*"))


def test_only_what_is_named_is_accepted(data, capsys):
    results = paths.RESULTS
    (results / "paper").mkdir(parents=True)
    for name in ("a.csv", "b.csv"):
        (results / "paper" / name).write_text("x\n1\n")
    accept(results, [results])
    for name in ("a.csv", "b.csv"):
        (results / "paper" / name).write_text("x\n2\n")
    before = read_manifest(results)
    store.main([str(results / "paper" / "a.csv")])
    assert capsys.readouterr().out == "paper/a.csv\n"
    after = read_manifest(results)
    assert after["paper/a.csv"] == sha256(results / "paper" / "a.csv") != before["paper/a.csv"]
    assert after["paper/b.csv"] == before["paper/b.csv"]
    (results / "paper" / "a.csv").unlink()
    assert accept(results, [results / "paper" / "a.csv"]) == ["paper/a.csv"]
    assert list(read_manifest(results)) == ["paper/b.csv"]
    with pytest.raises(SystemExit, match="neither a file nor in the manifest"):
        store.main([str(results / "paper" / "c.csv")])
    with pytest.raises(SystemExit, match="does not lie below"):
        store.main([str(paths.BUILD)])


def test_a_manifest_that_was_edited_is_no_manifest(data):
    results = paths.RESULTS
    results.mkdir()
    (results / "a.csv").write_text("x\n1\n")
    accept(results, [results])
    path = results / MANIFEST
    whole = path.read_text()
    for text in (whole.replace("SHA", "Sha"), whole + " ", whole.replace("  ", "\t"), "{}", "[", whole[:-9]):
        path.write_text(text)
        with pytest.raises(CrowdlocError, match=r"MANIFEST\.json"):
            read_manifest(results)
        with pytest.raises(CrowdlocError, match=r"MANIFEST\.json"):
            accept(results, [results])


def test_metrics_of_the_store_are_those_of_the_evidence_and_no_others(data):
    experiment = made.finish(ID, data, seed=1)
    stored = json.loads((promote(ID) / "metrics.json").read_text())
    located = ev.measure(made.noisy(data, 1), data, scale=3.75)
    again = json.loads(json.dumps(located.metrics(0.4)))
    assert {key: stored[key] for key in again} == again
    assert Experiment.parse(stored["id"]) == experiment
    assert np.isfinite(stored["detections_per_head"])
    assert isinstance(made.noisy(data, 1)[0], Prediction)

import json
import shutil

import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import read_json
from crowdloc.core.paths import RESULTS
from crowdloc.results import runs
from crowdloc.results import tables as results
from crowdloc.results.experiments import all_experiments, get_experiment

STORED = [e for e in all_experiments() if runs.is_stored(e)]


def test_every_experiment_is_stored_with_all_its_files():
    assert STORED == all_experiments()
    for experiment in STORED:
        folder = RESULTS / experiment.id
        evidence = "predictions.parquet" if experiment.source.generated else "matches.parquet"
        wanted = {"experiment.json", "metrics.json", "run.json", "log.csv", "images.csv", evidence}
        if experiment.seed == runs.WEIGHTS_SEED:
            wanted.add("weights.safetensors")
        assert {path.name for path in folder.iterdir()} == wanted


def test_every_stored_metric_follows_from_its_evidence():
    checked = results.check()
    assert checked["experiment"].tolist() == [e.id for e in STORED]


@pytest.mark.parametrize("experiment", STORED, ids=lambda e: e.id)
def test_what_is_stored_was_run_with_the_present_recipe(experiment):
    stored = read_json(RESULTS / experiment.id / runs.EXPERIMENT)
    assert stored == json.loads(json.dumps(experiment.describe()))
    run = read_json(RESULTS / experiment.id / runs.RUN)
    assert {"commit", "packages", "processor", "threads", "training_seconds"} <= set(run)


def test_every_method_of_a_group_got_the_same_steps_and_clips():
    for group in {e.group for e in STORED}:
        recipes = [e.recipe for e in STORED if e.group == group]
        assert len({(r.steps, r.batch_size, r.crop, r.optimizer, r.schedule) for r in recipes}) == 1


def test_sizes_stay_within_bounds():
    files = [p for p in RESULTS.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 80e6
    assert sum(p.stat().st_size for p in files if p.suffix == ".safetensors") <= 50e6


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the smallest stored result, in place of the stored ones."""
    experiment = get_experiment("mall-mini/raznet/seed0")
    shutil.copytree(RESULTS / experiment.id, tmp_path / experiment.id)
    monkeypatch.setattr(runs, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return tmp_path / experiment.id


def test_tampered_metrics_are_found_and_named(copied):
    metrics = json.loads((copied / "metrics.json").read_text())
    metrics["localization"]["20"]["mAP"] += 0.01
    (copied / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(CrowdlocError, match=r"metrics\.json: localization\.20\.mAP is .* its evidence says"):
        results.check()
    (copied / "metrics.json").write_text("{")
    with pytest.raises(CrowdlocError, match=r"metrics\.json is not valid JSON"):
        results.check()


def test_tampered_evidence_is_found(copied):
    images = (copied / "images.csv").read_text().splitlines()
    name, scene, heads = images[1].split(",")
    images[1] = f"{name},{scene},{int(heads) + 1}"
    (copied / "images.csv").write_text("\n".join(images) + "\n")
    with pytest.raises(CrowdlocError, match="its evidence says"):
        results.check()


def test_compare_shows_every_cell_of_the_paper_and_says_what_is_not_measured():
    cells = results.compare("II")
    assert len(cells) == 5 * 3 * 6
    assert set(cells.loc[cells["verdict"] == "not measured", "method"]) == {"Faster-RCNN", "FCOS", "STANet"}
    ours = cells[cells["method"] == "GNANet"].set_index(["sigma", "metric"])
    assert ours.loc[(20, "mAP"), "paper"] == 0.747
    assert (ours["verdict"] == "reproduced").all()
    assert "36/36 measured cells agree" in results.summary(cells, "stored")


def test_a_difference_beyond_the_tolerance_is_called_one():
    assert results.verdict(0.004, "weights") == "reproduced"
    assert results.verdict(0.006, "weights") == "differs"
    assert results.verdict(float("nan"), "weights") == "not measured"
    with pytest.raises(CrowdlocError, match="source 'weight' is unknown"):
        results.measured([], source="weight")


def test_frames_of_real_data_are_not_shown():
    with pytest.raises(CrowdlocError, match="real data set"):
        results.examples("mall-mini/gnanet/seed0")


def test_unknown_experiment():
    with pytest.raises(CrowdlocError, match="unknown experiment 'gnanet'"):
        get_experiment("gnanet")


def test_promoting_needs_a_finished_run(tmp_path):
    with pytest.raises(CrowdlocError, match="holds no finished run"):
        runs.promote(get_experiment("mall-mini/raznet/seed0"), tmp_path)


def test_wrong_weights_are_named(tmp_path):
    experiment = get_experiment("mall-mini/raznet/seed0")
    other = RESULTS / "mall-mini/gnanet/seed0" / runs.WEIGHTS
    with pytest.raises(CrowdlocError, match="does not hold weights of RAZNet"):
        runs.stored_model(experiment, other)
    with pytest.raises(CrowdlocError, match="not found"):
        runs.stored_model(experiment, tmp_path / "none.safetensors")


def test_the_summary_of_a_run_shows_paper_stored_and_this_run(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "BUILD", tmp_path)
    assert "nothing evaluated" in results.report()
    for experiment in (get_experiment("synthcrowd-mini/gnanet/seed0"), get_experiment("mall-mini/raznet/seed0")):
        made = runs.stored_metrics(experiment)
        made["localization"]["20"]["mAP"] += 0.01
        path = tmp_path / "evaluations" / f"{experiment.id}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(made))
    lines = results.report().splitlines()
    synth = next(line for line in lines if "synthcrowd-mini/gnanet/seed0" in line and "σ=20" in line)
    assert "0.747" in synth and "0.010" in synth and synth.rstrip().endswith("differs")
    assert sum("reproduced" in line for line in lines) == 6
    assert all("–" in line for line in lines if "mall" in line)

"""Tables read results at one depth, and show paper, stored and this run without mixing them."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crowdloc import paper, results
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import digest, read_json, write_json
from crowdloc.datasets.base import ClipDataset
from crowdloc.metrics import COLUMNS, SIGMAS
from crowdloc.models import Prediction
from crowdloc.results import evidence as ev
from crowdloc.results import runs, tables
from crowdloc.results.claims import rows_of
from crowdloc.results.experiments import TABLES, Experiment, Listed, experiments_of
from tests.helpers import disc_video

THRESHOLD = 0.5


def predictions(dataset: ClipDataset, shift: float) -> list[Prediction]:
    """All heads, `shift` pixels to the right, and a false one whose score is too low to count."""
    made = []
    for frame in dataset.frames:
        points = np.concatenate([frame.points + np.array([shift, 0.0]), [[1.0, 1.0]]])
        made.append(Prediction(points, np.r_[np.full(len(frame.points), 0.8), 0.3]))
    return made


def store(experiment: Experiment, dataset: ClipDataset, shift: float, *, weights: bool = False) -> None:
    """What a promoted result holds, as far as it is read here."""
    folder = runs.stored(experiment)
    ev.write_evidence(folder, experiment, predictions(dataset, shift), dataset)
    found = ev.metrics(*ev.read_evidence(folder, experiment), THRESHOLD)
    signs = {"train_AP50_sigma20": 0.9, "train_mAP_sigma20": 0.8}
    losses = {"last_third_loss_first_half": 2.0, "last_third_loss_second_half": 1.9}
    write_json(folder / "metrics.json", found | {"convergence": signs | losses})
    (folder / "log.csv").write_text("step,loss,learning_rate,seconds\n0,4,1,1\n1,2,1,2\n")
    if weights:
        (folder / "weights.safetensors").write_bytes(b"weights")


@pytest.fixture
def dataset(tmp_path):
    return disc_video(tmp_path / "frames")


@pytest.fixture
def stored(dataset, tmp_path, monkeypatch):
    """Table II with RAZNet (3 seeds) and GNANet (3 seeds, one with weights); nothing of stacked frames."""
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(runs, "BUILD", tmp_path / "build")
    listed = (Listed("synthcrowd-sense", ("raznet", "gnanet", "frame-stack"), seeds=3), Listed("mall", ("raznet",), 1))
    monkeypatch.setitem(TABLES, "II", listed)
    for experiment in experiments_of("II", data="synthcrowd-sense"):
        if experiment.method != "frame-stack":
            shift = (1.0 if experiment.method == "raznet" else 0.5) + 0.1 * experiment.seed
            store(experiment, dataset, shift, weights=experiment.method == "gnanet" and experiment.seed == 1)
    return dataset


def cell(cells: pd.DataFrame, method: str, sigma: int, metric: str) -> pd.Series:
    (row,) = (cells[(cells["method"] == method) & (cells["sigma"] == sigma) & (cells["metric"] == metric)]).iloc
    return row


def test_every_cell_of_the_paper_is_there_and_what_is_not_measured_says_so(stored) -> None:
    cells = results.compare("II")
    printed = paper.table("II")
    rows = [*dict.fromkeys(printed["row"]), "stacked frames"]
    assert list(dict.fromkeys(cells["method"])) == rows and len(cells) == len(rows) * len(SIGMAS) * len(COLUMNS)
    assert set(cells.loc[cells["verdict"] == "not measured", "method"]) == {*rows} - {"RAZNet", "GNANet"}
    for line in printed.itertuples():
        assert cell(cells, line.row, line.sigma, line.metric)["paper"] == line.value
    assert cells.loc[cells["method"] == "stacked frames", "paper"].isna().all()
    assert (cells.loc[cells["method"] == "GNANet", "verdict"] == "reproduced").all()
    assert results.summary(cells) == (
        "36/36 measured cells agree with the stored values within 1e-09; 72 cells not measured"
    )


def test_stored_numbers_are_means_and_deviations_over_all_seeds(stored) -> None:
    table = results.read_table("II")
    assert {name: [run.experiment.seed for run in group] for name, group in table.items()} == {
        "raznet": [0, 1, 2], "gnanet": [0, 1, 2], "frame-stack": []}  # fmt: skip
    values = [run.metrics["localization"]["5"]["mAP"] for run in table["raznet"]]
    assert len(set(values)) > 1
    found = cell(results.compare(table), "RAZNet", 5, "mAP")
    assert found["this run"] == pytest.approx(np.mean(values)) == found["stored"]
    assert (found["deviation"], found["seeds"]) == (pytest.approx(np.std(values, ddof=1)), 3)
    seeds = results.seeds_table(table)
    assert list(seeds.index.get_level_values("method").unique()) == ["raznet", "gnanet"]
    assert seeds.loc[("raznet", 5), ("mAP", "mean")] == pytest.approx(np.mean(values))
    assert seeds.loc[("raznet", 5), ("mAP", "std")] == pytest.approx(np.std(values, ddof=1))


def test_what_was_written_down_is_compared_with_what_its_evidence_says(stored) -> None:
    path = runs.stored(Experiment("synthcrowd-sense", "mini", "gnanet", 0)) / "metrics.json"
    metrics = read_json(path)
    metrics["localization"]["20"]["mAP"] += 0.3
    write_json(path, metrics)
    cells = results.compare("II")
    found = cell(cells, "GNANet", 20, "mAP")
    assert found["difference"] == pytest.approx(-0.1) and found["verdict"] == "differs"
    assert results.summary(cells).splitlines()[1] == "  differs: GNANet, mAP at σ 20: -0.1000"
    assert results.summary(cells).startswith("35/36")


@pytest.fixture
def evaluated(stored, monkeypatch):
    """Evaluation in place of a network: the stored predictions 1.5 pixels further; counts how often it is asked."""
    calls = []

    def evaluate(experiment, *, source, root):
        calls.append((experiment.id, source))
        origin, out = runs.stored(experiment), runs.evaluated(experiment, source)
        ev.write_evidence(out, experiment, predictions(stored, 2.0), stored)
        facts = {"weights": digest(origin / "weights.safetensors"), "code": runs._code()}
        write_json(out / "evaluation.json", facts | {"evidence": ev.evidence_digest(out)})

    monkeypatch.setattr(runs, "evaluate", evaluate)
    return calls


def test_deeper_depths_show_one_seed_beside_that_seed(evaluated) -> None:
    table = results.read_table("II", source="weights", seed=1)
    assert [len(group) for group in table.values()] == [0, 1, 0]
    cells = results.compare(table)
    found = cell(cells, "GNANet", 5, "mAP")
    written = read_json(runs.stored(Experiment("synthcrowd-sense", "mini", "gnanet", 1)) / "metrics.json")
    assert found["stored"] == written["localization"]["5"]["mAP"]
    assert found["this run"] == table["gnanet"][0].metrics["localization"]["5"]["mAP"] < found["stored"] - 0.1
    largest = cells["difference"].abs().max()
    assert f"the largest difference is {largest:.4f}; 90 cells not measured\n" in results.summary(cells)
    assert found["seeds"] == 1 and np.isnan(found["deviation"]) and found["verdict"] == "differs"
    # RAZNet keeps no weights of this seed: its stored number stays, and there is no number of this run.
    other = cell(cells, "RAZNet", 5, "mAP")
    assert np.isnan(other["this run"]) and other["stored"] > 0 and other["verdict"] == "not measured"
    assert "one seed" in results.as_text(cells) and "±" not in results.as_text(cells).partition("\n")[2]
    results.read_table("II", source="weights", seed=1)
    assert evaluated == [("synthcrowd-sense-mini/gnanet/seed1", "weights")]  # the second reading evaluates nothing


def test_of_several_data_sets_one_has_the_depth_that_is_asked_for(stored, monkeypatch) -> None:
    asked, read = [], tables.read_table

    def noted(number, data, *depth):
        asked.append((data, *depth))
        return read(number, data)

    monkeypatch.setattr(tables, "read_table", noted)
    found = results.read_tables("II", "mall", "mini", "weights", None, 0)
    assert list(found) == ["synthcrowd-sense", "mall"] and [t.data for t in found.values()] == list(found)
    assert asked == [("mall", "mini", "weights", None, 0), ("synthcrowd-sense", "mini")]
    asked.clear()
    assert set(results.read_tables("II", None, "mini", "weights")) == {"synthcrowd-sense", "mall"}
    assert asked == [(None, "mini", "weights", None, 0), ("mall", "mini")]  # by default the table's first


def test_an_older_run_is_never_shown_as_this_run(evaluated) -> None:
    results.read_table("II", source="weights", seed=1)
    experiment = Experiment("synthcrowd-sense", "mini", "gnanet", 1)
    (runs.stored(experiment) / "weights.safetensors").write_bytes(b"other weights")
    results.read_table("II", source="weights", seed=1)
    assert len(evaluated) == 2


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"source": "weight"}, "source 'weight' is unknown: choose one of stored, weights, train"),
        ({"number": "XIV"}, "no experiments are listed for table 'XIV': choose one of"),
        ({"data": "fdst"}, "table II has no experiments on 'fdst': choose one of synthcrowd-sense, mall"),
        ({"preset": "tiny"}, "unknown preset 'tiny'"),
        ({"seed": 7}, "table II on synthcrowd-sense has no seed 7: choose one of 0, 1, 2"),
        ({"source": "weights", "seed": 2}, "no weights of seed 2 are stored: choose seed 1, or source 'train'"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(stored, asked, message) -> None:
    with pytest.raises(CrowdlocError, match=message):
        results.read_table(**{"number": "II"} | asked)


def test_verdicts_of_cells() -> None:
    assert tables.verdict(0.504, 0.5, "weights") == "reproduced" and tables.verdict(0.506, 0.5, "weights") == "differs"
    assert tables.verdict(20.09, 20.0, "weights") == "reproduced"  # half a percent of a count
    assert tables.verdict(float("nan"), 0.5, "train") == "not measured"
    assert tables.verdict(0.5, float("nan"), "train") == "not stored"


def test_a_table_of_counts_has_no_sigma_and_takes_counters(stored, dataset, monkeypatch) -> None:
    monkeypatch.setitem(TABLES, "VI", (Listed("synthcrowd-sense", ("s-gnanet", "raznet"), seeds=1),))
    experiment = Experiment("synthcrowd-sense", "mini", "s-gnanet", 0)
    counts = [Prediction(count=len(frame.points) + 2.5) for frame in dataset.frames]
    ev.write_evidence(runs.stored(experiment), experiment, counts, dataset)
    found = ev.metrics(*ev.read_evidence(runs.stored(experiment), experiment), None)
    write_json(runs.stored(experiment) / "metrics.json", found | {"convergence": {}})
    table = results.read_table("VI")
    cells = results.compare(table)
    ours = cells[cells["method"] == "S-GNANet"].set_index("metric")
    printed = paper.table("VI").set_index(["row", "dataset", "metric"])["value"]
    assert cells["sigma"].isna().all() and ours["this run"].to_dict() == {"MAE": 2.5, "MSE": 2.5}
    assert ours.loc["MAE", "paper"] == printed["S-GNANet", "SenseCrowd", "MAE"]
    line = next(line for line in results.as_text(cells).splitlines() if line.split()[:1] == ["S-GNANet"])
    assert line.split().count("2.50") == 2
    shown = results.counting_table(table).set_index("method")
    assert shown.loc["S-GNANet", ["MAE", "F1", "threshold"]].tolist() == ["2.50", "", ""]
    assert shown.loc["RAZNet", ["MAE", "F1", "threshold", "detections per head"]].tolist() == [
        "0.00", "1.000", "0.50", "1.25"]  # fmt: skip
    assert results.seeds_table(table).index.get_level_values("method").unique().tolist() == ["raznet"]


def test_counting_and_training_show_spread_over_seeds_and_what_is_missing(stored) -> None:
    table = results.read_table("II")
    counted = results.counting_table(table).set_index("method")
    assert counted.index.tolist() == ["RAZNet", "GNANet", "stacked frames"]
    assert counted.loc["stacked frames"].tolist() == ["not measured", "", "", "", "", ""]
    assert counted.loc["GNANet", ["seeds", "MAE", "F1"]].tolist() == ["3", "0.00 ± 0.00", "1.000 ± 0.000"]
    trained = results.training_table(table).set_index("method")
    columns = ["train AP.50", "loss at the end (%)", "converged"]
    assert trained.loc["RAZNet", columns].tolist() == ["0.900 ± 0.000", "-5.0 ± 0.0", "3 of 3"]
    path = runs.stored(Experiment("synthcrowd-sense", "mini", "gnanet", 1)) / "metrics.json"
    metrics = read_json(path)
    metrics["convergence"]["train_AP50_sigma20"] = 0.5
    write_json(path, metrics)
    again = results.training_table(results.read_table("II")).set_index("method")
    assert again.loc["GNANet", "converged"] == "2 of 3 (train_AP50_sigma20 is 0.500, below 0.7)"
    assert again.loc["stacked frames", "converged"] == ""


def test_the_fit_of_counters_is_shown_beside_that_of_others(stored) -> None:
    table = results.read_table("II")
    losses = {"last_third_loss_first_half": 2.0, "last_third_loss_second_half": 1.9, "last_third_loss_error": 0.1}
    fitted = {"train_MAE": 4.0, "train_MAE_of_a_constant": 7.0} | losses
    counting = replace(table["raznet"][0], evidence=None, convergence=fitted)
    both = results.training_table({"raznet": table["raznet"], "mcnn": [counting]}).set_index("method")
    columns = ["train AP.50", "train MAE", "of a constant", "converged"]
    assert both.loc["RAZNet", columns].tolist() == ["0.900 ± 0.000", "", "", "3 of 3"]
    reason = "0 of 1 (MAE on training images is 4.00, that of a constant 7.00)"
    assert both.loc["MCNN", columns].tolist() == ["", "4.00", "7.00", reason]
    assert not [c for c in results.training_table({"mcnn": [counting]}) if "mAP" in c or "AP.50" in c]
    assert "train MAE" not in results.training_table(table) and results.training_table({}).empty


def test_counts_on_data_that_a_table_of_counts_does_not_have(stored, monkeypatch) -> None:
    monkeypatch.setitem(TABLES, "VII", (Listed("mall", ("mcnn", "gnanet"), seeds=1),))
    store(Experiment("mall", "mini", "gnanet", 0), stored, 0.5)
    cells = results.compare("VII")
    assert cells["method"].tolist() == [*2 * ["MCNN"], *2 * ["GNANet"]]
    assert cells["metric"].tolist() == ["MAE", "MSE"] * 2 and cells["sigma"].isna().all()
    assert cells["this run"].tolist()[2:] == [0.0, 0.0] and cells["paper"].isna().all()
    assert results.as_text(cells).startswith("ours: Mall mini")
    lines = results.claims_beside({"Mall": (results.read_table("VII"),)}).splitlines()
    assert len(set(lines)) == 2 < len(results.claim_verdicts(results.read_table("VII"))) * 2  # one claim, made twice


def test_claims_about_a_table_get_the_verdicts_of_its_runs(stored) -> None:
    table = results.read_table("II")
    found = results.claim_verdicts(table).set_index("id")
    ledger = paper.claims().set_index("id")
    assert len(found) == (ledger["table"] == "II").sum() > 5
    assert set(found["verdict"]) == {"not measured"}  # every one of them needs a detector or STANet
    assert {(*row,) for row in rows_of(table)} == {("II", "SenseCrowd", "RAZNet"), ("II", "SenseCrowd", "GNANet")}
    lines = results.claims_as_text(table).splitlines()
    assert len(lines) == len(found) and lines[0].startswith("not measured  ") and "after Holm" not in lines[0]
    assert found.iloc[0]["claim"] in lines[0]
    beside = results.claims_beside({"SynthCrowd": (table,), "Mall": (results.read_table("II", data="mall"),)})
    first = beside.splitlines()[:3]
    assert first == [
        found.iloc[0]["claim"],
        f"    SynthCrowd  {found.iloc[0]['held']:>6} parts hold: not measured",
        f"    Mall        {found.iloc[0]['held']:>6} parts hold: not measured",
    ]
    assert len(beside.splitlines()) == 3 * len(found)
    rows = pd.DataFrame({"comparison": ["a − b"], "verdict": ["holds"]})
    assert results.steps_beside({"one": rows, "two": rows}).splitlines()[::4] == ["one", "two"]


def test_importing_the_room_is_light() -> None:
    import subprocess

    code = "import sys, crowdloc.results as r; print('torch' in sys.modules, 'pandas' in sys.modules); r.compare"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    for name in results.__all__:
        assert callable(getattr(results, name)), name
    with pytest.raises(AttributeError, match="no attribute 'compar'"):
        _ = results.compar


def test_the_report_of_a_run_has_the_depth_of_the_run(evaluated, monkeypatch) -> None:
    monkeypatch.delenv("CROWDLOC_DATA", raising=False)
    for number in list(TABLES):
        if number != "II":
            monkeypatch.delitem(TABLES, number)
    text = results.report("weights", seed=1)
    rows = [line for line in text.splitlines() if line.startswith("II, SynthCrowd sense")]
    ours = [line.split() for line in rows if "GNANet" in line]
    assert [line[4:7] for line in ours] == [["mAP", "σ", str(sigma)] for sigma in SIGMAS]
    assert all("0.4" <= line[7] for line in ours) and ours[0][-1] == "differs"
    assert "II, Mall: not measured (no data root)" in text
    assert results.report().count("reproduced") == 2 * len(SIGMAS)

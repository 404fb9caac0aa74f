"""The claims ledger: one verdict per claim and kind of number, made again only where its inputs changed."""

from __future__ import annotations

import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest

from crowdloc import paper
from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import read_json, write_json
from crowdloc.models import Prediction
from crowdloc.paper import Cell, repairs
from crowdloc.results import decisions, ledger, runs
from crowdloc.results import evidence as ev
from crowdloc.results.checking import Examination
from crowdloc.results.experiments import Experiment
from crowdloc.results.verdicts import FAILS, HOLDS, INCONCLUSIVE, NOT_MEASURED, ONE_SEED, after_holm, verdicts
from tests.helpers import disc_video

AGAIN = "python -m crowdloc.results.ledger brings it up to date"
GOOD = {"train_AP50_sigma20": 0.9, "train_mAP_sigma20": 0.8,
        "last_third_loss_first_half": 2.0, "last_third_loss_second_half": 1.9}  # fmt: skip


# 1. The stored ledger.


@pytest.fixture(scope="module")
def stored():
    return ledger.read().set_index("id", drop=False)


def test_the_stored_ledger_belongs_to_what_is_stored():
    assert ledger.outdated() == [], AGAIN


def test_the_stored_ledger_says_of_print_what_the_code_says(stored):
    printed = paper.check_claims()
    assert stored["id"].tolist() == printed["id"].tolist(), AGAIN
    for column in ("section", "table", "predicate"):
        assert stored[column].tolist() == printed[column].tolist(), AGAIN
    assert stored["print"].tolist() == printed["holds_in_print"].tolist(), AGAIN
    assert stored["undisputed"].tolist() == repairs.open_claims()["holds_whatever"].tolist(), AGAIN
    decided = decisions.without_data(paths.RESULTS)
    assert {id: word for id, word in stored["no data"].items() if word} == {k: d.verdict for k, d in decided.items()}


@pytest.mark.parametrize("side", ledger.SIDES)
def test_the_stored_verdicts_are_those_of_the_stored_results(stored, side):
    state = read_json(paths.RESULTS / ledger.INPUTS)[side]
    p = [math.nan if (found := state.get(id, {}).get("p")) is None else found for id in stored["id"]]
    assert stored[f"{side} after Holm"].tolist() == after_holm(stored[side].tolist(), p)
    # All are computed by the same call; those that need the fewest cells are quick.
    parts = {id: len(paper.contrasts(id)) for id in state if state[id]["p"] is not None}
    for id in sorted(parts, key=parts.__getitem__)[:1]:
        standing = ledger._standing(side)
        measured = {row: runs.read_all(standing[row]) for row in ledger._rows(id) & set(standing)}
        found = verdicts(measured, numbers=ledger._numbers(side), claims=[id]).iloc[0]
        assert stored.loc[id, side] == found["verdict"], AGAIN
        assert stored.loc[id, f"{side} parts"] == f"{found['held']}/{found['measured']}/{found['parts']}"
        assert state[id]["p"] == pytest.approx(found["p_value"], rel=1e-3)


# 2. Keeping it up to date, in an empty folder.


def store(id: str, dataset, shift: float) -> None:
    """A result of which all heads are found, `shift` pixels off."""
    experiment = Experiment.parse(id)
    made = [Prediction(f.points + np.array([shift, 0.0]), np.full(len(f.points), 0.8)) for f in dataset.frames]
    ev.write_evidence(runs.stored(experiment), experiment, made, dataset)
    found = ev.metrics(*ev.read_evidence(runs.stored(experiment), experiment), 0.5)
    write_json(runs.stored(experiment) / "metrics.json", found | {"convergence": GOOD})


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(ledger, "verdicts", partial(verdicts, replicates=50))
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


@pytest.fixture
def dataset(tmp_path):
    return disc_video(tmp_path / "frames")


def no_verdicts(*arguments, **options):
    raise AssertionError("a verdict was computed although nothing changed")


def test_without_results_nothing_is_measured(results):
    table, state = ledger.ledger()
    assert len(table) == len(paper.claims()) and set(table["real"]) == {NOT_MEASURED, ledger.NOT_APPLICABLE}
    assert state == {"synthcrowd": {}, "real": {}}
    words = table.set_index("id")["synthcrowd"]
    assert words["gnanet-best-fdst"] == words["walking-away"] == NOT_MEASURED
    # What only the paper's own tables, or the files of the real sets, can say is not asked of generated data.
    assert words["single-focus-gamma-5"] == words["sensecrowd-size"] == words["split-sum"] == ledger.NOT_APPLICABLE
    assert table.set_index("id").loc["sensecrowd-size", "real"] == NOT_MEASURED


def test_only_what_changed_is_computed_again(results, dataset, monkeypatch):
    for seed in range(3):
        store(f"synthcrowd-sense-mini/raznet/seed{seed}", dataset, 2.0 + 0.1 * seed)
        store(f"synthcrowd-sense-mini/gnanet/seed{seed}", dataset, 0.5 + 0.1 * seed)
    assert ledger.update() and ledger.outdated() == []
    first = ledger.read().set_index("id")
    assert first.loc["gnanet-best-sensecrowd", "synthcrowd"] == NOT_MEASURED  # the detectors and STANet are missing
    assert first.loc["gnanet-best-sensecrowd", "synthcrowd parts"].endswith("/18/72")
    assert first.loc["gnanet-best-sensecrowd", "real parts"] == ""

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "verdicts", no_verdicts)
        assert not ledger.update()

    for seed in range(3):
        store(f"synthcrowd-sense-mini/frame-stack/seed{seed}", dataset, 0.1)
    stale = ledger.outdated()
    assert "synthcrowd: modules-effective" in stale and "synthcrowd: gnanet-best-sensecrowd" not in stale
    asked = []

    def noted(measured, *, claims, **options):
        asked.extend(claims)
        return verdicts(measured, claims=claims, replicates=50, **options)

    monkeypatch.setattr(ledger, "verdicts", noted)
    assert ledger.update() and [f"synthcrowd: {claim}" for claim in sorted(asked)] == stale
    again = ledger.read().set_index("id")
    assert again.loc["gnanet-best-sensecrowd"].tolist() == first.loc["gnanet-best-sensecrowd"].tolist()
    whole, _ = ledger.ledger(anew=True)
    assert ledger.as_csv(whole) == (results / ledger.TABLE).read_text()


def test_real_data_says_which_and_one_seed_decides_nothing(results, dataset):
    for name, shift in (("raznet", 2.0), ("gnanet", 0.5), ("frame-stack", 0.2)):
        store(f"mall-mini/{name}/seed0", dataset, shift)
    row = ledger.ledger()[0].set_index("id").loc["modules-effective"]
    assert (row["real"], row["real data"], row["synthcrowd"]) == (ONE_SEED, "mall", NOT_MEASURED)
    assert row["real parts"] == "0/6/6"


def test_a_damaged_ledger_is_made_again(results, dataset):
    store("mall-mini/gnanet/seed0", dataset, 0.5)
    ledger.update()
    text = (results / ledger.TABLE).read_text()
    for damage in ("", "id\n1,2,3\n"):
        (results / ledger.TABLE).write_text(damage)
        with pytest.raises(CrowdlocError, match=r"claims\.csv|ledger"):
            ledger.read()
        ledger.update()
        assert (results / ledger.TABLE).read_text() == text
    (results / ledger.INPUTS).unlink()
    assert ledger.outdated()
    ledger.update()
    assert (results / ledger.TABLE).read_text() == text


def test_check_accepts_the_ledger_and_sees_it_edited(results, dataset):
    ledger.update()

    def problems():
        examination = Examination(results)
        examination.files()
        examination.experiments()
        examination.other_files()
        return examination.problems

    assert problems() == []
    path = results / ledger.TABLE
    path.write_text(path.read_text().replace("partly", "yes", 1))
    assert len(problems()) == 1 and "claims.csv has SHA-256" in problems()[0]


def test_the_command_says_what_it_did(results, dataset, capsys):
    store("mall-mini/gnanet/seed0", dataset, 0.5)
    ledger.main([])
    assert capsys.readouterr().out.endswith("verdicts had other inputs; claims.csv changed\n")
    ledger.main(["--all"])
    assert capsys.readouterr().out == "0 verdicts had other inputs; claims.csv is unchanged\n"


def test_the_summary_counts_every_claim():
    counts = ledger.summary(ledger.read())
    claims = len(paper.claims())
    assert (counts[["print", "undisputed", *ledger.SIDES]].sum() == claims).all() and counts["no data"].sum() < claims


# 3. What no cell decides.


def timings(full=(2.0, 1.0), gna=(1.0, 1.0)):
    sizes = [(36, 64), (48, 80), (68, 120), (12, 20)]
    rows = [
        {"method": method, "height": h, "width": w, "left_out": "", "ms": [0, c * (h * w) ** time, 0],
         "extra_mib": (h * w) ** memory}
        for method, c, (time, memory) in (("full", 1e-6, full), ("GNA, numba", 1e-3, gna)) for h, w in sizes
    ]  # fmt: skip
    return {"sizes": [*rows, {"method": "full", "height": 135, "width": 240, "left_out": "too long"}]}


@pytest.mark.parametrize(
    ("options", "quadratic", "linear"),
    [
        ({}, FAILS, HOLDS),  # a fused kernel keeps no matrix of scores
        ({"full": (2.1, 2.0)}, HOLDS, HOLDS),
        ({"full": (1.5, 2.0), "gna": (1.4, 1.0)}, FAILS, FAILS),
        ({"gna": (1.0, 2.0)}, FAILS, FAILS),
    ],
)
def test_growth_with_the_number_of_cells(tmp_path, options, quadratic, linear):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "attention_cpu.json").write_text(json.dumps(timings(**options)))
    found = decisions.without_data(tmp_path)
    assert found["full-attention-quadratic"].verdict == quadratic and found["linear-cost"].verdict == linear
    power = options.get("full", (2.0, 1.0))
    assert (
        f"time grows as N^{power[0]:.2f}, memory as N^{power[1]:.2f} (3 sizes" in found["full-attention-quadratic"][2]
    )


def test_what_was_not_timed_has_no_verdict(tmp_path):
    assert set(decisions.without_data(tmp_path)) == {"differentiable"}
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "attention_cpu.json").write_text(json.dumps({"sizes": timings()["sizes"][:2]}))
    assert decisions.without_data(tmp_path)["linear-cost"].verdict == NOT_MEASURED


@pytest.mark.parametrize(
    ("words", "verdict"),
    [(["holds", "holds"], HOLDS), (["holds", "does not hold"], FAILS), (["holds", "inconclusive"], INCONCLUSIVE)],
)
def test_appendix_claims_need_every_kind_of_map(results, dataset, words, verdict):
    (results / "studies").mkdir()
    lines = [f"{kind},holds,{word},does not hold" for kind, word in zip(("keyframe", "scene"), words, strict=True)]
    text = "\n".join(["maps,bound holds,similarity falls,GNA errs less", *lines]) + "\n"
    (results / "studies" / "appendix_mall-mini.csv").write_text(text)
    assert ledger.outdated() == ["real: error-bound", "real: gna-smaller-error", "real: similarity-distance"]
    ledger.update()
    assert ledger.outdated() == []
    table = ledger.read().set_index("id")
    assert (table.loc["similarity-distance", "real"], table.loc["gna-smaller-error", "real"]) == (verdict, FAILS)
    assert (table.loc["error-bound", "real"], table.loc["error-bound", "synthcrowd"]) == (HOLDS, NOT_MEASURED)
    source = f"studies/appendix_mall-mini.csv: one network; keyframe {words[0]}, scene {words[1]}"
    assert table.loc["similarity-distance", "decided by"] == source
    assert table.loc["similarity-distance", "real parts"] == ""


def test_the_data_itself_goes_before_what_stands_for_it(tmp_path):
    (tmp_path / "studies").mkdir()
    for name, word in (("sensecrowd", HOLDS), ("mall", FAILS)):
        text = f"maps,bound holds,similarity falls,GNA errs less\nkeyframe,{word},{word},{word}\n"
        (tmp_path / "studies" / f"appendix_{name}-mini.csv").write_text(text)
    found = decisions.on_data(tmp_path, ledger.SIDES["real"]["SenseCrowd"])
    assert {d.verdict for d in found.values()} == {HOLDS} and len(found) == 3


def test_findings_of_studies_are_read(results, dataset):
    (results / "studies").mkdir()
    rows = [
        ("figure3-accurate", "near in every third", HOLDS, "small 0.07; large 0.03"),
        ("multifocus-scale", "recall differs less", "inconclusive (fragile)", "+0.002"),
        ("detectors-miss-tiny", "more of the large", NOT_MEASURED, "no FCOS"),
    ]
    table = pd.DataFrame(rows, columns=["claim", "asked", "verdict", "numbers"])
    table.to_csv(results / "studies" / "headsize_synthcrowd-sense-mini.csv", index=False)
    assert ledger.outdated() == ["synthcrowd: figure3-accurate", "synthcrowd: multifocus-scale"]
    ledger.update()
    found = ledger.read().set_index("id")
    assert (
        found.loc["figure3-accurate", "synthcrowd"] == HOLDS and found.loc["figure3-accurate", "real"] == NOT_MEASURED
    )
    assert found.loc["multifocus-scale", "synthcrowd"] == "inconclusive (fragile)"
    assert found.loc["detectors-miss-tiny", "synthcrowd"] == NOT_MEASURED
    source = "studies/headsize_synthcrowd-sense-mini.csv: near in every third: small 0.07; large 0.03"
    assert found.loc["figure3-accurate", "decided by"] == source


def test_table_x_from_studies_of_one_network_is_one_seed(tmp_path):
    (tmp_path / "studies").mkdir()
    assert decisions.from_studies(tmp_path) == {}
    rows = [("independent", s, d, 0.7 + 0.01 * d / s, 0.8) for s in (1, 3) for d in range(5)] + [
        ("qmc", 1, 0, 0.9, 0.9)
    ]
    table = pd.DataFrame(rows, columns=["sampling", "S", "draws", "mAP σ20", "mAR σ20"])
    table.to_csv(tmp_path / "studies" / "draws_synthcrowd-sense-mini.csv", index=False)
    (tmp_path / "studies" / "speed_synthcrowd-sense-mini.csv").write_text(
        "sampling,S,what,seconds,frames per second\nindependent,3,end to end,0.5,2.0\nindependent,3,forward,0.4,2.5\n"
    )
    found = decisions.from_studies(tmp_path)
    assert found[Cell("X", "SenseCrowd", "1", 20, "mAP")] == {0: pytest.approx(0.72)}
    deviation = Cell("X", "SenseCrowd", "3", 20, "mAP deviation")
    assert found[deviation] == {0: pytest.approx(0.01 * 2.5**0.5 / 3)}  # of 0, 1, 2, 3, 4: the square root of 2.5
    assert found[Cell("X", "SenseCrowd", "3", 20, "FPS")] == {0: 2.0}
    words = verdicts({}, numbers=found, claims=["multisample-alleviates"]).iloc[0]
    assert words["verdict"] == NOT_MEASURED and words["measured"] == 2  # 5 samplings are missing

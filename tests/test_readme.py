"""README.md: its numbers are those of `results/`, its commands and examples work, and somebody runs each of them."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec

import cv2
import nbformat
import numpy as np
import pytest

from crowdloc import cli
from crowdloc.core import paths
from crowdloc.core.errors import CrowdlocError
from crowdloc.inference.limits import IN_ONE_PIECE, MAX_PIXELS
from crowdloc.models.recipes import get_preset
from crowdloc.reproduce import readme
from crowdloc.results import own

ROOT = paths.ROOT
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PROSE = re.sub(r"```.*?```", "", re.sub(readme._BLOCK, "", TEXT), flags=re.DOTALL)

HERE = "tests/test_readme.py::"
GRAPH = "tests/reproduce/test_graph.py::"
FULL_WIDTH = "tests/results/test_full_width.py::test_one_command_trains_in_one_stage_and_another_scores"
# Every command of the README -> the test or the step of CI that runs it, or why nothing does.
RUN_BY = {
    "make reproduce": ".github/workflows/ci.yml: make reproduce",
    "make test": ".ci/run: make test",
    "make slow": ".github/workflows/ci.yml: make slow",
    "make reproduce DATA_ROOT=/path/to/data": f"{GRAPH}test_data_root_of_any_name",
    "make reproduce SOURCE=train": f"{GRAPH}test_training_run",
    ". .venv/bin/activate": "not run: the shell's own",
    "cp notebooks/02_table2_sensecrowd_localization.ipynb mine.ipynb": f"{HERE}test_files_that_are_named_exist",
    "jupyter lab mine.ipynb": "not run: it opens a browser",
    "crowdloc run mine.ipynb --source weights --out executed.ipynb": f"{HERE}test_a_notebook_of_ones_own",
    "crowdloc run 02 --source weights": f"{GRAPH}test_run_then_only_what_changed",
    "crowdloc report --site": "tests/reproduce/test_site_in_browser.py::test_the_whole_site_on_a_phone",
    "crowdloc check": "tests/test_cli.py::test_check_passes_on_what_is_found",
    "crowdloc data generate synthcrowd": f"{GRAPH}test_run_then_only_what_changed",
    "crowdloc data info NAME": "tests/test_cli.py::test_info",
    "crowdloc data verify NAME": "tests/datasets/test_verify.py::test_counts_of_a_small_copy",
    "crowdloc train sensecrowd-paper/gnanet/seed0": "not run: it takes a GPU and SenseCrowd",
    "crowdloc train shanghaitech_b-paper-adam/s-gnanet/seed0": FULL_WIDTH,
    "crowdloc evaluate shanghaitech_b-paper-adam/s-gnanet/seed0 --source train": FULL_WIDTH,
    "python -m crowdloc.results.ledger": "tests/results/test_ledger.py::test_the_command_says_what_it_did",
    "python -m crowdloc.reproduce.readme": f"{HERE}test_the_command_changes_what_is_out_of_date",
    "python -m crowdloc.benchmarks.loader": "tests/benchmarks/test_loader.py::test_the_whole_benchmark_on_two_scenes",
    "python -m crowdloc.benchmarks.attention": "tests/benchmarks/test_attention.py::test_checks_before_it_measures",
    "conda env create -f environment.yml": "not run: as the README says",
}
# Numbers outside of the generated blocks and of code: none of them is a result.
PAPER = get_preset("paper")
NUMBERS = {
    "20": "a σ", "95": "the level of the intervals",
    "3.11": "Python", "3.13": "Python", "3": "minutes of installation, as the Makefile says", "10": "the same",
    "7": "GB of installation, as the Makefile says",
    "00": "a notebook", "02": "a notebook", "15": "a notebook", "22": "a notebook",
    "0": "a pixel", "2": "pixels outside an image; m // 2", "16": "bits; the paper's batch", "8": "bits",
    "40": f"megapixels: {IN_ONE_PIECE}", "400": f"megapixels: {MAX_PIXELS}", "0.05": "the lowest score of a detection",
    "2·10⁻⁶": f"the paper's rate: {PAPER.learning_rate}", "92,500": f"the paper's steps: {PAPER.steps}",
    ".185": "their product", ".09": "the same with a mean over pixels", "5": "how far a bias starts from nothing",
    "1": "the norm of a clipped gradient", "2107.08645": "arXiv", "31": "a volume", "2022": "a year",
}  # fmt: skip


def commands() -> list[str]:
    """What is to be typed: lines of `sh`, and commands in the text."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
    typed = [part.strip() for line in lines for part in re.split(r"\s#\s", line)[0].split("&&")]
    within = re.findall(
        r"`((?:crowdloc |make |python -m |conda |jupyter )[^`]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    )
    return [" ".join(command.split()) for command in dict.fromkeys(typed + within) if command]


OWN = [command for command in commands() if re.search(r"(--data mine|street\.mp4)", command)]


# Differences are drawn again ten thousand times each, which takes half a minute.
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "found")) for n in readme.BLOCKS])
def test_numbers_are_those_of_the_results(name):
    found = {match[2]: match[0] for match in readme._BLOCK.finditer(TEXT)}
    wanted = f"<!-- generated: {name} -->\n{readme.BLOCKS[name]().strip()}\n<!-- end -->"
    assert found[name] == wanted, "bring it up to date: python -m crowdloc.reproduce.readme"


def test_all_other_numbers_are_of_code_or_configuration():
    bare = re.sub(r"`[^`]*`|\]\([^)]*\)|\w+'\d+", "", PROSE)
    numbers = {number.rstrip(".,") for number in re.findall(r"(?<!\w)\.?\d[\d,.]*(?:·10⁻⁶)?", bare)}
    assert numbers == set(NUMBERS)
    assert (PAPER.learning_rate, PAPER.steps, PAPER.batch_size) == (2e-6, 92_500, 16)
    assert PAPER.learning_rate * PAPER.steps == pytest.approx(0.185)
    assert (IN_ONE_PIECE, MAX_PIXELS) == (40_000_000, 400_000_000)
    assert "3 to 10 minutes, 7 GB" in (ROOT / "Makefile").read_text()


def test_somebody_runs_every_command():
    listed = [command for command in commands() if command not in OWN and " | " not in command]
    assert sorted(listed) == sorted(RUN_BY)
    for who in RUN_BY.values():
        file, _, name = who.partition("::")
        if name:
            assert re.search(rf"^def {name}\b", (ROOT / file).read_text(), re.MULTILINE), who
        elif not who.startswith("not run: "):
            file, _, step = who.partition(": ")
            assert step in (ROOT / file).read_text(), who


def test_commands_are_understood():
    for command in commands():
        words = shlex.split(command)
        if words[:2] == ["python", "-m"]:
            assert find_spec(words[2]), command
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}: ", (ROOT / "Makefile").read_text(), re.MULTILINE), command
        elif words[0] == "crowdloc" and "|" not in words:
            cli._parser().parse_args(words[1:])


def test_the_list_of_commands_is_whole():
    (line,) = (command for command in commands() if " | " in command)
    (actions,) = (action for action in cli._parser()._actions if action.choices)
    assert set(line.removeprefix("crowdloc ").split(" | ")) == set(actions.choices) - {"refresh"}  # for authors


def test_files_that_are_named_exist():
    names = re.findall(r"\]\(([^)#:]+)\)", TEXT) + re.findall(r"cp (\S+\.ipynb)", TEXT)
    assert len(names) > 20
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_links_within_lead_to_headings():
    headings = {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in re.findall(r"^#+ (.+)$", TEXT, re.M)}
    assert {name for name in re.findall(r"\]\(#([^)]+)\)", TEXT)} <= headings


def test_a_notebook_of_ones_own(tmp_path, monkeypatch):
    """The command of the README, on a notebook that is quick."""
    (command,) = (c for c in commands() if c.startswith("crowdloc run mine.ipynb"))
    monkeypatch.chdir(tmp_path)
    first = nbformat.v4.new_code_cell('source = "stored"', metadata={"tags": ["parameters"]})
    code = "from crowdloc import paper\nfrom crowdloc.figures.looks import plt, style\nstyle()"
    code += "\nprint(source, len(paper.NUMBERS))"
    cells = [first, nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell("plt.plot([1, 2])\nplt.show()")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), "mine.ipynb")
    assert cli.main(shlex.split(command)[1:]) == 0
    assert nbformat.read("executed.ipynb", as_version=4).cells[-2].outputs[0].text == "weights 12\n"
    assert {path.name for path in (tmp_path / "executed.figures").iterdir()} == {"00.png", "00.csv"}


@pytest.fixture
def street(tmp_path, monkeypatch):
    """A folder with a film, and with frames of it and a table of their heads; nothing of the project drew them."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine" / "entrance"
    folder.mkdir(parents=True)
    film = cv2.VideoWriter("street.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 5, (96, 64))
    lines = ["frame,x,y"]
    for k in range(10):
        image = np.full((64, 96, 3), 70, np.uint8)
        for x, y in ((20 + k, 30), (70 - k, 40)):
            image[y - 3 : y + 4, x - 3 : x + 4] = 210
            lines.append(f"entrance/{k:04}.png,{x},{y}")
        film.write(image)
        cv2.imwrite(str(folder / f"{k:04}.png"), image)
    film.release()
    (tmp_path / "mine" / "points.csv").write_text("\n".join(lines))
    return tmp_path


def test_own_footage_from_the_film_to_tuned_weights(street, monkeypatch, capsys):
    """All commands in their order; a training is cut to one step."""
    assert len(OWN) == 6
    train = own.train
    monkeypatch.setattr(own, "train", lambda data, **options: train(data, **options | {"steps": 1}))
    for command in OWN:
        assert cli.main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    made = {path.relative_to(street).as_posix() for path in street.rglob("*") if path.is_file()}
    assert {"found/points.csv", "found/annotated.mp4", "found/counts.png", "found2/counts.csv"} <= made
    assert {"calibrated.safetensors", "tuned/weights.safetensors"} <= made


def test_examples(street):
    attention, metrics, locate = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[:3]
    exec(attention, names := {})
    assert names["out"].shape == names["query"].shape
    names = {"points": np.zeros((1, 2)), "scores": np.ones(1), "heads": np.zeros((1, 2))}
    exec(metrics.replace("localization_scores(\n", "table = localization_scores(\n"), names)
    assert names["table"].loc[5, "mAP"] == pytest.approx(1)
    exec(locate.replace("crowdloc.locate(", "found = crowdloc.locate("), names)
    assert list(names["found"].columns) == ["frame", "x", "y", "score"]


def test_the_command_changes_what_is_out_of_date(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "BLOCKS", {"one": lambda: "new \n"})
    file = tmp_path / "README.md"
    file.write_text("# a\n<!-- generated: one -->\nold\n<!-- end -->\nz\n")
    readme.main([])
    readme.main([])
    assert capsys.readouterr().out == "README.md changed\nREADME.md is unchanged\n"
    assert file.read_text() == "# a\n<!-- generated: one -->\nnew\n<!-- end -->\nz\n"
    with pytest.raises(CrowdlocError, match="the generated blocks none, not one"):
        readme.updated("# a", {"one": "new"})


def test_words_follow_the_verdict():
    row = {"difference": "-0.017", "low": "-0.027", "high": "+0.007", "verdict": "does not hold"}
    assert readme.said(row | {"after Holm": "does not hold"}) == "**worse**, −.017 (−.027 to .007)"
    alone = readme.said(row | {"verdict": "holds (fragile)", "after Holm": "inconclusive"})
    assert alone == "**better (fragile)**, −.017 (−.027 to .007), undecided when all are tested together"
    assert readme.said(row | {"low": "", "verdict": "not measured"}) == "**not measured**"
    assert [readme._signed(text) for text in ("-0.000", "+1.250", 0.033)] == [".000", "+1.250", "+.033"]

"""Pictures of methods show the numbers of the runs that they are given, for any number of methods."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest

from crowdloc.figures import localization as figures
from crowdloc.figures.looks import FALSE, HIT, MISS, colour, looks
from crowdloc.models.registry import METHODS, Entry
from crowdloc.results import seeds_table
from crowdloc.results.evidence import CountEvidence, Evidence
from crowdloc.results.experiments import Experiment
from crowdloc.results.marking import mark
from crowdloc.results.runs import Run


def run(method: str = "gnanet", *, seed: int = 0, hits: tuple[bool, ...] = (True, False, True), log: Path = Path(),
        counts: CountEvidence | None = None) -> Run:  # fmt: skip
    """One image with four heads and three detections; `hits` at σ 20 and 40, none at σ 5."""
    flags = np.zeros((3, 10, 3), dtype=bool)
    flags[1:] = hits
    evidence = Evidence(["a"], ["s"], np.array([4]), [np.array([0.9, 0.6, 0.3])], [flags])
    experiment = Experiment("synthcrowd-sense", "mini", method, seed)
    return Run(experiment, "stored", None if counts else evidence, counts, 0.5, {}, log)


@pytest.fixture
def many(monkeypatch) -> dict[str, list[Run]]:
    """Eight methods with three seeds each, as read_table gives them; one more without any result."""
    entries = {f"method-{n}": Entry("raznet:RAZNet", label=f"Method {n}") for n in range(9)}
    for name, entry in entries.items():
        monkeypatch.setitem(METHODS, name, entry)
    hits = [(True, True, True), (True, False, True), (True, False, False)]
    table = {name: [run(name, seed=s, hits=hits[s]) for s in range(3)] for name in entries}
    return table | {"method-8": []}


def test_the_mean_height_of_a_precision_recall_curve_is_the_ap() -> None:
    runs = [run(), run(seed=1, hits=(True, True, True))]
    ax = figures.precision_recall({"gnanet": runs, "raznet": []}).axes[0]
    (line,) = ax.lines
    expected = np.mean([r.metrics["localization"]["20"]["AP.50"] for r in runs])
    assert line.get_ydata().mean() == pytest.approx(expected) and 0 < expected < 1
    assert line.get_color() == METHODS["gnanet"].colour and ax.get_xlabel() == "recall"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["GNANet"]
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices
    assert heights[np.isclose(heights[:, 0], 0.5)][:, 1].max() == 1
    assert heights[np.isclose(heights[:, 0], 0.5)][:, 1].min() == pytest.approx(2 / 3)
    strict = figures.precision_recall({"gnanet": runs}, sigma=5).axes[0].lines[0]
    assert strict.get_ydata().max() == 0


def test_bars_are_means_over_seeds_without_whiskers_of_one_seed() -> None:
    table = {"raznet": [run("raznet"), run("raznet", seed=1, hits=(True, True, True))], "gnanet": [run()]}
    figure = figures.by_sigma(seeds_table(table), metrics=("mAR",))
    ax = figure.axes[0]
    heights = [[bar.get_height() for bar in group] for group in ax.containers if hasattr(group, "patches")]
    assert heights == [[0.0, 0.625, 0.625], [0.0, 0.5, 0.5]]
    whiskers = [group for group in ax.containers if not hasattr(group, "patches")]
    assert len(whiskers) == 1 and ax.get_ylabel() == "mean over seeds, ± deviation"
    single = figures.by_sigma(seeds_table({"gnanet": [run()]})).axes[0]
    assert single.get_ylabel() == "one seed" and not [g for g in single.containers if not hasattr(g, "patches")]


def test_counts_show_every_image_of_the_first_seed_with_its_error() -> None:
    own = CountEvidence(["a", "b"], ["s", "s"], np.array([4, 10]), np.array([5.0, 7.5]))
    figure = figures.counts({"gnanet": [run(), run(seed=1)], "raznet": [run("raznet", counts=own)], "s-gnanet": []})
    first, second = figure.axes
    assert first.collections[0].get_offsets().tolist() == [[4.0, 2.0]]  # two of the scores reach the threshold
    assert second.collections[0].get_offsets().tolist() == [[4.0, 5.0], [10.0, 7.5]]
    assert [ax.get_title() for ax in figure.axes] == ["GNANet\nseed 0, MAE 2.00", "RAZNet\nseed 0, MAE 1.75"]
    assert first.get_xlim() == second.get_ylim() and first.get_xlim()[1] > 10


def test_learning_curves_are_running_means_a_line_per_seed(tmp_path) -> None:
    (tmp_path / "log.csv").write_text("step,loss,learning_rate,seconds\n0,4,1,1\n1,2,1,2\n2,0,1,3\n")
    runs = [run("raznet", log=tmp_path), run("raznet", seed=1, log=tmp_path)]
    (ax,) = figures.learning_curves({"raznet": runs}, smooth=2).axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[4.0, 3.0, 1.0]] * 2
    assert ax.get_title() == "RAZNet"


def test_eight_methods_fit_with_names_and_colours_of_their_own(many, tmp_path) -> None:
    (tmp_path / "log.csv").write_text("step,loss,learning_rate,seconds\n0,4,1,1\n")
    logged = {name: [run(name, log=tmp_path)] if group else [] for name, group in many.items()}
    pictures = [figures.precision_recall(many), figures.by_sigma(seeds_table(many)), figures.counts(many),
                figures.learning_curves(logged)]  # fmt: skip
    for figure in pictures:
        figure.canvas.draw()
        width, height = figure.get_size_inches()
        assert width <= 14 and height <= 8
        inside = figure.get_tightbbox().padded(-0.05)
        assert inside.x0 >= 0 and inside.y0 >= 0 and inside.x1 <= width and inside.y1 <= height
    labels = [f"Method {n}" for n in range(8)]
    for figure in pictures[:2]:
        legend = next(ax.get_legend() for ax in figure.axes if ax.get_legend())
        assert [text.get_text() for text in legend.get_texts()] == labels
    for figure in pictures[2:]:
        assert [ax.get_title().splitlines()[0] for ax in figure.axes] == labels
    heights = {ax.get_position().height for ax in pictures[2].axes}
    assert max(heights) - min(heights) < 0.01


def test_colours_come_from_the_registry_and_variants_are_shades(monkeypatch) -> None:
    monkeypatch.setitem(METHODS, "outside", Entry("raznet:RAZNet", label="Outside"))
    found = looks(["raznet", "raznet.stage1", "outside", "gnanet"])
    assert [look.label for look in found.values()] == ["RAZNet", "RAZNet (stage1)", "Outside", "GNANet"]
    assert found["raznet"].colour == METHODS["raznet"].colour == colour("raznet")
    assert len({look.colour for look in found.values()}) == 4
    assert colour("outside") not in {entry.colour for entry in METHODS.values()}
    shade = [sum(matplotlib.colors.to_rgb(found[name].colour)) for name in ("raznet", "raznet.stage1")]
    assert shade[0] < shade[1]


def test_ghosts_show_the_heads_before_in_both_frames() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    now = mark(image, np.array([[5.0, 5.0]]), np.array([[5.0, 5.0], [25.0, 9.0]]), np.array([0.9, 0.8]))
    figure = figures.ghosts(now, image, np.array([[25.0, 9.0]]))
    before, after = figure.axes
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "hit",
        "missed head",
        "false detection",
        "head before",
    ]
    assert before.collections[0].get_offsets().tolist() == after.collections[-1].get_offsets().tolist() == [[25.0, 9.0]]
    assert "1 hit, 0 missed, 1 false" in after.get_title() and before.get_title() == "the frame before"


def test_pictures_of_predictions_tell_hits_misses_and_false_ones_apart() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    heads = np.array([[20.0, 20.0], [150.0, 80.0]])
    points = np.array([[22.0, 20.0], [23.0, 20.0], [90.0, 20.0]])
    example = mark(image, heads, points, np.array([0.9, 0.8, 0.7]))
    assert example.hit.tolist() == [True, False, False] and example.missed.tolist() == [False, True]
    assert example.title == "1 hit, 1 missed, 2 false"
    figure = figures.predictions([example._replace(title="one"), mark(image, heads, points[:0], np.zeros(0))])
    assert [ax.get_title() for ax in figure.axes] == ["one", "0 hit, 2 missed, 0 false"]
    hit, missed, false = figure.axes[0].collections
    assert hit.get_offsets().tolist() == [[22, 20]] and missed.get_offsets().tolist() == [[150, 80]]
    assert false.get_offsets().tolist() == [[23, 20], [90, 20]]
    colours = [hit.get_facecolor(), missed.get_edgecolor(), false.get_edgecolor()]
    assert [matplotlib.colors.to_hex(c[0]) for c in colours] == [HIT, MISS, FALSE]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["hit", "missed head", "false detection"]


def test_without_results_a_picture_says_so(tmp_path) -> None:
    empty = {"gnanet": [], "raznet": []}
    for draw in (lambda: figures.precision_recall(empty), lambda: figures.learning_curves(empty),
                 lambda: figures.by_sigma(seeds_table(empty)), lambda: figures.predictions([])):  # fmt: skip
        figure = draw()
        figure.savefig(tmp_path / "empty.png", bbox_inches="tight")
        shown = [t.get_text() for ax in (figure, *figure.axes) for t in ax.texts]
        assert "no result to show" in shown

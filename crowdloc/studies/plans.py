"""The studies: short lists of trainings. Only validation images, or SynthCrowd's `dev` split, are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from crowdloc.core.errors import CrowdlocError
from crowdloc.models.registry import get_entry
from crowdloc.results.experiments import CHOSEN
from crowdloc.studies.rows import PRESET, Best, Images, Row

VIDEO = ("synthcrowd-sense", "mall")
SINGLE = ("synthcrowd-shb", "shanghaitech_a", "shanghaitech_b")
REAL = ("mall", "shanghaitech_a", "shanghaitech_b")
FRONTEND = "vgg16_frontend_edge_finetuned.safetensors"  # ImageNet weights, fine-tuned on edges; below weights/
SEEDS = (100, 101, 102)  # none of those that tables use
SECOND_RATES = (5e-4, 1e-3, 2e-3, 4e-3)
ATTENTIONS = tuple(f"gnanet.{variant}" for variant in ("scene", "random", "local", "deformable"))
COUNTERS = {  # methods that only count; ShanghaiTech A takes the rates of B, as SynthCrowd's domains those of `sense`
    "synthcrowd-sense": ("mcnn", "csrnet", "bayesian", "convlstm", "lstn", "epf"),
    "mall": ("mcnn", "convlstm", "lstn", "epf"),
    "shanghaitech_b": ("mcnn", "csrnet", "bayesian"),
}
COUNTING_RATES, WHOLE_RATE = (1e-3, 4e-3), 2e-3
MULTISCALE = ("stanet", "faster-rcnn", "fcos")  # on maps of finer strides, which are not kept


def rates(data: str) -> Iterator[Row]:
    """Learning rates of the second stage, searched alike for every method of a data set, at full length.

    First RAZNet from scratch, at two to four rates (on ShanghaiTech A also for three times as long); then every method
    behind the backbone of its seed that was trained at the best of them. On SynthCrowd four values and two seeds; one
    seed for STANet and the detectors, whose steps cost several times as much, and for variants whose kind of attention
    differs (those that differ from GNANet in a number take its rate). On real images, where a step costs twice to five
    times as much, two values and one seed; variants take the rate of SynthCrowd there, as its other domains do. Methods
    that only count: two values and one seed everywhere.
    """
    real = data in REAL
    seeds, second = (SEEDS[:1], (1e-3, 4e-3)) if real else (SEEDS[:2], SECOND_RATES)
    values = (5e-4, 1e-3, 2e-3) if data in SINGLE else (1e-3, 4e-3)  # in probes 4e-3 was too fast for ShanghaiTech B
    first: dict[str, dict[str, Any]] = {f"stage1-{rate:g}": {"learning_rate": rate} for rate in values}
    if data == "shanghaitech_a":  # at part B's rate it ended far from convergence
        first |= {"stage1-0.004": {"learning_rate": 4e-3}, "stage1-long-0.001": {"learning_rate": 1e-3, "steps": 3600}}
    groups = tuple(tuple(f"{label}-seed{seed}" for seed in seeds) for label in first)
    for place, seed in enumerate(seeds):
        for recipe, labels in zip(first.values(), groups, strict=True):
            yield Row(labels[place], data, "raznet", seed, recipe=recipe)
    names = ("raznet", "frame-stack", "gnanet") if data in VIDEO else ("raznet", "s-gnanet")
    for place, seed in enumerate(seeds):
        extra = ("s-gnanet",) if data == "mall" else (*ATTENTIONS, *MULTISCALE) if data in VIDEO and place == 0 else ()
        for name in (*names, *extra):
            method, _, variant = name.partition(".")
            options = get_entry(method).options(variant)
            for rate in second:
                label, recipe = f"{name}-{rate:g}-seed{seed}", {"learning_rate": rate}
                yield behind(Best(groups, place), label, data, method, seed, options=options, recipe=recipe)
    yield from _counting(data, Best(groups, 0))
    if data == "shanghaitech_b":  # as many steps as S-GNANet*'s backbone has seen, with its pre-training
        yield Row(
            f"longer-0.0005-seed{seeds[0]}", data, "raznet", seeds[0], recipe={"learning_rate": 5e-4, "steps": 2800}
        )


def _counting(data: str, start: Best) -> Iterator[Row]:
    """Methods that only count, judged by their MAE: rates, and whether to stand behind a backbone or to train whole.

    A method that has a start is tried behind it and, at one rate, whole, with as many pixels; others are whole.
    """
    for name in COUNTERS.get(data, ()):
        has_start = get_entry(name).start is not None
        for rate in COUNTING_RATES:
            label, recipe = f"{name}-{rate:g}-seed{SEEDS[0]}", {"learning_rate": rate}
            if has_start:
                yield behind(start, label, data, name, SEEDS[0], recipe=recipe)
            else:
                yield Row(label, data, name, SEEDS[0], recipe=recipe)
        if has_start:
            recipe = {**CHOSEN[f"{data}-{PRESET}"].counters, "learning_rate": WHOLE_RATE}
            yield Row(f"{name}-whole-{WHOLE_RATE:g}-seed{SEEDS[0]}", data, name, SEEDS[0], recipe=recipe)


def control(data: str) -> Iterator[Row]:
    """Do neighbouring frames carry information, and does GNA find it? In two stages, on scenes for nothing else."""
    images = (Images(data, "dev"),)
    for seed in SEEDS:
        start = f"stage1-seed{seed}"
        yield Row(start, data, "raznet", seed, tests=images)
        for method in ("raznet", "frame-stack", "gnanet"):
            yield behind(start, f"{method}-seed{seed}", data, method, seed, tests=images)


def whole(data: str) -> Iterator[Row]:
    """Does freezing hide anything? After the second stage a third one in which the backbone learns too.

    The same for RAZNet, stacked frames and GNANet: 300 steps of crops as in the first stage, a quarter of its rate.
    """
    for seed in SEEDS[:2]:
        start = f"stage1-seed{seed}"
        yield Row(start, data, "raznet", seed)
        for method in ("raznet", "frame-stack", "gnanet"):
            frozen = behind(start, f"{method}-seed{seed}", data, method, seed)
            yield frozen
            first = Row(start, data, "raznet", seed).full_recipe
            recipe = {
                "frozen": False, "crop": first.crop, "batch_size": first.batch_size, "steps": 300,
                "learning_rate": first.learning_rate / 4,
            }  # fmt: skip
            yield Row(f"whole-{method}-seed{seed}", data, method, seed, recipe=recipe, start=frozen.label)


def fusion(data: str) -> Iterator[Row]:
    """How attention joins the feature, from random weights: is the sum's slow start the price of untrained features?

    Not at all, the paper's sum, the mean, a learned factor, a 1×1 convolution of all; one frame, a start of 300 steps.
    Behind trained backbones the same kinds are experiments of the table "Fusion".
    """
    kinds: list[tuple[str, str, dict[str, Any]]] = [("none", "raznet", {})]
    kinds += [(kind, "s-gnanet", {"fusion": kind}) for kind in ("sum", "mean", "gated", "concat")]
    for seed in SEEDS:
        for name, method, options in kinds:
            yield Row(f"{name}-seed{seed}", data, method, seed, options, recipe={"steps": 300})


def frontend(data: str) -> Iterator[Row]:
    """Why `mini` does without pretrained weights: VGG16's own width, frozen, against a quarter of it, trained.

    RAZNet on real images for as many steps of as many crops; a step behind the frozen front-end takes three times as
    long. It has no normalisation, so its head is given two rates. (On ShanghaiTech B neither finds a head within 200
    steps.) The weights are a file in the folder `weights` beside the real data.
    """
    steps = {"steps": 400}
    whole = {"width": 1.0, "norm": "none", "frozen": True, "pretrained": FRONTEND, "network": {"head_width": 0.125}}
    yield Row(f"random-seed{SEEDS[0]}", data, "raznet", SEEDS[0], recipe=steps)
    for rate in (1e-3, 4e-3):
        recipe = steps | whole | {"learning_rate": rate}
        yield Row(f"pretrained-{rate:g}-seed{SEEDS[0]}", data, "raznet", SEEDS[0], recipe=recipe)


def gamma(data: str) -> Iterator[Row]:
    """GNANet with draws, with their limit, and with the limit and learned γ from two starts (notebook 19)."""
    limit = {"sampling": "limit"}
    kinds: dict[str, dict[str, Any]] = {
        "draws": {},
        "limit": limit,
        "learned": limit | {"learn_gamma": True},
        "learned-small": limit | {"learn_gamma": True, "gamma": [1.0, 1.5, 2.0]},
    }
    for seed in SEEDS:
        start = f"stage1-seed{seed}"
        yield Row(start, data, "raznet", seed)
        for name, options in kinds.items():
            yield behind(start, f"{name}-seed{seed}", data, "gnanet", seed, options=options)


def transfer(_: str) -> Iterator[Row]:
    """From generated to real images: RAZNet trained on SynthCrowd, tried on Mall and ShanghaiTech B (design §8).

    A network trained here has seen heads of 8 to 20 pixels. Real images are therefore tried twice: as they are, and
    scaled to the height of SynthCrowd's mini frames; neither was chosen by a result. Networks trained on the real sets
    stand beside. Counts use the threshold that is best on validation images of what the network was trained on.
    """
    real, heights = ("mall", "shanghaitech_b"), (None, 288)
    # SynthCrowd's video domain and the one that stands for ShanghaiTech B thrice, the others once
    for data, seeds in (("synthcrowd-sense", 3), ("synthcrowd-shb", 3), ("synthcrowd-fdst", 1), ("synthcrowd-sha", 1)):
        tests = tuple(Images(name, "val", height) for name in real for height in heights)
        for seed in range(seeds):
            yield Row(f"{data}-seed{seed}", data, "raznet", seed, tests=(*tests, Images(data)))
    for data in real:
        yield Row(f"{data}-seed0", data, "raznet", 0, tests=tuple(Images(name) for name in real))


def behind(start: str | Best, label: str, data: str, method: str, seed: int, **others: Any) -> Row:
    """A row of the second stage: it begins with another row's weights and leaves the backbone as it is."""
    others["recipe"] = {"frozen": True} | others.get("recipe", {})
    return Row(label, data, method, seed, start=start, **others)


@dataclass(frozen=True)
class Study:
    """A plan and the data sets that it can be made on; none: it chooses them itself."""

    plan: Callable[[str], Iterator[Row]]
    data: tuple[str, ...]


STUDIES = {
    "rates": Study(rates, (*VIDEO, *SINGLE)),
    "control": Study(control, ("synthcrowd-sense",)),
    "whole": Study(whole, VIDEO),
    "fusion": Study(fusion, VIDEO),
    "frontend": Study(frontend, ("mall",)),
    "gamma": Study(gamma, ("synthcrowd-sense",)),
    "transfer": Study(transfer, ()),
}


def plan_of(name: str, data: str | None) -> tuple[str, list[Row]]:
    """The full name of a study, such as "rates_mall", and its rows.

    Raises:
        CrowdlocError: there is no such study, or not on this data set.
    """
    if name not in STUDIES:
        raise CrowdlocError(f"unknown study {name!r}: choose one of {', '.join(STUDIES)}")
    study = STUDIES[name]
    if data is None and len(study.data) == 1:
        data = study.data[0]
    if (data is None) != (not study.data) or (data is not None and data not in study.data):
        known = ", ".join(study.data) or "none, it chooses them itself"
        raise CrowdlocError(f"study {name} on data set {data!r}: choose one of {known}")
    return f"{name}_{data}" if data else name, list(study.plan(data or ""))

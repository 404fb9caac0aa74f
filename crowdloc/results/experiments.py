"""Experiments: what is run, under which id, and which of them every table consists of.

One experiment is a data set (with its domain), a preset, a method, a variant of it (its options, by a short name) and a
seed. Its id, `data-preset/method.variant/seedN`, names its folder below `results/` (stored) and below `build/` (made
here). `Experiment.parse` is the only reader of ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets import load
from crowdloc.datasets.base import ClipDataset
from crowdloc.models.recipes import PRESETS, Recipe, get_preset
from crowdloc.models.registry import METHODS, get_entry

STAGE1, PRETRAINED = "stage1", "pretrained"
STAGE1_PRETRAINED = f"{STAGE1}-{PRETRAINED}"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Source:
    """A data set as experiments use it."""

    dataset: str  # name for datasets.load
    options: Mapping[str, Any] = field(default_factory=dict)
    generated: bool = False  # points may be stored; for real data only matches


SOURCES = {
    **{f"synthcrowd-{d}": Source("synthcrowd", {"domain": d}, generated=True) for d in ("sense", "fdst", "sha", "shb")},
    **{name: Source(name) for name in ("mall", "shanghaitech_a", "shanghaitech_b", "sensecrowd", "fdst", "ucsd")},
    **{name: Source(name) for name in ("worldexpo", "dronecrowd")},
}


@dataclass(frozen=True)
class Chosen:
    """What was chosen for a data set and preset on validation data, then frozen for every method alike.

    With `second` trainings have two stages: the method that others start from is trained whole (variant "stage1"), then
    every method that has a start (itself included) goes on from there. What the paper marks with a star (variant
    "pretrained") differs in where its first stage starts: from that of the data set for pre-training, same seed.
    A method that only counts and has no start (or is named in `whole`) trains whole with `counters`, which ask for as
    many pixels as the second stage sees.
    """

    recipe: Mapping[str, Any]  # fields of `Recipe`, of a training from scratch
    rates: Mapping[str, float] = field(default_factory=dict)  # learning rate by "method.variant" or method; "": others
    second: Mapping[str, Any] | None = None  # fields of `Recipe` that differ in the second stage
    second_rates: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, Any] = field(default_factory=dict)  # fields of `Recipe` that differ from `recipe`
    whole: tuple[str, ...] = ()  # methods that train whole although they have a start


# Chosen by mAP at σ 20 on SynthCrowd's validation images (results/studies/rates_synthcrowd-sense.csv).
_SECOND_RATES = {
    "": 1e-3, "frame-stack": 4e-3, "gnanet.scene": 4e-3, "gnanet.random": 2e-3, "gnanet.local": 2e-3,
    "gnanet.deformable": 1e-3, "stanet": 2e-3, "faster-rcnn": 5e-4, "fcos": 2e-3,
    "csrnet": 4e-3, "lstn": 4e-3, "epf": 4e-3,  # not searched yet
}  # fmt: skip

# SynthCrowd's other domains, whose frames have the same size, take all that was chosen on `sense`.
_SYNTHCROWD = Chosen(
    {"crop": (192, 256), "steps": 1600}, {"": 4e-3},
    second={"frozen": True, "crop": None, "batch_size": 2, "steps": 400},
    second_rates=_SECOND_RATES,
    counters={"batch_size": 2, "steps": 1200},
)  # fmt: skip
# Real single images, 400×400 to 1024×768 pixels; by mAP at σ 20 on validation images (rates_shanghaitech_b.csv).
_SHANGHAITECH = Chosen(
    {"crop": (256, 256), "steps": 1200}, {"": 5e-4},
    second={"frozen": True, "crop": None, "batch_size": 1, "steps": 400},
    second_rates={"": 1e-3, "raznet": 4e-3, "csrnet": 4e-3},  # csrnet: not searched yet
    counters={"batch_size": 2, "steps": 2400},
)  # fmt: skip

CHOSEN = {
    **{f"synthcrowd-{domain}-mini": _SYNTHCROWD for domain in ("sense", "fdst", "sha", "shb")},
    "mall-mini": Chosen(
        {"crop": (256, 256), "steps": 800}, {"": 4e-3},
        second={"frozen": True, "crop": None, "batch_size": 1, "steps": 400},
        second_rates=_SECOND_RATES | {"gnanet": 4e-3},
        counters={"batch_size": 2, "steps": 940},
    ),
    **{f"shanghaitech_{part}-mini": _SHANGHAITECH for part in ("a", "b")},
}  # fmt: skip


@dataclass(frozen=True)
class Listed:
    """Experiments of a table on one data set: methods ("name" or "name.variant"), each with seeds 0 … seeds - 1."""

    data: str
    methods: tuple[str, ...]
    seeds: int


def _variants(*names: str) -> tuple[str, ...]:
    return tuple(f"gnanet.{name}" for name in names)


_COMPONENTS = ("frame-stack", *_variants("scene", "keyframe", "temporal", "gamma5"), "gnanet")
_ATTENTIONS = _variants("random", "local", "deformable", "gamma5")
_FUSIONS = _variants("gamma5", "mean", "gated", "project", "difference", "concat", "stacked")
_SINGLE = ("raznet", "s-gnanet", f"s-gnanet.{PRETRAINED}")
_COUNTED = ("mcnn", "csrnet", "bayesian", "raznet", "s-gnanet")
_COUNTED_SETS = ("synthcrowd-sense", "synthcrowd-fdst", "synthcrowd-sha", "synthcrowd-shb")
_COUNTED_VIDEO = ("convlstm", "lstn", "stanet", "epf", "frame-stack", "gnanet")

# What every table consists of. "Mall" is notebook 20, "Fusion" what would make GNA win (09, 20),
# "Order" what STANet would be if it could tell its frames apart (02).
TABLES: dict[str, tuple[Listed, ...]] = {
    "II": (
        Listed("synthcrowd-sense", ("raznet", "frame-stack", "gnanet"), seeds=5),
        Listed("synthcrowd-sense", ("faster-rcnn", "fcos", "stanet"), seeds=3),  # a step costs three times as much
    ),
    "Order": (Listed("synthcrowd-sense", ("stanet", "stanet.concat"), seeds=3),),
    "III": (Listed("synthcrowd-fdst", ("raznet", "stanet", "gnanet", f"gnanet.{PRETRAINED}"), seeds=3),),
    "IV": (Listed("synthcrowd-sha", _SINGLE, seeds=3), Listed("shanghaitech_a", _SINGLE, seeds=3)),
    "V": (Listed("synthcrowd-shb", _SINGLE, seeds=3), Listed("shanghaitech_b", _SINGLE, seeds=3)),
    "VI": tuple(Listed(d, _COUNTED, seeds=3) for d in (*_COUNTED_SETS, "shanghaitech_a", "shanghaitech_b")),
    "VII": (
        *(Listed(d, _COUNTED_VIDEO, seeds=3) for d in ("synthcrowd-sense", "synthcrowd-fdst")),
        Listed("mall", ("mcnn", *_COUNTED_VIDEO), seeds=3),  # no table has MCNN on Mall
    ),
    "Mall": (Listed("mall", ("raznet", "frame-stack", "s-gnanet", "gnanet"), seeds=3),),
    "VIII": (
        Listed("synthcrowd-sense", _COMPONENTS, seeds=5),
        Listed("mall", ("frame-stack", *_variants("scene", "gamma5"), "gnanet"), seeds=3),
    ),
    "IX": (Listed("synthcrowd-sense", _ATTENTIONS, seeds=5), Listed("mall", _ATTENTIONS, seeds=3)),
    "XI": (Listed("synthcrowd-sense", _variants("points8", "points16", "gamma5"), seeds=3),),
    "XII": (Listed("synthcrowd-sense", _variants("gamma3", "gamma5", "gamma10", "gamma15", "learned"), seeds=3),),
    "Fusion": (
        Listed("synthcrowd-sense", ("raznet", "frame-stack", *_FUSIONS), seeds=3),
        Listed("mall", ("raznet", "frame-stack", *_variants("gamma5", "mean", "gated", "concat")), seeds=3),
    ),
}


@dataclass(frozen=True)
class Experiment:
    """One training and its evaluation."""

    data: str
    preset: str
    method: str
    seed: int
    variant: str = field(default="", kw_only=True)

    @property
    def group(self) -> str:
        """`data-preset`, the folder that collects comparable results."""
        return f"{self.data}-{self.preset}"

    @property
    def name(self) -> str:
        """`method` or `method.variant`."""
        return f"{self.method}.{self.variant}" if self.variant else self.method

    @property
    def id(self) -> str:
        return f"{self.group}/{self.name}/seed{self.seed}"

    @staticmethod
    def parse(id: str) -> Experiment:
        """The experiment with this id, e.g. "synthcrowd-sense-mini/gnanet.gamma5/seed0"; it need be in no table.

        Raises:
            CrowdlocError: the id is not understood; the message says which part.
        """
        group, _, rest = id.partition("/")
        name, _, seed = rest.partition("/")
        method, dot, variant = name.partition(".")
        kinds = [(d, p) for d in SOURCES for p in PRESETS if f"{d}-{p}" == group]
        if len(kinds) != 1:
            raise CrowdlocError(
                f"experiment {id!r}: {group!r} is no data set and preset (data: {', '.join(SOURCES)}; "
                f"presets: {', '.join(PRESETS)}); an id looks like synthcrowd-sense-mini/gnanet/seed0"
            )
        number = re.fullmatch(r"seed(0|[1-9][0-9]{0,8})", seed)
        if number is None or bool(dot) != bool(variant):
            raise CrowdlocError(f"experiment {id!r}: it must end like gnanet/seed0 or gnanet.VARIANT/seed0")
        if method not in METHODS:
            raise CrowdlocError(f"experiment {id!r}: unknown method {method!r}: choose one of {', '.join(METHODS)}")
        get_entry(method).options(variant)
        found = Experiment(*kinds[0], method, int(number[1]), variant=variant)
        if found.pretraining == found.data:
            raise CrowdlocError(
                f"experiment {id!r}: {found.data} is what others are pre-trained on: leave .{variant} out"
            )
        return found

    @property
    def source(self) -> Source:
        return SOURCES[self.data]

    @property
    def options(self) -> dict[str, Any]:
        """Options of the network beyond the recipe's: those of the variant."""
        return get_entry(self.method).options(self.variant)

    @property
    def is_second(self) -> bool:
        """Whether this is the second stage of a training in two."""
        chosen = CHOSEN.get(self.group)
        if chosen is None or chosen.second is None or self.method in chosen.whole:
            return False
        return get_entry(self.method).start is not None and self.variant not in (STAGE1, STAGE1_PRETRAINED)

    @property
    def pretraining(self) -> str | None:
        """The data set that stands for SenseCrowd where this experiment is pre-trained on it, else None."""
        if self.variant not in (PRETRAINED, STAGE1_PRETRAINED):
            return None
        return "synthcrowd-sense" if self.source.generated or self.preset == "mini" else "sensecrowd"

    @property
    def start(self) -> Experiment | None:
        """The experiment that this one begins with; None: it trains from scratch."""
        if self.is_second:
            first = STAGE1_PRETRAINED if self.variant == PRETRAINED else STAGE1
            return Experiment(self.data, self.preset, get_entry(self.method).start or "", self.seed, variant=first)
        if self.pretraining is not None:
            before = STAGE1 if self.variant == STAGE1_PRETRAINED else ""
            return Experiment(self.pretraining, self.preset, self.method, self.seed, variant=before)
        return None

    @property
    def recipe(self) -> Recipe:
        """The preset with what was chosen for this data set and stage."""
        preset, chosen = get_preset(self.preset), CHOSEN.get(self.group)
        if chosen is None:
            return preset
        fields, rates = {**chosen.recipe}, chosen.rates
        if self.is_second and chosen.second is not None:
            fields, rates = fields | {**chosen.second}, chosen.second_rates
        elif get_entry(self.method).counts:
            fields |= chosen.counters
        rate = next((rates[key] for key in (self.name, self.method, "") if key in rates), preset.learning_rate)
        return preset.with_options(**{**fields, "learning_rate": rate})

    def load(self, split: str, root: str | Path | None = None) -> ClipDataset:
        """The frames of a split."""
        options = dict(self.source.options)
        if self.source.generated:
            options["preset"] = "paper" if self.preset.startswith("paper") else "mini"
            root = None
        return load(self.source.dataset, root, split, **options)

    def describe(self) -> dict[str, Any]:
        """The content of `experiment.json`: all that determines the run."""
        from crowdloc.models.decoding import SCORE_FLOOR  # heavier than all that lists need

        facts = {"options": self.options, "recipe": asdict(self.recipe), "start": self.start.id if self.start else None}
        return {"id": self.id, **asdict(self), **facts, "score_floor": SCORE_FLOOR}


def experiments_of(table: str, preset: str = "mini", data: str | None = None) -> list[Experiment]:
    """The experiments of a table, of one of its data sets or of all, in a fixed order; none for an unlisted table."""
    return [
        Experiment(listed.data, preset, method, seed, variant=variant)
        for listed in TABLES.get(table, ())
        if data in (None, listed.data)
        for name in listed.methods
        for method, _, variant in [name.partition(".")]
        for seed in range(listed.seeds)
    ]


def with_starts(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Experiments, each after all that it goes back to, each once."""
    found: dict[Experiment, None] = {}
    for experiment in experiments:
        line = [experiment]
        while (start := line[-1].start) is not None:
            line.append(start)
        found |= dict.fromkeys(reversed(line))
    return list(found)


def all_experiments() -> list[Experiment]:
    """Every experiment of the mini preset that a table lists, each once, each after all that it goes back to."""
    return with_starts(e for table in TABLES for e in experiments_of(table))

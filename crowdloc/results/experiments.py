"""Experiments: what is run, under which id.

One experiment is a model with its options, a data set, a preset and a seed. Its id, `data-preset/model/seedN`, names
its folder below `results/` (stored) and below `build/experiments/` (made here).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets import load
from crowdloc.datasets.base import ClipDataset
from crowdloc.models import build_model
from crowdloc.models.recipes import Preset, get_preset


@dataclass(frozen=True)
class Source:
    """A data set as experiments use it."""

    dataset: str  # name for datasets.load
    options: Mapping[str, Any] = field(default_factory=dict)
    generated: bool = False  # points may be stored; for real data only matches


SOURCES = {
    "synthcrowd": Source("synthcrowd", {"domain": "sense"}, generated=True),
    "mall": Source("mall"),
}


@dataclass(frozen=True)
class Recipe:
    """What was chosen for a data set and preset on validation data, then frozen for every method alike."""

    steps: int
    batch_size: int
    learning_rates: Mapping[str, float]  # per architecture
    seeds: int = 3


RECIPES = {
    "synthcrowd-mini": Recipe(steps=300, batch_size=4, learning_rates={"raznet": 4e-3, "gnanet": 4e-3}),
    "mall-mini": Recipe(steps=400, batch_size=4, learning_rates={"raznet": 2e-3, "gnanet": 2e-3}, seeds=1),
}


@dataclass(frozen=True)
class Experiment:
    """One training run and its evaluation."""

    model: str
    data: str
    preset: str
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """`data-preset`, the folder that collects comparable results."""
        return f"{self.data}-{self.preset}"

    @property
    def id(self) -> str:
        return f"{self.group}/{self.model}/seed{self.seed}"

    @property
    def source(self) -> Source:
        return SOURCES[self.data]

    @property
    def recipe(self) -> Preset:
        """The preset with what was chosen for this data set; models without a searched rate use GNANet's."""
        preset, chosen = get_preset(self.preset), RECIPES.get(self.group)
        if chosen is None:
            return preset
        rate = chosen.learning_rates.get(self.model, chosen.learning_rates["gnanet"])
        return preset.with_options(steps=chosen.steps, batch_size=chosen.batch_size, learning_rate=rate)

    def load(self, split: str, root: str | Path | None = None) -> ClipDataset:
        """The split's clips, as long as the model looks at."""
        options: dict[str, Any] = dict(self.source.options)
        if self.source.generated:
            options["preset"] = self.preset
        num_frames = build_model(self.model, width=1 / 512, **self.options).num_frames
        return load(
            self.source.dataset,
            None if self.source.generated else root,
            split,
            num_frames=num_frames,
            **options,
        )

    def describe(self) -> dict[str, Any]:
        """The content of `experiment.json`: all that determines the run."""
        return {"id": self.id, **asdict(self), "recipe": asdict(self.recipe)}


def all_experiments() -> list[Experiment]:
    """Every experiment that the notebooks use, in a fixed order."""
    return [
        Experiment(model, data, preset, seed)
        for group, recipe in RECIPES.items()
        for data, preset in [group.rsplit("-", 1)]
        for model in recipe.learning_rates
        for seed in range(recipe.seeds)
    ]


def get_experiment(id: str) -> Experiment:
    """The experiment called `id`, e.g. "synthcrowd-mini/gnanet/seed0"."""
    known = {experiment.id: experiment for experiment in all_experiments()}
    if id not in known:
        raise CrowdlocError(f"unknown experiment {id!r}: `crowdloc list` shows the {len(known)} that exist")
    return known[id]

"""What a study consists of: trainings with their differences, and the images that each is tested on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from crowdloc.models.recipes import Recipe
from crowdloc.models.registry import get_entry
from crowdloc.results.experiments import STAGE1, Experiment

PRESET = "mini"


@dataclass(frozen=True)
class Images:
    """A split of a data set to test on.

    Args:
        split: "val", or "dev" of generated data. A study that takes "test" says why.
        height: images are scaled to so many rows (single-image methods only); None: as they are.
    """

    data: str
    split: str = "val"
    height: int | None = None


@dataclass(frozen=True)
class Best:
    """The row at `place` of that group of rows whose mean mAP at σ 20 is highest, the first of equal ones."""

    groups: tuple[tuple[str, ...], ...]  # labels
    place: int


@dataclass(frozen=True)
class Row:
    """One training of a study.

    Attributes:
        label: its name in the study and of its folder.
        options: of the network.
        recipe: fields that differ from the recipe of its stage on this data set (see `full_recipe`).
        tests: default: the validation split.
        start: label of the row whose weights it begins with, or a choice among rows; None: it trains from scratch.
    """

    label: str
    data: str
    method: str
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    tests: tuple[Images, ...] = ()
    start: str | Best | None = None

    @property
    def images(self) -> tuple[Images, ...]:
        return self.tests or (Images(self.data),)

    @property
    def experiment(self) -> Experiment:
        """The experiment whose data this row uses."""
        return Experiment(self.data, PRESET, self.method, self.seed)

    @property
    def full_recipe(self) -> Recipe:
        """The recipe: of the second stage with a start, else of the first, whatever the method; with what differs."""
        base, first = self.experiment, get_entry(self.method).start
        if self.start is None and first is not None:
            base = Experiment(self.data, PRESET, first, self.seed, variant=STAGE1)
        return base.recipe.with_options(**self.recipe)

    @property
    def keeps_maps(self) -> bool:
        """Whether the backbone's maps are kept: those of another row's, which several rows share."""
        return self.full_recipe.frozen and self.start is not None

    def describe(self) -> dict[str, Any]:
        """All that determines the row but the weights it starts from."""
        return asdict(self) | {"recipe": asdict(self.full_recipe)}

"""The two sizes in which everything exists: `mini` for 2 CPU cores, `paper` for a GPU."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from crowdloc.core.errors import CrowdlocError


@dataclass(frozen=True)
class Preset:
    """How a network is built and trained; every field is stored with each result."""

    name: str
    width: float  # share of the paper's channels
    norm: str  # "none" as in the paper, or "batch" after every convolution and at the head's input
    crop: tuple[int, int]  # height, width of training crops in pixels
    batch_size: int  # clips per step, over all processes
    steps: int  # training steps
    optimizer: str  # "adamw", "adam" or "sgd"
    learning_rate: float
    weight_decay: float
    schedule: str  # "one-cycle" (10 % warm-up, cosine to 0) or "constant"
    loss_reduction: str = "mean"  # "mean" over pixels and clips, or "sum" over pixels and mean over clips
    clip_norm: float | None = None  # largest gradient norm
    positive_weight: float = 50.0  # paper §IV-C
    pretrained: str | None = None  # see models.load_pretrained
    model: dict[str, Any] = field(default_factory=dict)  # options passed to every network

    def with_options(self, **options: Any) -> Preset:
        """A copy with some fields changed; an unknown field is an error."""
        try:
            return replace(self, **options)
        except TypeError:
            unknown = sorted(set(options) - set(self.__dataclass_fields__))
            raise CrowdlocError(
                f"preset has no field {unknown[0]!r}: choose from {', '.join(self.__dataclass_fields__)}"
            ) from None


_MINI = Preset(
    name="mini",
    width=0.125,
    norm="batch",
    crop=(192, 256),
    batch_size=6,
    steps=400,
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=1e-4,
    schedule="one-cycle",
)

# The paper's own recipe (§IV-C). With a mean-reduced loss a rate of 2e-6 cannot move the output bias to where it has to
# go within 30 epochs; read as a sum over pixels it can. 92,500 steps are 30 epochs of SenseCrowd's training frames.
_PAPER = Preset(
    name="paper",
    width=1.0,
    norm="none",
    crop=(576, 768),
    batch_size=16,
    steps=92_500,
    optimizer="sgd",
    learning_rate=2e-6,
    weight_decay=0.0,
    schedule="constant",
    loss_reduction="sum",
    clip_norm=1.0,
    pretrained="imagenet",
)

# The recipe of the paper's co-author for the same head, which trains.
_PAPER_ADAM = replace(
    _PAPER,
    name="paper-adam",
    optimizer="adam",
    learning_rate=1e-5,
    weight_decay=1e-4,
    loss_reduction="mean",
    clip_norm=None,
)

PRESETS = {preset.name: preset for preset in (_MINI, _PAPER, _PAPER_ADAM)}


def get_preset(name: str) -> Preset:
    """The preset called `name`."""
    if name not in PRESETS:
        raise CrowdlocError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]

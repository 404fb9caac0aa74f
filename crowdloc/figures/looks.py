"""How every picture of the project looks: one style, and one name and colour per method, from its registry entry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import matplotlib.pyplot as plt
import seaborn as sns

from crowdloc.figures.keeping import keep_what_is_shown
from crowdloc.models.registry import METHODS, get_entry, label

_PALETTE = [str(colour) for colour in sns.color_palette("colorblind").as_hex()]
FIRST, SECOND = _PALETTE[0], _PALETTE[1]  # of two things that are no methods
HIT, MISS, FALSE = "#00e0a0", "#ffd60a", "#ff3b30"  # on photographs


class Look(NamedTuple):
    """How a method is shown: name for people and colour (hexadecimal)."""

    label: str
    colour: str


def style() -> None:
    """Set the project's style, and keep pictures with their numbers where a run wants them; once in a notebook."""
    keep_what_is_shown()
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update({"figure.dpi": 96, "savefig.dpi": 96, "figure.constrained_layout.use": True})


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Looks by name ("gnanet" or "gnanet.gamma5"), in the given order.

    A variant has the colour of its entry; the others of one method are shades of its colour, the first has that itself.
    """
    parts = {name: (name.partition(".")[0], name.partition(".")[2]) for name in names}
    own = {name: get_entry(method).colours.get(variant) for name, (method, variant) in parts.items()}
    shaded = [method for name, (method, _) in parts.items() if own[name] is None]
    shades = {method: iter(_shades(colour(method), shaded.count(method))) for method in dict.fromkeys(shaded)}
    return {name: Look(label(*parts[name]), own[name] or next(shades[parts[name][0]])) for name in parts}


def colour(method: str) -> str:
    """Colour of a method: its entry's, or the next one of the palette that no entry has."""
    own = get_entry(method).colour
    if own is not None:
        return own
    taken = {entry.colour for entry in METHODS.values()}
    free = [c for c in _PALETTE if c not in taken] or _PALETTE
    without = [name for name, entry in METHODS.items() if entry.colour is None]
    return free[without.index(method) % len(free)]


def _shades(base: str, number: int) -> list[str]:
    """`number` colours from `base` on, each lighter than the one before."""
    return [str(c) for c in sns.light_palette(base, number + 2).as_hex()[:1:-1]] if number > 1 else [base]

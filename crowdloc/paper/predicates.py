"""The claims of the paper's text as predicates on cells (`results/paper/claims.csv`), and their check in print.

A claim is a list of contrasts: weighted sums of cells with an interval in which they must lie. The same contrasts
can be evaluated on printed and on measured numbers. Columns of the file: `left` and `right` list rows, separated by
" | ", with a table prefix where the claim spans tables; they are paired in order, and a single entry is paired with
all of the other side. Empty `datasets`, `metrics` or `sigmas` mean all that both rows have. Relations:

- better: left is better than right (higher; lower for MAE, MSE and deviations)
- not worse: left is not worse than right by more than 0.005
- similar: the difference is at most 0.005
- rises, falls: each row of left against the one before
- larger gain: left - right is larger for the first than for the second element of the chain in `over`
- comparable: left is not worse than right by more than the share `over` of right
- equals: the products left and right differ by at most `over`; exceeds: left is greater than right
- measured: the paper prints no number that decides it

A printed number is rounded. Where a comparison would turn out differently within the rounding of its cells, as every
tie would, print does not decide it: "undecidable".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import pandas as pd

from crowdloc.core.errors import CrowdlocError
from crowdloc.paper.tables import COLUMNS, Cell, cells, read, roundings

SIMILAR = 0.005  # "similar", "without hurting"
EMPHATIC = 0.01  # "to a large extent", "significantly", "a lot": what `check_claims` asks for in a second verdict
_ABOVE = 1e-9  # strictly positive, far below the last printed digit
_FAMILIES = {
    "AP": COLUMNS[:3],
    "AR": COLUMNS[3:],
    "deviation": ("mAP deviation", "mAR deviation"),
}
_LOWER_IS_BETTER = ("MAE", "MSE", *_FAMILIES["deviation"])


@dataclass(frozen=True)
class Contrast:
    """One comparison of a claim: it holds if the weighted sum of the cells lies in [low, high]."""

    claim: str
    label: str
    terms: tuple[tuple[float, Cell], ...]
    constant: float = 0.0
    low: float = _ABOVE
    high: float = math.inf

    def value(self, numbers: Mapping[Cell, float]) -> float:
        """The weighted sum; KeyError if a cell is missing."""
        return math.fsum(weight * numbers[cell] for weight, cell in self.terms) + self.constant

    def holds(self, value: float) -> bool:
        """Whether `value` lies in the interval (rounded to 1e-9: printed decimals are not exact in binary)."""
        return self.low <= round(value, 9) <= self.high

    @property
    def limits(self) -> tuple[float, float]:
        """The ends of the interval as limits for an uncertain value: to be positive is to be above 0."""
        return (0.0 if self.low == _ABOVE else self.low), self.high

    def judged(self, value: float, rounding: float) -> str:
        """ "held", "failed", or "undecidable" where a true value nearer than `rounding` would turn the answer."""
        if any(abs(value - limit) < rounding - 10 * _ABOVE for limit in (self.low, self.high)):
            return "undecidable"
        return "held" if self.holds(value) else "failed"

    def emphasized(self) -> Contrast:
        """The same comparison, asked for an effect of at least `EMPHATIC`."""
        return replace(self, low=max(self.low, EMPHATIC))


def claims() -> pd.DataFrame:
    """Every claim of the text that a number can decide, in the order of the paper.

    Columns: `id`, `section`, `table` (numbers of the tables it is read from), `quote` (the paper's words), `predicate`
    (in words), the machine-readable form `relation, left, right, datasets, metrics, sigmas, over` (see the module),
    `emphatic` ("yes" where the text claims a large effect) and `decidable_by`.
    """
    return read("claims.csv")


def contrasts(claim: str | None = None) -> list[Contrast]:
    """The comparisons of one claim, or of all; none for claims whose relation is "measured"."""
    table = claims()
    if claim is not None:
        table = table[table["id"] == claim]
        if table.empty:
            raise CrowdlocError(f"no claim {claim!r}: see crowdloc.paper.claims()['id']")
    return [contrast for row in table.to_dict("records") for contrast in _expand(row)]


def check_claims(numbers: Mapping[Cell, float] | None = None) -> pd.DataFrame:
    """`claims()` with a verdict on the paper's own printed numbers (or on a correction of them, `numbers` by cell).

    Further columns: `parts` (comparisons), how many of them `held` or are `undecidable` because the printed digits
    leave both answers open, `holds_in_print`, `holds_emphatically` (the same with a margin of 0.01, for claims of a
    large effect in AP or AR) and `exceptions`. Answers: "yes" (all parts), "partly", "no", "undecidable" (no part
    fails, but not all can be decided), "not printed".
    """
    numbers = cells() if numbers is None else numbers
    table = claims()
    rows = []
    for row in table.to_dict("records"):
        parts = _expand(row)
        found = [judged(part, numbers) for part in parts]
        strong = [judged(part.emphasized(), numbers) for part in parts] if row["emphatic"] else []
        open_ = [
            f"{part.label} ({part.value(numbers):+.3g}{', undecidable' if answer == 'undecidable' else ''})"
            for part, answer in zip(parts, found, strict=True)
            if answer != "held"
        ]
        counts = [found.count(answer) for answer in ("held", "undecidable")]
        rows.append((len(parts), *counts, combined(found), combined(strong) if strong else "", "; ".join(open_)))
    columns = ["parts", "held", "undecidable", "holds_in_print", "holds_emphatically", "exceptions"]
    return table.join(pd.DataFrame(rows, columns=columns))


def judged(part: Contrast, numbers: Mapping[Cell, float]) -> str:
    """Whether printed numbers decide a comparison, and how: see `Contrast.judged`."""
    rounding = math.fsum(abs(weight) * roundings()[cell] for weight, cell in part.terms)
    return part.judged(part.value(numbers), rounding)


def combined(words: list[str]) -> str:
    """The answer to a claim from those to all of its comparisons, as in `check_claims`."""
    if not words:
        return "not printed"
    if "failed" in words:
        return "partly" if "held" in words else "no"
    return "undecidable" if "undecidable" in words else "yes"


def _expand(claim: dict[str, str]) -> list[Contrast]:
    try:
        return list(_RELATIONS[claim["relation"]](claim))
    except (KeyError, ValueError, IndexError) as error:
        name = claim.get("id", "?")
        raise CrowdlocError(f"claims.csv: claim {name!r} is not understood ({error!r}); restore the file") from None


def _directed(claim: dict[str, str], low: float, high: float, words: str) -> Iterator[Contrast]:
    for left, right in _pairs(claim):
        for a, b in _matching(left, right, claim):
            sign = -1.0 if a.metric in _LOWER_IS_BETTER else 1.0
            label = f"{_place(a)}: {_name(a, b)} {words} {_name(b, a)}"
            yield Contrast(claim["id"], label, ((sign, a), (-sign, b)), low=low, high=high)


def _comparable(claim: dict[str, str]) -> Iterator[Contrast]:
    share = float(claim["over"])
    for left, right in _pairs(claim):
        for a, b in _matching(left, right, claim):
            sign = -1.0 if a.metric in _LOWER_IS_BETTER else 1.0
            label = f"{_place(a)}: {_name(a, b)} not worse than {_name(b, a)} by more than {share:.0%}"
            yield Contrast(claim["id"], label, ((sign, a), (share - sign, b)), low=0.0)


def _monotone(claim: dict[str, str], sign: float, words: str) -> Iterator[Contrast]:
    for before, after in pairwise(_list(claim["left"])):
        for a, b in _matching(before, after, claim):
            yield Contrast(claim["id"], f"{_place(a)}: {words} from {a.row} to {b.row}", ((sign, b), (-sign, a)))


def _larger_gain(claim: dict[str, str]) -> Iterator[Contrast]:
    axis, chain = claim["over"].split(": ")
    for more, less in pairwise(chain.split(" > ")):
        for left, right in _pairs(claim):
            first, second = (
                {(a.sigma, a.metric): (a, b) for a, b in _matching(prefix + left, prefix + right, claim)}
                for prefix in ([f"{more}:", f"{less}:"] if axis == "table" else ["", ""])
            )
            for (sigma, metric), (a, b) in first.items():
                if (axis == "sigma" and sigma != int(more)) or (axis == "metric" and more not in metric):
                    continue
                other = metric.replace(more, less) if axis == "metric" else metric
                c, d = second[int(less) if axis == "sigma" else sigma, other]
                label = f"{_place(a)}: {a.row} - {b.row} larger than at {_place(c)}"
                yield Contrast(claim["id"], label, ((1.0, a), (-1.0, b), (-1.0, c), (1.0, d)))


def _arithmetic(claim: dict[str, str], low: float, high: float) -> Iterator[Contrast]:
    terms, constant = [], 0.0
    for side, sign in (("left", 1.0), ("right", -1.0)):
        factors = claim[side].split(" * ")
        weight = sign * math.prod(float(factor) for factor in factors if ":" not in factor)
        addresses = [factor.split(":") for factor in factors if ":" in factor]
        if not addresses:
            constant += weight
        for number, row, metric in addresses:
            terms.append((weight, Cell(number, row, row, None, metric)))
    yield Contrast(claim["id"], claim["predicate"], tuple(terms), constant, low, high)


_RELATIONS: dict[str, Callable[[dict[str, str]], Iterator[Contrast]]] = {
    "better": lambda claim: _directed(claim, _ABOVE, math.inf, "better than"),
    "not worse": lambda claim: _directed(claim, -SIMILAR, math.inf, "not worse than"),
    "similar": lambda claim: _directed(claim, -SIMILAR, SIMILAR, "similar to"),
    "comparable": _comparable,
    "rises": lambda claim: _monotone(claim, 1.0, "rises"),
    "falls": lambda claim: _monotone(claim, -1.0, "falls"),
    "larger gain": _larger_gain,
    "equals": lambda claim: _arithmetic(claim, -float(claim["over"]), float(claim["over"])),
    "exceeds": lambda claim: _arithmetic(claim, _ABOVE, math.inf),
    "measured": lambda claim: iter(()),
}


def _pairs(claim: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Rows of left and right in order; a single entry is paired with every entry of the other side."""
    left, right = _list(claim["left"]), _list(claim["right"])
    length = max(len(left), len(right))
    return zip(left * length if len(left) == 1 else left, right * length if len(right) == 1 else right, strict=True)


def _matching(left: str, right: str, claim: dict[str, str]) -> Iterator[tuple[Cell, Cell]]:
    """Cells of two rows with the same data set, σ and metric (any data sets, if the rows share none)."""
    a, b = _row(left, claim), _row(right, claim)
    shared = {cell.dataset for cell in a} & {cell.dataset for cell in b}
    places = {(cell.dataset if shared else "", cell.sigma, cell.metric): cell for cell in b}
    pairs = [(cell, places.get((cell.dataset if shared else "", cell.sigma, cell.metric))) for cell in a]
    found = [(x, y) for x, y in pairs if y is not None and _wanted(x, claim)]
    if not found:
        raise ValueError(f"{left} and {right} share no cell")
    return iter(found)


def _wanted(cell: Cell, claim: dict[str, str]) -> bool:
    metrics = [metric for word in claim["metrics"].split() for metric in _FAMILIES.get(word, (word,))]
    return (
        (not metrics or cell.metric in metrics)
        and (not claim["sigmas"] or str(cell.sigma) in claim["sigmas"].split())
        and (not claim["datasets"] or cell.dataset in _list(claim["datasets"]))
    )


def _row(spec: str, claim: dict[str, str]) -> list[Cell]:
    number, _, row = spec.rpartition(":")
    return _rows()[number or claim["table"].split()[0], row]


@cache
def _rows() -> dict[tuple[str, str], list[Cell]]:
    rows: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells():
        rows.setdefault((cell.table, cell.row), []).append(cell)
    return rows


def _list(text: str) -> list[str]:
    return text.split(" | ")


def _place(cell: Cell) -> str:
    return f"{cell.table} {cell.dataset}, {cell.metric}" + (f" σ {cell.sigma}" if cell.sigma is not None else "")


def _name(cell: Cell, other: Cell) -> str:
    return cell.row if cell.table == other.table else f"{cell.row} ({cell.table})"

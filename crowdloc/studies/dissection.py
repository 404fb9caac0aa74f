"""Why context cross-attention loses what the scene context knows: networks of Table VIII, taken apart.

`python -m crowdloc.studies.dissection` makes two studies from stored networks of one seed, on validation frames:

- `interventions_<group>`: a trained network with a part of it replaced. What can be replaced without harm is not used.
- `known_<group>`: what each map inside a network knows. A linear rule, fitted on half of the scenes, is tested on the
  others: does a cell hold a person or a figure that never moves ("moves"; only other frames can tell), and is it the
  very cell of a head or one two cells away from it ("where")? The number is the area under the ROC curve, .5 for
  nothing. And how hard the loss pulls at each map ("pull"): the norm of its gradient times the norm of the map, in
  percent of that of what the head is given.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import rankdata
from torch import Tensor, nn

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.datasets.synthcrowd import PRESETS
from crowdloc.inference.maps import Kept, keep_maps
from crowdloc.metrics import sigma_scale
from crowdloc.models import GNANet
from crowdloc.models.localizer import Localizer
from crowdloc.models.parts.frontend import STRIDE
from crowdloc.models.raznet import FrameStack
from crowdloc.models.targets import cross_target, localization_loss
from crowdloc.results import runs
from crowdloc.results.experiments import Experiment
from crowdloc.results.tables import paper_rows, shown_name
from crowdloc.studies.looking import cells_of
from crowdloc.studies.predictions import others
from crowdloc.studies.scoring import best_threshold, measure, scores
from crowdloc.studies.stored import read_study, write_study

Floats = NDArray[np.float64]
GROUP = "synthcrowd-sense-mini"
# On the way to the head: children of a network, and what their outputs are called.
FEATURE, SUM = "keyframe feature", "sum"
_INSIDE = {"combine": "stacked convolution", "scene_gna": "scene attention", "context": "scene context M",
           "keyframe_gna": "keyframe attention", "temporal_gna": "temporal attention"}  # fmt: skip
NETWORKS = ("raznet", "frame-stack", "gnanet.scene", "gnanet.keyframe", "gnanet.temporal", "gnanet.gamma5")
MOVES, WHERE = "moves", "where"
_RIDGE = 1e-2  # of the mean variance, added to the covariance of the linear rule
_PULLED = 8  # of so many frames one has its gradients computed
_RING = 2  # cells between a head and the cells that it is told from


class Part(NamedTuple):
    """What is replaced in a network: a name for people, and a context that does it."""

    name: str
    replaced: Callable[[Any], Any]


@contextmanager
def nothing(model: nn.Module) -> Iterator[None]:
    yield


@contextmanager
def _hooked(*handles: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _repeated(maps: Tensor, keyframe: int) -> Tensor:
    """(B, T, C, H, W) -> the keyframe's map in every place."""
    return maps[:, keyframe : keyframe + 1].expand_as(maps)


def stack_without_neighbours(model: GNANet | FrameStack) -> Any:
    """The first convolution sees the keyframe in the place of every frame: no comparison of frames."""

    def only(module: nn.Module, given: tuple[Tensor]) -> Tensor:
        clip = given[0].unflatten(1, (len(model.offsets), model.channels))
        return _repeated(clip, model.keyframe).flatten(1, 2)

    return _hooked(model.combine.register_forward_pre_hook(only))


def _attentions(model: GNANet) -> list[nn.Module]:
    return [gna for gna in (model.keyframe_gna, model.temporal_gna) if gna is not None]


def values_without_neighbours(model: GNANet) -> Any:
    """Temporal attention finds the keyframe in the place of every frame."""

    def only(module: nn.Module, given: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = given
        return query, _repeated(key, model.keyframe), _repeated(value, model.keyframe)

    assert model.temporal_gna is not None
    return _hooked(model.temporal_gna.register_forward_pre_hook(only))


def plain_average(model: GNANet) -> Any:
    """The query of cross-attention is zero: every drawn cell has the same weight."""

    def blank(module: nn.Module, given: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        return torch.zeros_like(given[0]), given[1], given[2]

    return _hooked(*(gna.register_forward_pre_hook(blank) for gna in _attentions(model)))


def flat_attention(model: GNANet) -> Any:
    """Cross-attention answers the same everywhere: the mean over its own map."""
    return _flat(_attentions(model))


def flat_scene_attention(model: GNANet) -> Any:
    """The attention inside scene modelling answers the same everywhere."""
    return _flat([model.scene_gna])


def _flat(modules: list[nn.Module]) -> Any:
    def mean(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return out.mean(dim=(2, 3), keepdim=True).expand_as(out)

    return _hooked(*(module.register_forward_hook(mean) for module in modules))


UNTOUCHED = Part("as trained", nothing)
_STACK = Part("the convolution sees the keyframe three times", stack_without_neighbours)
_SCENE = Part("attention of scene modelling: one mean for all cells", flat_scene_attention)
_PLAIN = Part("query of cross-attention: zero", plain_average)
_FLAT = Part("cross-attention: one mean for all cells", flat_attention)
_VALUES = Part("temporal attention sees the keyframe three times", values_without_neighbours)


def parts_of(model: Localizer) -> list[Part]:
    """What can be replaced in a network."""
    if isinstance(model, GNANet):
        crossed = [_PLAIN, _FLAT] if model.fusion is not None else []
        return [UNTOUCHED, _STACK, _SCENE, *crossed, *([_VALUES] if model.temporal_gna is not None else [])]
    return [UNTOUCHED, *([_STACK] if isinstance(model, FrameStack) else [])]


def interventions(group: str = GROUP, seed: int = 0, names: tuple[str, ...] = NETWORKS) -> pd.DataFrame:
    """Scores of stored networks on validation frames with parts replaced, one row per network and part."""
    rows = []
    for name in names:
        experiment = Experiment.parse(f"{group}/{name}/seed{seed}")
        model, validation, maps = _opened(experiment)
        threshold = None
        for part in parts_of(model):
            print(f"{experiment.id}: {part.name}", file=sys.stderr)
            with part.replaced(model):
                found = measure(model, validation, scale=sigma_scale(group), maps=maps)
            threshold = threshold or best_threshold(found)  # that of the network as it was trained
            rows.append({"network": name, "replaced": part.name} | scores(found, threshold))
    return pd.DataFrame(rows)


def _opened(experiment: Experiment) -> tuple[Localizer, ClipDataset, Kept]:
    """A stored network behind a frozen backbone, its validation frames, and the backbone's maps of them."""
    model = runs.load_model(experiment).eval()
    if not isinstance(model, Localizer) or not experiment.recipe.frozen or not experiment.source.generated:
        raise CrowdlocError(f"{experiment.id} is no localizer behind a frozen backbone on generated data: name one")
    validation = experiment.load("val")
    return model, validation, keep_maps(model, validation)


def maps_inside(model: Localizer, features: Tensor) -> dict[str, Tensor]:
    """Maps (1, C, H, W) on the way from the features (T, C, H, W) of a clip to the head, by what they are called.

    The last one is what the head is given.
    """
    found: dict[str, Tensor] = {FEATURE: features[model.keyframe][None]}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            found[name] = out

        return hook

    children = dict(model.named_children())
    with _hooked(*(children[c].register_forward_hook(keep(n)) for c, n in _INSIDE.items() if children.get(c))):
        entering = model.aggregate(features[None], None)
    if getattr(model, "fusion", None) is not None:
        found[SUM] = entering
    return found


def pulls(model: Localizer, features: Tensor, points: Floats, size: tuple[int, int]) -> dict[str, float]:
    """How hard the loss of a clip pulls at the maps of `maps_inside`: ‖gradient‖·‖map‖ in percent of the last one's.

    It is what the loss would change by if the map were changed in the direction of its gradient by its own norm.
    """
    maps = maps_inside(model, features.detach().requires_grad_())
    *inner, entering = (one for name, one in maps.items() if name != FEATURE)
    logits = model.head(entering)[0, :, : size[0], : size[1]]
    target = torch.from_numpy(cross_target(points, *size))[None]
    loss = localization_loss(logits.float(), target, positive_weight=model.positive_weight)
    slopes = torch.autograd.grad(loss, [*inner, entering])
    found = [float(slope.norm() * one.detach().norm()) for slope, one in zip(slopes, (*inner, entering), strict=True)]
    return dict(zip([name for name in maps if name != FEATURE], [100 * one / found[-1] for one in found], strict=True))


class Cells(NamedTuple):
    """Cells (n,) of one frame for the two questions, with answers (n,)."""

    moves: NDArray[np.int64]
    person: NDArray[np.bool_]
    where: NDArray[np.int64]
    own: NDArray[np.bool_]


def cells_to_tell(points: Floats, lookalikes: Floats, size: tuple[int, int]) -> Cells:
    """Cells of heads and of look-alikes in the picture; cells of heads and those two cells away from every head.

    A look-alike on the cell of a head, or next to it, is left out.
    """
    height, width = size
    heads = np.unique(cells_of(points, size))
    inside = (lookalikes >= -0.5).all(axis=1) & (lookalikes < np.array([width, height]) * STRIDE - 0.5).all(axis=1)
    false = np.unique(cells_of(lookalikes[inside], size)) if inside.any() else np.empty(0, np.int64)
    grid = np.stack(np.divmod(np.arange(height * width), width), axis=-1)
    if not len(heads):
        return Cells(false, np.zeros(len(false), bool), heads, np.zeros(0, bool))
    away = cKDTree(grid[heads]).query(grid, p=np.inf)[0]
    false = false[away[false] > 1]
    ring = np.flatnonzero(away == _RING)
    return Cells(
        np.concatenate([heads, false]), np.arange(len(heads) + len(false)) < len(heads),
        np.concatenate([heads, ring]), np.arange(len(heads) + len(ring)) < len(heads),
    )  # fmt: skip


def auc(score: Floats, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half."""
    ranks, n = rankdata(score), positive.sum()
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))


def linear_rule(x: Floats, positive: NDArray[np.bool_]) -> Floats:
    """Direction (C,) of Fisher's linear discriminant of samples (n, C), slightly regularised."""
    sides = [x[positive], x[~positive]]
    scatter = np.mean([np.cov(side, rowvar=False, bias=True) for side in sides], axis=0)
    scatter = scatter + _RIDGE * np.trace(scatter) / len(scatter) * np.eye(len(scatter))
    return np.linalg.solve(scatter, sides[0].mean(axis=0) - sides[1].mean(axis=0))


def told_apart(x: Floats, positive: NDArray[np.bool_], fold: NDArray[np.int64]) -> float:
    """AUC of linear rules on samples (n, C), each fitted on the other folds; mean over folds."""
    found = [auc(x[fold == k] @ linear_rule(x[fold != k], positive[fold != k]), positive[fold == k]) for k in set(fold)]
    return float(np.mean(found))


def known(group: str = GROUP, seed: int = 0, names: tuple[str, ...] = NETWORKS) -> pd.DataFrame:
    """What the maps inside stored networks know, on validation frames: one row per network and map.

    Columns: `moves`, `where` and `pull` (see the module), the last as the median over frames.
    """
    rows = []
    for name in names:
        experiment = Experiment.parse(f"{group}/{name}/seed{seed}")
        print(experiment.id, file=sys.stderr)
        model, validation, kept = _opened(experiment)
        asked = [_cells(experiment, frame) for frame in validation.frames]
        samples: dict[str, list[Floats]] = {}
        pulled: dict[str, list[float]] = {}
        for index, (frame, cells) in enumerate(zip(validation.frames, asked, strict=True)):
            clip = torch.stack([kept.read(i, False)[0].float() for i in validation.neighbours(index, model.offsets)])
            with torch.inference_mode():
                inside = maps_inside(model, clip)
            chosen = np.concatenate([cells.moves, cells.where])
            for title, one in inside.items():
                samples.setdefault(title, []).append(one[0].flatten(1).T[chosen].double().numpy())  # (n, C)
            if len(inside) > 1 and index % _PULLED == 0:
                for title, pull in pulls(model, clip, frame.points, kept.size(validation.key(index))).items():
                    pulled.setdefault(title, []).append(pull)
        fold = [np.full(len(cells.moves) + len(cells.where), _scene_of(f)[0] % 2)
                for f, cells in zip(validation.frames, asked, strict=True)]  # fmt: skip
        answer = [np.concatenate([cells.person, cells.own]) for cells in asked]
        first = [np.arange(len(one)) < len(cells.moves) for one, cells in zip(answer, asked, strict=True)]
        folds, answers, moving = (np.concatenate(parts) for parts in (fold, answer, first))
        for title, parts in samples.items():
            x = np.concatenate(parts)
            scored = {kind: round(told_apart(x[part], answers[part], folds[part]), 4)
                      for kind, part in ((MOVES, moving), (WHERE, ~moving))}  # fmt: skip
            pull = round(float(np.median(pulled[title])), 2) if title in pulled else math.nan
            rows.append({"network": name, "map": title} | scored | {"pull": pull})
    return pd.DataFrame(rows)


def _scene_of(frame: Frame) -> tuple[int, int]:
    """Numbers of scene and frame of a generated frame, "sense-val-scene003/005"."""
    scene, _, number = frame.id.rpartition("/")
    return int(scene.rpartition("scene")[2]), int(number)


def _cells(experiment: Experiment, frame: Frame) -> Cells:
    """The cells that are asked about in a validation frame."""
    height, width = PRESETS[experiment.preset]
    where = others(experiment.data.removeprefix("synthcrowd-"), "val", *_scene_of(frame))
    return cells_to_tell(frame.points, where.lookalikes, (height // STRIDE, width // STRIDE))


def _title(name: str) -> str:
    """The row of Table VIII, or the method's name."""
    return (paper_rows("VIII", name) or [shown_name(name)])[0]


def _ordered(maps: Iterable[str]) -> list[str]:
    """Each once, the sum after its terms."""
    return sorted(dict.fromkeys(maps), key=lambda name: name == SUM)


def known_text(group: str = GROUP) -> str:
    """The stored `known` study: networks side by side, what their maps know of "moves", and below of "where"."""
    rows = read_study(f"known_{group}").astype({MOVES: float, WHERE: float})
    rows["network"] = [_title(name) for name in rows["network"]]
    order = list(dict.fromkeys(rows["network"])), _ordered(rows["map"])
    tables = [
        f"{title}\n" + rows.pivot(index="map", columns="network", values=column).reindex(order[1])[order[0]]
        .rename_axis(index=None, columns=None).to_string(float_format=digits.format, na_rep="")
        for column, title, digits in (
            (MOVES, "person or still figure (AUC)", "{:.3f}"), (WHERE, "head or two cells away (AUC)", "{:.3f}"),
        )
    ]  # fmt: skip
    return "\n\n".join(tables)


def pulls_text(group: str = GROUP) -> str:
    """The stored `known` study's column "pull", in percent: a row per map, networks side by side."""
    rows = read_study(f"known_{group}")
    rows = rows[rows["pull"] != ""].astype({"pull": float})
    rows["network"] = [_title(name) for name in rows["network"]]
    wide = rows.pivot(index="map", columns="network", values="pull")
    wide = wide.reindex(_ordered(rows["map"]))[list(dict.fromkeys(rows["network"]))]
    return wide.rename_axis(index=None, columns=None).to_string(float_format="{:.0f}".format, na_rep="")


def interventions_text(group: str = GROUP) -> str:
    """The stored `interventions` study: mAP on validation frames with parts replaced, and the change at σ 20."""
    rows = read_study(f"interventions_{group}")
    rows = rows.astype(dict.fromkeys(("mAP σ5", "mAP σ20", "mAP σ40"), float))
    whole = rows.groupby("network", sort=False)["mAP σ20"].transform("first")
    change = [
        f"{d:+.3f}" if part != UNTOUCHED.name else ""
        for d, part in zip(rows["mAP σ20"] - whole, rows["replaced"], strict=True)
    ]
    shown = pd.DataFrame({"network": [_title(n) for n in rows["network"]], "replaced": rows["replaced"]})
    for column in ("mAP σ5", "mAP σ20", "mAP σ40"):
        shown[column] = [f"{value:.3f}" for value in rows[column]]
    return shown.assign(**{"change at σ20": change}).to_string(index=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make both studies in `build/studies/`."""
    parser = argparse.ArgumentParser(prog="python -m crowdloc.studies.dissection", description=main.__doc__)
    parser.add_argument("study", nargs="*", choices=["known", "interventions"], default=["known", "interventions"])
    made: dict[str, Callable[[], pd.DataFrame]] = {"known": known, "interventions": interventions}
    for study in parser.parse_args(arguments).study:
        used = {"networks": [f"{GROUP}/{name}/seed0" for name in NETWORKS], "split": "val"}
        print(write_study(f"{study}_{GROUP}", made[study](), used))


if __name__ == "__main__":
    main()

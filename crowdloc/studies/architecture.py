"""What a network consists of, found by running it: its stages, what flows between them, what each costs (Figure 2).

A stage is a child of the network. Hooks note what goes in and comes out; between stages every tensor carries the names
of the stages it was made from, so that also what a concatenation or a slice leads on is known.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from crowdloc.attention import GaussianNeighborAttention
from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.figures.architecture import Block
from crowdloc.models import build_model, normalise
from crowdloc.models.localizer import Localizer, parameter_count
from crowdloc.models.parts.fusion import Fusion
from crowdloc.models.recipes import get_preset
from crowdloc.results import runs
from crowdloc.results.experiments import Experiment

FRAMES = "frames"  # where the arrows begin
TITLES = {
    "backbone": "Backbone",
    "combine": "Scene feature F",
    "scene_gna": "Self-GNA",
    "context": "Scene context M",
    "temporal_gna": "Temporal GNA",
    "keyframe_gna": "Keyframe GNA",
    "fusion": "Sum",
    "head": "Localization head",
}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """A child of a network as one forward pass saw it.

    Attributes:
        output: shape of the (first) map that comes out.
        parameters: trainable scalars.
        multiply_adds: of its convolutions and attention; additions, normalisation, ReLU and pooling are not counted.
    """

    name: str
    what: str
    output: Shape
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Arrow:
    """The output of `source` (or the frames) is part of argument `role` of `target`."""

    source: str
    target: str
    role: str


@dataclass(frozen=True, eq=False)
class Trace:
    """Stages in the order in which they ran, arrows between them, and what came out of each (the first map)."""

    stages: Mapping[str, Stage]
    arrows: tuple[Arrow, ...]
    outputs: Mapping[str, Tensor]

    @property
    def parameters(self) -> int:
        return sum(stage.parameters for stage in self.stages.values())

    @property
    def multiply_adds(self) -> int:
        return sum(stage.multiply_adds for stage in self.stages.values())


class _Flow(TorchFunctionMode):
    """Remembers of which stages' outputs every tensor was made. Tensors are held, so that no id is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[int, tuple[str, ...]] = {}
        self.held: list[Tensor] = []

    def mark(self, found: Any, sources: tuple[str, ...]) -> None:
        for tensor in _tensors(found):
            self.sources[id(tensor)] = sources
            self.held.append(tensor)

    def of(self, found: Any) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s for tensor in _tensors(found) for s in self.sources.get(id(tensor), ())))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sources = self.of([args, kwargs])
        if sources and not (isinstance(out, Tensor) and id(out) in self.sources):
            self.mark(out, sources)
        return out


def _tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, (list, tuple)):
        for part in found:
            yield from _tensors(part)
    elif isinstance(found, dict):
        yield from _tensors(list(found.values()))


def trace(model: nn.Module, clips: Tensor) -> Trace:
    """One forward pass of normalised clips (B, T, 3, h, w), in testing mode; on the device "meta" only shapes flow.

    Raises:
        CrowdlocError: a layer that nobody knows how to count, a child that did not run, or parameters outside stages.
    """
    flow = _Flow()
    stages: dict[str, Stage] = {}
    arrows: list[Arrow] = []
    outputs: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def enter(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        for role, value in _roles(module, args, kwargs).items():
            arrows.extend(Arrow(source, name, role) for source in flow.of(value))

    def leave(name: str, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        flow.mark(out, (name,))
        outputs[name] = next(_tensors(out)).detach()
        size = tuple(outputs[name].shape)
        stages[name] = Stage(name, describe(module), size, parameter_count(module), counts.pop(name, 0))

    def count(name: str, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        given = list(_tensors([args, kwargs]))
        counts[name] = counts.get(name, 0) + multiply_adds(module, given, out)

    with ExitStack() as stack:
        for name, child in model.named_children():
            hooks = [child.register_forward_pre_hook(partial(enter, name), with_kwargs=True)]
            for leaf in child.modules():
                if _is_counted(leaf):
                    hooks.append(leaf.register_forward_hook(partial(count, name), with_kwargs=True))
            hooks.append(child.register_forward_hook(partial(leave, name), with_kwargs=True))
            for hook in hooks:
                stack.callback(hook.remove)
        model.eval()
        with torch.no_grad(), flow:  # inference mode would hide tensors from the flow
            flow.mark(clips, (FRAMES,))
            model(clips)
    found = Trace(stages, tuple(dict.fromkeys(arrows)), outputs)
    idle = [name for name, _ in model.named_children() if name not in stages]
    if idle or found.parameters != parameter_count(model):
        raise CrowdlocError(f"{type(model).__name__}: {', '.join(idle) or 'parameters outside its stages'} did not run")
    return found


def _roles(module: nn.Module, args: Any, kwargs: Any) -> dict[str, Any]:
    """Arguments that hold tensors by the names of the module's forward function."""
    bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    return {name: value for name, value in bound.items() if next(_tensors(value), None) is not None}


def times(model: nn.Module, clips: Tensor, *, repeats: int = 3) -> dict[str, float]:
    """Median milliseconds of every stage and, as "whole", of the network, over forward passes after a first one."""
    begun: dict[str, float] = {}
    found: dict[str, list[float]] = {}

    def enter(name: str, *_: Any) -> None:
        begun[name] = time.perf_counter()

    def leave(name: str, *_: Any) -> None:
        found.setdefault(name, []).append(1e3 * (time.perf_counter() - begun[name]))

    with ExitStack() as stack:
        for name, child in [*model.named_children(), ("whole", model)]:
            stack.callback(child.register_forward_pre_hook(partial(enter, name)).remove)
            stack.callback(child.register_forward_hook(partial(leave, name)).remove)
        model.eval()
        with torch.inference_mode():
            for _ in range(1 + repeats):
                model(clips)
    return {name: float(np.median(values[1:])) for name, values in found.items()}


def _convolution(module: nn.Conv2d, given: Sequence[Tensor], out: Tensor) -> int:
    return out.numel() * module.in_channels // module.groups * math.prod(module.kernel_size)


def _deconvolution(module: nn.ConvTranspose2d, given: Sequence[Tensor], out: Tensor) -> int:
    return given[0].numel() * module.out_channels // module.groups * math.prod(module.kernel_size)


def _attention(module: GaussianNeighborAttention, given: Sequence[Tensor], out: Tensor) -> int:
    """Every draw costs a scalar product with a key and adds a value."""
    if module.sampling == "limit":
        raise CrowdlocError("attention without draws has no number of draws: choose another sampling")
    frames = given[1].shape[1] if given[1].ndim == 5 else 1
    samples = 1 if module.training else module.num_samples
    return out.numel() * 2 * len(module.gamma) * samples * frames * module.num_points


_COUNTED: dict[type[nn.Module], Callable[..., int]] = {
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _deconvolution,
    GaussianNeighborAttention: _attention,
}
_FREE = (nn.ReLU, nn.MaxPool2d, nn.BatchNorm2d, Fusion)


def _is_counted(module: nn.Module) -> bool:
    return not isinstance(module, Fusion) and next(module.children(), None) is None


def multiply_adds(module: nn.Module, given: Sequence[Tensor], out: Tensor) -> int:
    """Products that a layer sums up, from the tensors that it was given and the one that it made.

    Raises:
        CrowdlocError: a layer of a kind for which no rule is known.
    """
    for kind, rule in _COUNTED.items():
        if isinstance(module, kind):
            return rule(module, given, out)
    if isinstance(module, _FREE):
        return 0
    raise CrowdlocError(f"{type(module).__name__}: no rule says how many operations it takes: add one to `_COUNTED`")


def describe(module: nn.Module) -> str:
    """What a stage is made of, in a few words: "3×3 conv, ReLU"."""
    if isinstance(module, GaussianNeighborAttention):
        gamma = ", ".join(f"{g:g}" for g in module.gamma)
        return f"γ = {gamma}; P = {module.num_points}, S = {module.num_samples}"
    if isinstance(module, Fusion):
        return {"sum": "element-wise sum"}.get(module.kind, module.kind)
    layers = list(module.modules())
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    words = []
    for (side, dilation), number in _tally((c.kernel_size[0], _one(c.dilation)) for c in convolutions).items():
        times = f"{number} × " if number > 1 else ""
        words.append(f"{times}{side}×{side} conv" + (f", dilation {dilation}" if dilation > 1 else ""))
    more = {"deconv ×2": nn.ConvTranspose2d, "max-pool": nn.MaxPool2d}
    for word, kind in more.items():
        number = sum(isinstance(layer, kind) for layer in layers)
        words += [f"{number} × {word}"] if number else []
    return "; ".join(words)


def _one(value: Any) -> int:
    return value if isinstance(value, int) else value[0]


def _tally(keys: Iterator[tuple[int, int]]) -> dict[tuple[int, int], int]:
    found: dict[tuple[int, int], int] = {}
    for key in keys:
        found[key] = found.get(key, 0) + 1
    return found


def full_width(name: str = "gnanet", size: tuple[int, int] = (1080, 1920)) -> Trace:
    """The network of the preset "paper" at an image size (h, w), shapes only: nothing is computed or held."""
    recipe = get_preset("paper")
    with torch.device("meta"):
        model = build_model(name, width=recipe.width, norm=recipe.norm)
        assert isinstance(model, Localizer)
        return trace(model, torch.empty(1, len(model.offsets), 3, *size))


def clip(dataset: ClipDataset, index: int, offsets: Sequence[int]) -> tuple[NDArray[np.uint8], Tensor]:
    """Frames (T, h, w, 3) around a keyframe, and the same as a network takes them (1, T, 3, h, w)."""
    frames = np.stack([dataset.image(i) for i in dataset.neighbours(index, tuple(offsets))])
    return frames, normalise(torch.from_numpy(frames))[None]


@dataclass(frozen=True, eq=False)
class Example:
    """A trained network at work on one validation clip: the clip, what the network found in it, how long it took."""

    trace: Trace
    frames: NDArray[np.uint8]  # (T, h, w, 3)
    points: NDArray[np.float64]  # (n, 2), what is counted
    milliseconds: dict[str, float]


def example(id: str = "synthcrowd-sense-mini/gnanet/seed0", index: int = 20) -> Example:
    """The stored network of an experiment on the clip around validation frame `index`."""
    experiment = Experiment.parse(id)
    model, run = runs.load_model(experiment), runs.read(experiment)
    if run is None or run.threshold is None:
        raise CrowdlocError(f"{id} is not stored with a counting threshold: name a stored localizer")
    frames, clips = clip(experiment.load("val"), index, model.offsets)
    shown = trace(model, clips)
    with torch.inference_mode():
        maps = model.encode(clips[0])
        found = model.decode([tuple(part[i] for part in maps) for i in range(len(frames))], frames.shape[1:3])
    assert found.points is not None and found.scores is not None
    return Example(shown, frames, found.points[found.scores >= run.threshold], times(model, clips))


def full_width_times(name: str = "gnanet", size: tuple[int, int] = (288, 512)) -> dict[str, float]:
    """`times` of the network of the preset "paper" with random weights."""
    recipe = get_preset("paper")
    model = build_model(name, width=recipe.width, norm=recipe.norm)
    return times(model, torch.randn(1, len(model.offsets), 3, *size), repeats=2)


def times_text(measured: Mapping[str, Mapping[str, float]]) -> str:
    """Milliseconds by stage, a column for every network."""
    return pd.DataFrame(measured).to_string(float_format="{:,.1f}".format)


def table(traces: Mapping[str, Trace]) -> pd.DataFrame:
    """One row per stage and one for the whole: output, parameters and GFLOP (2 per multiply-add) of each trace."""
    rows: dict[str, dict[tuple[str, str], str]] = {}
    for title, found in traces.items():
        for name, stage in found.stages.items():
            output = "×".join(map(str, stage.output[1:]))
            if stage.output[0] > 1:
                output = f"{stage.output[0]} × {output}"
            rows.setdefault(name, {}).update(_cells(title, output, stage.parameters, stage.multiply_adds))
    for title, found in traces.items():
        rows.setdefault("whole", {}).update(_cells(title, "", found.parameters, found.multiply_adds))
    result = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    result.columns = pd.MultiIndex.from_tuples(result.columns)
    return result


def _cells(title: str, output: str, parameters: int, multiplied: int) -> dict[tuple[str, str], str]:
    return {
        (title, "output"): output,
        (title, "parameters"): f"{parameters:,}",
        (title, "GFLOP"): f"{2e-9 * multiplied:,.2f}",
    }


def shares(found: Trace, milliseconds: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Percent of parameters, operations and, where measured, time by stage."""
    columns = {
        "parameters": {name: float(stage.parameters) for name, stage in found.stages.items()},
        "operations": {name: float(stage.multiply_adds) for name, stage in found.stages.items()},
    }
    if milliseconds is not None:
        columns["time"] = {name: milliseconds[name] for name in found.stages}
    table = pd.DataFrame(columns)
    return 100 * table / table.sum()


def drawing(
    shown: Trace, wide: Trace, frames: NDArray[np.uint8], points: NDArray[np.float64]
) -> tuple[dict[str, Block], list[tuple[str, str, str]]]:
    """Boxes and arrows for `figures.architecture.network`.

    Args:
        shown: a trace with its maps, which become pictures; its sizes stand in the first line of a box.
        wide: another trace of the same stages; its sizes stand in the second line.
        frames: the clip that `shown` saw, (T, h, w, 3); points: what it found, (n, 2) in their pixels.

    Raises:
        CrowdlocError: something flows otherwise in `wide` than in `shown`.
    """
    if shown.arrows != wide.arrows:
        raise CrowdlocError("the two networks are built differently: trace two widths of one network")
    keyframe = frames[len(frames) // 2]
    blocks = {FRAMES: Block("Clip", f"m = {len(frames)} frames", (_size(frames.shape[1:3]),), tuple(frames), "data")}
    for name, stage in shown.stages.items():
        lines = tuple(_numbers(found.stages[name]) for found in (shown, wide))
        kind = "learned" if stage.parameters else "attention"
        blocks[name] = Block(TITLES.get(name, name), stage.what, lines, _pictures(name, shown.outputs[name]), kind)
    counted = (f"{len(points)} counted",)
    blocks["map"] = Block("Heads", "peaks of the map", counted, (_dotted(keyframe, points),), "data")
    return blocks, [*((arrow.source, arrow.target, arrow.role) for arrow in shown.arrows), ("head", "map", "map")]


def _numbers(stage: Stage) -> str:
    count, *shape = stage.output
    output = "×".join(map(str, shape))
    output = f"{count} × {output}" if count > 1 else output
    return f"{output} · {_short(stage.parameters)}" if stage.parameters else output


def _short(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


def _size(size: Sequence[int]) -> str:
    return "×".join(map(str, size))


def _pictures(name: str, output: Tensor) -> tuple[NDArray[np.float32], ...]:
    """Mean over channels of every map; of the head its probability."""
    maps = output[:, 0].sigmoid() if name == "head" else output.mean(dim=1)
    return tuple(maps.cpu().numpy())


def _dotted(image: NDArray[np.uint8], points: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A copy with a square on every point, large enough to be seen in a small picture."""
    image, half = image.copy(), max(2, image.shape[0] // 72)
    for x, y in np.rint(points).astype(int):
        image[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1] = (255, 59, 48)
    return image

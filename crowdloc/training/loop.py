"""Training with Lightning Fabric: one CPU, one GPU or many by the same command, resumable after any interruption.

A run is a pure function of (preset, data, seed): batches depend on seed and step, neighbour draws on seed, module and
step, the learning rate on the step. A checkpoint therefore holds only weights, optimizer state and the step.
"""

from __future__ import annotations

import csv
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from tqdm import tqdm

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.paths import atomic_write
from crowdloc.datasets.base import ClipDataset
from crowdloc.models import Localizer, build_model, initialise, load_pretrained, normalise
from crowdloc.models.recipes import Preset
from crowdloc.models.targets import CROSS_PIXELS, localization_loss
from crowdloc.training.batches import TrainingBatches

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"
_CHECKPOINT_SECONDS = 30.0


def learning_rate(preset: Preset, step: int) -> float:
    """Rate at a step: constant, or a linear warm-up over the first tenth and a cosine to zero."""
    if preset.schedule == "constant":
        return preset.learning_rate
    warm_up = max(1, preset.steps // 10)
    if step < warm_up:
        return preset.learning_rate * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, preset.steps - warm_up)
    return preset.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def build_optimizer(preset: Preset, model: nn.Module) -> torch.optim.Optimizer:
    """The preset's optimizer over all parameters."""
    options: dict[str, Any] = {"lr": preset.learning_rate, "weight_decay": preset.weight_decay}
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    return kinds[preset.optimizer](model.parameters(), **options)


def new_model(name: str, preset: Preset, seed: int, dataset: ClipDataset, **options: Any) -> Localizer:
    """An untrained network: initialised by the seed, with the preset's pretrained backbone if it has one."""
    model = build_model(name, width=preset.width, norm=preset.norm, **{**preset.model, **options})
    initialise(model, seed, share=head_share(dataset), positive_weight=preset.positive_weight)
    print(load_pretrained(model.backbone, preset.pretrained), file=sys.stderr)
    model.run_seed = seed
    return model


def head_share(dataset: ClipDataset) -> float:
    """Share of the pixels that the targets mark as heads, from the number of heads and the size of the first image."""
    height, width = dataset.image(0).shape[:2]
    heads = max(1, sum(len(frame.points) for frame in dataset.frames))
    return min(0.5, CROSS_PIXELS * heads / (len(dataset) * height * width))


def train(
    model: Localizer,
    dataset: ClipDataset,
    preset: Preset,
    *,
    seed: int,
    out: Path,
    progress: bool = True,
    accelerator: str = "auto",
    devices: int | str = "auto",
    precision: str = "32-true",
) -> Localizer:
    """Train until `preset.steps`, from the last checkpoint in `out` if there is one; returns the trained model.

    `out` receives a checkpoint about every 30 seconds and `log.csv` (step, loss, learning rate, seconds). A checkpoint
    of another recipe is an error, never silently continued or overwritten.
    """
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    recipe = json.dumps({"preset": asdict(preset), "seed": seed, "data": dataset.name, "clips": len(dataset)})
    wrapped, optimizer = fabric.setup(model, build_optimizer(preset, model))
    first = 0
    path = out / CHECKPOINT
    if path.exists():
        state = _read_checkpoint(path, fabric.device)
        if state["recipe"] != recipe:
            raise CrowdlocError(f"{path} belongs to another recipe: choose another folder or delete it")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    batches = TrainingBatches(
        dataset,
        crop=preset.crop,
        batch_size=preset.batch_size,
        seed=seed,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    log = _Log(out / LOG, first) if fabric.is_global_zero else None
    bar = tqdm(
        total=preset.steps,
        initial=first,
        unit="step",
        disable=not (progress and fabric.is_global_zero),
        file=sys.stderr,
    )
    wrapped.train()
    saved = started = time.monotonic()
    for step, (clips, target) in batches.stream(first, preset.steps):
        rate = learning_rate(preset, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        clips, target = fabric.to_device((clips, target))
        logits = wrapped(normalise(clips), step=step)
        loss = localization_loss(logits, target, positive_weight=preset.positive_weight)
        if preset.loss_reduction == "sum":
            loss = loss * target[0].numel()
        fabric.backward(loss)
        if preset.clip_norm is not None:
            fabric.clip_gradients(wrapped, optimizer, max_norm=preset.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        value = float(cast(torch.Tensor, fabric.all_reduce(loss.detach(), reduce_op="mean")))
        if not math.isfinite(value):
            raise CrowdlocError(f"the loss is {value} at step {step}: lower the learning rate ({preset.learning_rate})")
        if log is not None:
            log.write(step, value, rate, time.monotonic() - started)
            bar.update()
            bar.set_postfix_str(f"loss {value:.4f}", refresh=False)
            last = step + 1 == preset.steps
            if last or time.monotonic() - saved > _CHECKPOINT_SECONDS:
                log.flush()
                _write_checkpoint(path, model, optimizer, step + 1, recipe)
                saved = time.monotonic()
    bar.close()
    return model.eval()


def is_main_process() -> bool:
    """Whether this process is the one that evaluates and writes results."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _write_checkpoint(path: Path, model: nn.Module, optimizer: Any, step: int, recipe: str) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "recipe": recipe}
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def _read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise CrowdlocError(f"{path} is not a readable checkpoint ({error}): delete it to start again") from error


class _Log:
    """`log.csv`; lines of steps that a resumed run will repeat are dropped."""

    def __init__(self, path: Path, first: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_log(path) if row["step"] < first] if path.exists() else []
        with atomic_write(path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "loss", "learning_rate", "seconds"])
            writer.writerows(row.values() for row in kept)
        self._seconds = kept[-1]["seconds"] if kept else 0.0
        self._file = open(path, "a", newline="")
        self._writer = csv.writer(self._file)

    def write(self, step: int, loss: float, rate: float, seconds: float) -> None:
        self._writer.writerow([step, f"{loss:.6g}", f"{rate:.6g}", f"{self._seconds + seconds:.2f}"])

    def flush(self) -> None:
        self._file.flush()


def read_log(path: Path) -> Iterator[dict[str, float]]:
    """Rows of a training log; a line cut off by an interruption is left out."""
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            try:
                yield {key: int(value) if key == "step" else float(value) for key, value in row.items()}
            except (TypeError, ValueError):
                continue

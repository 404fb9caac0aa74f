"""Training with Lightning Fabric: one CPU, one GPU or many by the same command, resumable after any interruption.

A run is a pure function of (recipe, data, seed): batches depend on seed and step, neighbour draws on seed, module and
step, the learning rate on the step. A checkpoint therefore holds only weights, optimizer state and the step.
"""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset
from crowdloc.models import Method, build_model, initialise, load_pretrained
from crowdloc.models.method import Held, Sample
from crowdloc.models.recipes import Recipe
from crowdloc.models.registry import accepts
from crowdloc.training.batches import KeptMaps, TrainingBatches
from crowdloc.training.checkpoints import CHECKPOINT, read_checkpoint, write_checkpoint
from crowdloc.training.log import LOG, Log

_CHECKPOINT_SECONDS = 30.0


def learning_rate(recipe: Recipe, step: int) -> float:
    """Rate at a step: constant, or a linear warm-up over the first tenth and a cosine to zero."""
    if recipe.schedule == "constant":
        return recipe.learning_rate
    warm_up = max(1, recipe.steps // 10)
    if step < warm_up:
        return recipe.learning_rate * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, recipe.steps - warm_up)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer over all parameters that are trained."""
    options: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    return kinds[recipe.optimizer]([p for p in model.parameters() if p.requires_grad], **options)


def new_model(name: str, recipe: Recipe, seed: int, dataset: ClipDataset, **options: Any) -> Method:
    """An untrained network: initialised by the seed; its backbone, if it has one, as the recipe's pretrained one."""
    model = empty_model(name, recipe, seed, **options)
    initialise(model, seed)
    model.prepare(dataset)
    if recipe.pretrained is not None and hasattr(model, "backbone"):
        print(load_pretrained(cast(Any, model).backbone, recipe.pretrained), file=sys.stderr)
    return model


def empty_model(name: str, recipe: Recipe, seed: int, **options: Any) -> Method:
    """The network of a recipe, its weights still to be filled in.

    Of the recipe's options for networks it gets those that it knows; `options` it must know.
    """
    common = {"width": recipe.width, "norm": recipe.norm, **recipe.network}
    model = build_model(name, **{**{k: v for k, v in common.items() if accepts(name, k)}, **options})
    model.run_seed = seed
    return model


def freeze(model: Method) -> None:
    """Leave the backbone as it is: no gradients; its batch statistics are those it was trained with."""
    backbone = getattr(model, "backbone", None)
    if backbone is None:
        raise CrowdlocError(f"{type(model).__name__} has no backbone to freeze: choose a recipe that trains all of it")
    backbone.requires_grad_(False)


def keep_statistics(model: nn.Module) -> None:
    """Let batch norms use their running statistics and leave them as they are."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def train(
    model: Method,
    dataset: ClipDataset,
    recipe: Recipe,
    *,
    seed: int,
    out: Path,
    about: Mapping[str, Any] | None = None,
    maps: KeptMaps | None = None,
    progress: bool = True,
    accelerator: str = "auto",
    devices: int | str = "auto",
) -> Method:
    """Train until `recipe.steps`, from the last checkpoint in `out` if there is one; returns the trained model.

    `out` receives a checkpoint about every 30 seconds and `log.csv` (step, loss, each of its terms, learning rate,
    seconds). A checkpoint of another recipe or network is an error, never silently continued or overwritten.

    Args:
        about: what else tells this training from others (the network's name and options, where it starts from).
        maps: kept maps of the frozen backbone; without them it runs on the images.
    """
    from lightning_fabric import Fabric

    with warnings.catch_warnings():  # of SLURM being installed: who wants a training there submits it
        warnings.filterwarnings("ignore", message="The `srun` command")
        fabric = Fabric(accelerator=accelerator, devices=devices, precision=recipe.precision)  # type: ignore[arg-type]
    fabric.launch()
    identity = _identity(model, dataset, recipe, seed, about or {})
    if recipe.frozen:
        freeze(model)
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)
    wrapped, optimizer = fabric.setup(model, build_optimizer(recipe, model))
    wrapped.mark_forward_method("step_loss")
    first, path = 0, out / CHECKPOINT
    if path.exists():
        state = read_checkpoint(path, fabric.device)
        if state["identity"] != identity:
            raise CrowdlocError(f"{path} belongs to another recipe or network: choose another folder or delete it")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    batches = TrainingBatches(
        dataset,
        offsets=model.offsets,
        crop=recipe.crop,
        batch_size=recipe.batch_size,
        seed=seed,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        maps=maps,
    )
    log = Log(out / LOG, first) if fabric.is_global_zero else None
    hidden = not (progress and fabric.is_global_zero)
    wrapped.train()
    if recipe.frozen:
        cast(Any, model).backbone.eval()
    saved = started = time.monotonic()
    with tqdm(total=recipe.steps, initial=first, unit="step", disable=hidden, file=sys.stderr) as bar:
        for step, sample in batches.stream(first, recipe.steps):
            if step >= model.statistics_until * recipe.steps:
                keep_statistics(model)
            rate = learning_rate(recipe, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            terms = wrapped.step_loss(Held(_to_device(fabric, sample)), step)
            loss = sum(terms.values(), torch.zeros((), device=fabric.device))
            if recipe.loss_reduction == "sum":
                loss = loss * (sample.size[0] * sample.size[1])
            fabric.backward(loss)
            if recipe.clip_norm is not None:
                fabric.clip_gradients(wrapped, optimizer, max_norm=recipe.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            values = {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}
            numbers = {name: float(cast(Tensor, fabric.all_reduce(v, reduce_op="mean"))) for name, v in values.items()}
            if not math.isfinite(numbers["loss"]):
                message = (
                    f"the loss is {numbers['loss']} at step {step}: lower the learning rate ({recipe.learning_rate})"
                )
                raise CrowdlocError(message)
            if log is not None:
                log.write(step, numbers, rate, time.monotonic() - started)
                bar.update()
                bar.set_postfix_str(f"loss {numbers['loss']:.4f}", refresh=False)
                last = step + 1 == recipe.steps
                if last or time.monotonic() - saved > _CHECKPOINT_SECONDS:
                    log.flush()
                    write_checkpoint(path, model, optimizer, step + 1, identity)
                    saved = time.monotonic()
    return model.to(memory_format=torch.contiguous_format).eval()


def is_main_process() -> bool:
    """Whether this process is the one that evaluates and writes results."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _identity(model: Method, dataset: ClipDataset, recipe: Recipe, seed: int, about: Mapping[str, Any]) -> str:
    """What must agree for a training to be continued."""
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    data = {"name": dataset.name, "clips": len(dataset)}
    content = {"recipe": asdict(recipe), "seed": seed, "data": data, "about": dict(about), "network": str(model)}
    return json.dumps(content | {"shapes": shapes}, default=str)


def _to_device(fabric: Any, sample: Sample) -> Sample:
    images = None if sample.images is None else fabric.to_device(sample.images)
    maps = None if sample.maps is None else tuple(fabric.to_device(stage) for stage in sample.maps)
    return sample._replace(images=images, maps=maps)

"""Training spread over processes (DDP) is the training of one process with the same whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import disc_video
from safetensors.torch import load_file

from crowdloc.core.paths import ROOT
from crowdloc.models.recipes import get_preset
from crowdloc.training.log import LOG, read_log
from crowdloc.training.loop import is_main_process, new_model, train
from crowdloc.training.weights import save_weights

STEPS = 20
# Batch statistics are those of a process's own clips, so normalisation is left out.
RECIPE = get_preset("mini").with_options(
    width=1 / 32, norm="none", crop=(48, 64), batch_size=4, steps=STEPS, precision="32-true", learning_rate=2e-3
)


def run(folder: Path, devices: int) -> None:
    """Train on the clips in `folder`, which are there; writes log and weights into `folder`/DEVICES."""
    data = disc_video(folder / "data" / os.environ.get("LOCAL_RANK", "0"))
    out, model = folder / str(devices), new_model("gnanet", RECIPE, 0, data)
    random = torch.Generator().manual_seed(0)
    for kernel in (value for value in model.parameters() if value.ndim == 4):
        torch.nn.init.kaiming_normal_(kernel, generator=random)  # without normalisation nothing else learns so soon
    model = train(model, data, RECIPE, seed=0, out=out, progress=False, accelerator="cpu", devices=devices)
    if is_main_process():
        save_weights(out / "weights.safetensors", model)


def test_two_processes_have_the_losses_of_one(tmp_path):
    """Each makes every other clip of a step; gradients are averaged, and so is what the log says."""
    search = os.pathsep.join([str(ROOT), str(Path(__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(tmp_path), "2"]
    subprocess.run(command, check=True, env=environment, capture_output=True, timeout=300)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the others have: another order of summation is magnified from step to step
    try:
        run(tmp_path, 1)
    finally:
        torch.set_num_threads(threads)
    one, two = (list(read_log(tmp_path / devices / LOG)) for devices in ("1", "2"))
    assert [row["step"] for row in one] == [row["step"] for row in two] == list(range(STEPS))
    losses = [[row["loss"] for row in rows] for rows in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=0, abs=1e-4)
    assert losses[0][-1] < losses[0][0] - 0.1  # something was learned: two that stand still agree as well
    weights = [load_file(tmp_path / devices / "weights.safetensors") for devices in ("1", "2")]
    for name, value in weights[0].items():
        # AdamW divides by the root of tiny squares, which magnifies the order of summation.
        torch.testing.assert_close(value.float(), weights[1][name].float(), rtol=0.02, atol=2e-3)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))

"""Seeds of attention modules: every module, and in training every step, draws its own neighbours."""

from __future__ import annotations

import hashlib

from crowdloc.attention.checks import check_integer


def module_seed(run_seed: int, name: str, step: int | None) -> int:
    """A 63-bit seed that depends on the run, on the module's name and on the training step.

    `step` is None at test time: then every frame is treated with the same draws. The hash is BLAKE2b, so the
    value is the same on every machine and in every Python process.

    Raises:
        TypeError: the seed or the step is no integer; 1.0 and True would draw otherwise than 1.
    """
    run_seed, step = check_integer("run_seed", run_seed), None if step is None else check_integer("step", step)
    text = f"{run_seed}\0{name}\0{'test' if step is None else step}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1

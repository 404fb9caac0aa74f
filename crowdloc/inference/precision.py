"""In which floats and in which memory layout a network is run.

The front-end (`Method.encode`) is most of the work of a convolutional network. In bfloat16 its convolutions multiply in
16 bits and add up in float32; what it yields is float32 again, and all that follows (attention, head, peaks) is as it
was. On processors with bfloat16 instructions this halves its time (`crowdloc.benchmarks.streaming`). Points move by
hundredths of a pixel and scores by ten-thousandths, so now and then a detection crosses the threshold: evaluation,
calibration and everything stored are in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crowdloc.core.errors import CrowdlocError
from crowdloc.models import Maps, Method

PRECISIONS = ("auto", "fp32", "bf16")
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def choose(precision: str) -> str:
    """ "fp32" or "bf16": "auto" is bf16 where the processor has instructions for it; CrowdlocError for other names."""
    if precision not in PRECISIONS:
        raise CrowdlocError(f"precision {precision!r} is unknown: choose one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    return "bf16" if has_bf16() else "fp32"


def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; False where PyTorch cannot tell."""
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name) for name in _INSTRUCTIONS)


def prepared(method: Method) -> Method:
    """The method itself, in evaluation mode and with the memory layout in which a CPU runs convolutions fastest.

    Channels last: the stored RAZNet is 1.6 times as fast so (`crowdloc.benchmarks.streaming`); its maps differ by
    float32's rounding, 5e-6.
    """
    return method.eval().to(memory_format=torch.channels_last)


def encode_in(precision: str, method: Method, images: Tensor) -> Maps:
    """`method.encode` of normalised images (n, 3, h, w) in "fp32" or "bf16"; maps are float32 either way."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        maps = method.encode(images)
    return tuple(stage.float() for stage in maps)

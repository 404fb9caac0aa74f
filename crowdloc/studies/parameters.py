"""Parameters that a notebook has because all have them, and cannot use: refused, never ignored."""

from __future__ import annotations

from crowdloc.core.errors import CrowdlocError


def only(reason: str, **parameters: tuple[object, object]) -> None:
    """Refuse values other than the one that a notebook takes: `only("nothing is trained here", seed=(seed, 0))`.

    Raises:
        CrowdlocError: a value differs; it names the parameter and the reason.
    """
    for name, (given, taken) in parameters.items():
        if given != taken:
            raise CrowdlocError(f"{name}={given!r}: this notebook takes only {taken!r} ({reason}): leave it out")

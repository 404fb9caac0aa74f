"""Threshold tables that turn 32 random bits into a draw from the discrete Gaussian, the same on every machine.

A query sits on a grid cell p, so round(p + N(0, γ²)) = p + D, where D is an integer with
P(D ≤ d) = Φ((d + ½) / γ). Counting the thresholds t_j = round(2³² Φ((j − K + ½) / γ)) that do not exceed a
uniform 32-bit r draws D + K exactly, up to the rounding of the probabilities to multiples of 2⁻³².
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import lru_cache

MAX_GAMMA = 1024.0
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")


@lru_cache(maxsize=256)
def thresholds(gamma: float) -> tuple[int, ...]:
    """The 2K thresholds of one axis, increasing, each in 1 … 2³² − 1; empty when γ is so small that D is always 0.

    Computed in decimal arithmetic, because the last bit of a library's erf differs between machines.
    """
    upper: list[int] = []
    with localcontext() as context:
        context.prec = 50
        while gamma > 0:
            z = (len(upper) + Decimal("0.5")) / Decimal(gamma)
            # beyond z = 7 the tail, 1.3e-12, is less than half of 2^-32
            t = 2**32 if z > 7 else round(2**32 * _normal_cdf(z))
            if t == 2**32:
                break
            upper.append(t)
    return tuple(2**32 - t for t in reversed(upper)) + tuple(upper)


def _normal_cdf(z: Decimal) -> Decimal:
    """Φ(z) for 0 ≤ z ≤ 7 by Φ = ½ + φ(z) (z + z³/3 + z⁵/(3·5) + …), whose terms are all positive."""
    term, total, n = z, z, 1
    while term > Decimal("1e-40"):
        n += 2
        term = term * z * z / n
        total += term
    return Decimal("0.5") + total * (-z * z / 2).exp() / (2 * _PI).sqrt()

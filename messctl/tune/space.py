"""The space that is searched: lists of α, V, c and the exponent, and every combination of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from messctl.errors import UsageError
from messctl.zoo import Settings

DEFAULT_V = "0.001:10:25"
DEFAULT_C = "0.02,0.05,0.1,0.2,0.5,1"


@dataclass(frozen=True, slots=True)
class Space:
    """Values to try, each at least one; a policy that has no V, c or exponent searches `alpha` alone."""

    alpha: tuple[float, ...]
    v: tuple[float, ...]
    c: tuple[float, ...]
    exponent: tuple[float, ...]

    def settings(self, base: Settings) -> tuple[Settings, ...]:
        """Return every combination as settings, alike but for these values. Raises UsageError for an impossible one."""
        if base.policy != "messplus":
            return tuple(replace(base, alpha=alpha) for alpha in self.alpha)
        return tuple(
            replace(base, alpha=alpha, v=v, c=c, exponent=exponent)
            for c in self.c
            for exponent in self.exponent
            for alpha in self.alpha
            for v in self.v
        )


def values(option: str, texts: Sequence[str]) -> tuple[float, ...]:
    """Return the numbers of `0.1,0.2`, or `LOW:HIGH:COUNT` on a logarithmic grid; each once, in order.

    Raises UsageError, naming `option`, for anything else.
    """
    found: list[float] = []
    for text in texts:
        for item in text.split(","):
            parts = item.split(":")
            try:
                found += [float(item)] if len(parts) == 1 else _logarithmic(*parts)
            except (ValueError, TypeError):
                raise UsageError(
                    f"{option} holds {item!r}; it takes numbers, as in 0.1,0.2, or LOW:HIGH:COUNT with 0 < LOW < HIGH"
                ) from None
    return tuple(dict.fromkeys(found))


def _logarithmic(low: str, high: str, count: str) -> list[float]:
    if not (0 < float(low) < float(high) < math.inf and 2 <= int(count) <= 10_000):
        raise ValueError
    # Three digits: what is written into zoo.yaml is to be read by people.
    return [float(f"{value:.3g}") for value in np.geomspace(float(low), float(high), int(count))]

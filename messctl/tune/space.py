"""The space that is searched: policies, lists of α, margins, V, c and the exponent, and every combination of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from messctl.errors import UsageError
from messctl.zoo import Settings

DEFAULT_V = "0.001:10:25"
DEFAULT_BANDIT_V = "auto,0.1,0.3,1,3"
DEFAULT_MARGIN = "0,0.005,0.01,0.02,0.05"
AUTO = "auto"
TUNED = ("messplus", "bandit")
"""The policies that have anything to tune."""
EXPLORATION = ("c", "exponent")
"""What messplus alone has."""
SEARCHED = ("policy", "alpha", "margin", "v", *EXPLORATION)
"""The settings that a search is over."""
ABSENT = {"v": AUTO, "cost_scale": AUTO, "trial_budget": "none", "features": "words", "reference": None}
"""The words for None."""
DEFAULT_C = "0.02,0.05,0.1,0.2,0.5,1"


@dataclass(frozen=True, slots=True)
class Space:
    """Values to try, each at least one: MESS+ has V, c and the exponent, the bandit a V of its own, None for `auto`."""

    alpha: tuple[float, ...]
    v: tuple[float, ...]
    c: tuple[float, ...]
    exponent: tuple[float, ...]
    policies: tuple[str, ...] = ("messplus",)
    margin: tuple[float, ...] = (0.0,)
    bandit_v: tuple[float | None, ...] = (None,)

    def settings(self, base: Settings) -> tuple[Settings, ...]:
        """Return every combination as settings, alike but for these values. Raises UsageError for an impossible one."""
        settings: list[Settings] = []
        if "messplus" in self.policies:
            settings += (
                replace(base, policy="messplus", alpha=alpha, margin=margin, v=v, c=c, exponent=exponent)
                for c in self.c
                for exponent in self.exponent
                for alpha in self.alpha
                for margin in self.margin
                for v in self.v
            )
        if "bandit" in self.policies:
            bandit = replace(base, policy="bandit")
            settings += (
                replace(bandit, alpha=alpha, margin=margin, v=v)
                for alpha in self.alpha
                for margin in self.margin
                for v in self.bandit_v
            )
        return tuple(settings)


def space_of(
    policies: Sequence[str],
    alpha: Sequence[float],
    v: Sequence[str] | None,
    c: Sequence[str] | None,
    exponent: Sequence[float],
    margin: Sequence[str] | None = None,
) -> Space:
    """Return the space of what was asked for, as text, and of the defaults for the rest.

    Raises UsageError for a policy that has nothing to tune, and for what are no values of V, c or a margin.
    """
    for policy in policies:
        if policy not in TUNED:
            raise UsageError(f"policy {policy!r} has nothing to tune; add --policy {' or '.join(TUNED)}")
    asked = [item for text in v or () for item in text.split(",")]
    numbers = values("--v", [item for item in asked if item != AUTO] if asked else [DEFAULT_V])
    if not numbers and "messplus" in policies:
        raise UsageError("--v holds 'auto' alone, and messplus finds no V by itself; give numbers, or --policy bandit")
    bandit = asked or DEFAULT_BANDIT_V.split(",")
    return Space(
        alpha=tuple(alpha),
        v=numbers,
        c=values("--c", c or [DEFAULT_C]),
        exponent=tuple(exponent),
        policies=tuple(dict.fromkeys(policies)),
        margin=values("--margin", margin or [DEFAULT_MARGIN]),
        bandit_v=(
            *((None,) if AUTO in bandit else ()),
            *values("--v", [item for item in bandit if item != AUTO]),
        ),
    )


def played(settings: Settings) -> dict[str, float | str | Path | None]:
    """Return all that a setting is played under, by the names of zoo.yaml and in its words; c is of messplus alone."""
    names = (field.name for field in fields(settings) if settings.policy == "messplus" or field.name not in EXPLORATION)
    known = ((name, getattr(settings, name)) for name in names)
    return {name: ABSENT[name] if value is None else value for name, value in known}


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

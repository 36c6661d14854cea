"""The search space: policies, lists of α, margin, V, c and exponent, and all their combinations."""

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
TUNABLE = ("messplus", "bandit")
"""The policies with settings to tune."""
SINGLE = "always"
"""The policy by which one model serves everything: a candidate with nothing to tune."""
EXPLORATION = ("c", "exponent")
"""The settings that only messplus has."""
SEARCHED = ("policy", "alpha", "margin", "v", *EXPLORATION)
"""The settings that the search varies."""
WORD_FOR_NONE = {"v": AUTO, "cost_scale": AUTO, "trial_budget": "none", "features": "words", "reference": None}
"""How zoo.yaml writes None, by key; a key with None is left out."""
DEFAULT_C = "0.02,0.05,0.1,0.2,0.5,1"


@dataclass(frozen=True, slots=True)
class Space:
    """The values to try, at least one of each.

    MESS+ has `v`, `c` and `exponent`; the bandit has `bandit_v`, with None for `auto`. Both have `alpha` and `margin`.
    A single model, `always:<model>`, has `alpha` alone.
    """

    alpha: tuple[float, ...]
    v: tuple[float, ...]
    c: tuple[float, ...]
    exponent: tuple[float, ...]
    policies: tuple[str, ...] = ("messplus",)
    margin: tuple[float, ...] = (0.0,)
    bandit_v: tuple[float | None, ...] = (None,)

    def settings(self, base: Settings) -> tuple[Settings, ...]:
        """Return `base` with every combination of the values. Raises UsageError for an impossible value."""
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
        singles = (replace(base, policy=name) for name in self.policies if name.startswith(f"{SINGLE}:"))
        settings += (replace(single, alpha=alpha, margin=0.0, v=None) for single in singles for alpha in self.alpha)
        return tuple(settings)


def parse_space(
    base: Settings,
    policies: Sequence[str] | None = None,
    *,
    alpha: Sequence[str] | None = None,
    margin: Sequence[str] | None = None,
    v: Sequence[str] | None = None,
    c: Sequence[str] | None = None,
    exponent: Sequence[str] | None = None,
) -> Space:
    """Return the search space of the options given as text.

    An α or exponent that is not given is that of `base`; the others have the defaults of this module. Raises UsageError
    for a policy without settings to tune, and for an invalid list.
    """
    policies = policies or TUNABLE
    for policy in policies:
        if policy not in TUNABLE and not policy.startswith(f"{SINGLE}:"):
            able = " or ".join((*TUNABLE, SINGLE))
            raise UsageError(f"policy {policy!r} has nothing to tune; choose --policy {able}")
    items = [item for text in v or () for item in text.split(",")]
    numbers = parse_values("--v", [item for item in items if item != AUTO] if items else [DEFAULT_V])
    if not numbers and "messplus" in policies:
        raise UsageError("--v holds only 'auto', but messplus needs a number; add numbers, or --policy bandit")
    bandit = items or DEFAULT_BANDIT_V.split(",")
    return Space(
        alpha=parse_values("--alpha", alpha) if alpha else (base.alpha,),
        v=numbers,
        c=parse_values("--c", c or [DEFAULT_C]),
        exponent=parse_values("--exponent", exponent) if exponent else (base.exponent,),
        policies=tuple(dict.fromkeys(policies)),
        margin=parse_values("--margin", margin or [DEFAULT_MARGIN]),
        bandit_v=(
            *((None,) if AUTO in bandit else ()),
            *parse_values("--v", [item for item in bandit if item != AUTO]),
        ),
    )


def zoo_values(settings: Settings) -> dict[str, float | str | Path | None]:
    """Return the settings by the keys and in the words of zoo.yaml; `c` and `exponent` for messplus only."""
    names = (field.name for field in fields(settings) if settings.policy == "messplus" or field.name not in EXPLORATION)
    known = ((name, getattr(settings, name)) for name in names)
    return {name: WORD_FOR_NONE[name] if value is None else value for name, value in known}


def parse_values(option: str, texts: Sequence[str]) -> tuple[float, ...]:
    """Return the numbers of lists such as `0.1,0.2` and of logarithmic grids `LOW:HIGH:COUNT`, each once, in order.

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
                    f"{option} holds {item!r}; give numbers such as 0.1,0.2, or LOW:HIGH:COUNT with 0 < LOW < HIGH"
                ) from None
    return tuple(dict.fromkeys(found))


def _logarithmic(low: str, high: str, count: str) -> list[float]:
    if not (0 < float(low) < float(high) < math.inf and 2 <= int(count) <= 10_000):
        raise ValueError
    # Three digits, because people read the value in zoo.yaml.
    return [float(f"{value:.3g}") for value in np.geomspace(float(low), float(high), int(count))]

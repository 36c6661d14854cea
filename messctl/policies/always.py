"""`always:<model>`: one model serves everything."""

from __future__ import annotations

import numpy as np

from messctl.errors import UnknownNameError, UsageError
from messctl.policies.base import Lottery, PolicyKind, Rounds
from messctl.zoo import Settings


def build(argument: str | None, rounds: Rounds, settings: Settings) -> Lottery:
    """Build it for the model `argument`. Raises UsageError without one, UnknownNameError if it is not in the zoo."""
    if not argument:
        raise UsageError(f"policy 'always' needs a model: always:{rounds.zoo.models[0]}")
    if argument not in rounds.zoo.models:
        raise UnknownNameError(
            "model in policy", f"always:{argument}", [f"always:{each}" for each in rounds.zoo.models]
        )
    odds = np.zeros((1, len(rounds.zoo.models)))
    odds[0, rounds.zoo.index(argument)] = 1.0
    return Lottery(f"always:{argument}", rounds, settings, odds)


POLICY = PolicyKind("always", 0, "one model serves everything", build, lambda models: models, streams=True)

"""`random`: every model is as likely as any other."""

from __future__ import annotations

import numpy as np

from messctl.policies.base import PolicyKind, Rounds
from messctl.policies.lottery import Lottery
from messctl.zoo import Settings


def build(_argument: str | None, rounds: Rounds, settings: Settings) -> Lottery:
    """Build equal odds for all models."""
    models = len(rounds.zoo.models)
    return Lottery("random", rounds, settings, np.full((1, models), 1.0 / models))


POLICY = PolicyKind("random", 10, "every model is as likely as any other", build, streams=True)

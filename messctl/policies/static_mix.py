"""`static-mix`: the cheapest fixed mixture of models that meets α, knowing every model's mean in advance.

It is the optimum of the linear program over mean cost and mean satisfaction, and mixes at most two models. If α is
above every model's mean, the best model serves everything and the promise is missed.
"""

from __future__ import annotations

from messctl.learning.frontier import cheapest_mixture
from messctl.policies.base import PolicyKind, Rounds
from messctl.policies.lottery import Lottery
from messctl.zoo import Settings


def build(_argument: str | None, rounds: Rounds, settings: Settings) -> Lottery:
    """Solve the linear program over the rounds' means."""
    cost = rounds.cost.mean(axis=0, keepdims=True)
    satisfied = rounds.satisfied.mean(axis=0, keepdims=True)
    return Lottery("static-mix", rounds, settings, cheapest_mixture(cost, satisfied, settings.alpha))


POLICY = PolicyKind("static-mix", 20, "the cheapest fixed mixture of models that meets α", build, streams=True)

"""`clairvoyant`: knows every outcome in advance. It is the floor: no policy that meets α on these requests costs less.

It is the optimum of the linear program over all requests. So that it is a floor for graded satisfaction too, a mixture
of two models may serve one single request.
"""

from __future__ import annotations

from messctl.learning.frontier import cheapest_mixture
from messctl.policies.base import PolicyKind, Rounds
from messctl.policies.lottery import Lottery
from messctl.zoo import Settings


def build(_argument: str | None, rounds: Rounds, settings: Settings) -> Lottery:
    """Solve the linear program over all requests."""
    return Lottery("clairvoyant", rounds, settings, cheapest_mixture(rounds.cost, rounds.satisfied, settings.alpha))


POLICY = PolicyKind("clairvoyant", 60, "knows every outcome: the floor", build)

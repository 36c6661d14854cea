"""`clairvoyant`: knows every outcome beforehand; the floor.

No policy that meets α on these requests costs less. To be a floor also where satisfaction is graded, one single
request may be served by a mixture of two models (the optimum of the linear program over all requests).
"""

from __future__ import annotations

from messctl.learning.frontier import cheapest_mixture
from messctl.policies.base import Lottery, PolicyKind, Rounds
from messctl.zoo import Settings


def build(_argument: str | None, rounds: Rounds, settings: Settings) -> Lottery:
    """Solve the linear program over all requests."""
    return Lottery("clairvoyant", rounds, settings, cheapest_mixture(rounds.cost, rounds.satisfied, settings.alpha))


POLICY = PolicyKind("clairvoyant", 60, "knows every outcome: the floor", build)

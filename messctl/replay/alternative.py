"""What would have done without a router: one model for everything, or a fixed mixture of two.

Both are known only afterwards, from the means over the whole trace. They tell whether a router is worth it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from messctl.display.text import plain
from messctl.learning.frontier import cheapest_mixture
from messctl.policies import kind_of
from messctl.policies.base import Floats
from messctl.replay.facts import TraceFacts
from messctl.replay.result import MET, Replay


@dataclass(frozen=True, slots=True)
class Alternative:
    """A fixed choice that keeps the promise: the share of requests by model, its attainment (0..1), its mean cost."""

    shares: Mapping[str, float]
    attained: float
    mean_cost: float

    @property
    def name(self) -> str:
        """Its models, and the share of the first one if there are two."""
        first, *others = (plain(model) for model in self.shares)
        if not others:
            return f"{first} alone"
        return f"a fixed mixture of {first} ({next(iter(self.shares.values())):.0%}) and {others[0]}"


def cheaper(facts: TraceFacts, alpha: float, cost: float) -> Alternative | None:
    """Return a fixed choice that keeps α for less than `cost` per request; None if there is none.

    The cheapest single model that does comes first, and the cheapest mixture after it.
    """
    fixed = (find(facts, alpha) for find in (cheapest_single, _mixture))
    return next((each for each in fixed if each is not None and each.mean_cost < cost), None)


def cheaper_than_router(replay: Replay) -> Alternative | None:
    """Return a fixed choice that keeps the promise for less than the judged policy; None if that is no router."""
    return cheaper(replay.facts, replay.settings.alpha, replay.judged.mean_cost) if _has_router(replay) else None


def cheapest_single(facts: TraceFacts, alpha: float) -> Alternative | None:
    """Return the cheapest model that keeps the promise alone; None if none does, or its mean is not known."""
    kept = np.flatnonzero(facts.mean_satisfied >= alpha - MET)
    if facts.partial or not len(kept):
        return None
    best = int(min(kept, key=lambda index: facts.mean_cost[index]))
    return _fixed(facts, np.eye(len(facts.zoo.models))[best])


def breaks_even_after(replay: Replay) -> int | None:
    """Return the number of requests after which the judged policy has paid for its learning.

    From there on it has cost less than the cheapest model that keeps the promise alone, under the first seed. None if
    it never does, or if no model keeps the promise, or if the requests are not all in memory.
    """
    single = cheapest_single(replay.facts, replay.settings.alpha)
    played = replay.played.get(replay.judged.policy)
    if single is None or played is None or replay.rounds is None or replay.holdout or not _has_router(replay):
        return None
    index = replay.facts.zoo.index(next(iter(single.shares)))
    ahead = np.cumsum(played.cost - replay.rounds.cost[played.order, index])
    behind = np.flatnonzero(ahead > 0)
    last = int(behind[-1]) + 1 if len(behind) else 0
    return last if last < len(ahead) else None


def _has_router(replay: Replay) -> bool:
    return not replay.facts.partial and kind_of(replay.judged.policy).learns


def _mixture(facts: TraceFacts, alpha: float) -> Alternative | None:
    """Return the cheapest fixed mixture that keeps the promise; None if none does."""
    if facts.partial:
        return None
    mixed = _fixed(facts, cheapest_mixture(facts.mean_cost[None], facts.mean_satisfied[None], alpha)[0])
    return mixed if mixed.attained >= alpha - MET else None


def _fixed(facts: TraceFacts, odds: Floats) -> Alternative:
    used = np.flatnonzero(odds)
    shares = {facts.zoo.models[index]: float(odds[index]) for index in used}
    attained, cost = (float(odds[used] @ means[used]) for means in (facts.mean_satisfied, facts.mean_cost))
    return Alternative(shares, attained, cost)

"""What a second look would save: the chosen router is played again, and may ask several models for one request."""

from __future__ import annotations

from dataclasses import dataclass, replace

from messctl.errors import UsageError
from messctl.replay.loading import Recording
from messctl.replay.play import replay
from messctl.replay.result import MET, Conditions, Result
from messctl.tune.choice import Choice
from messctl.tune.search import Search
from messctl.tune.space import SINGLE
from messctl.zoo import Settings

ASKS = 3
"""How many models a second look may ask."""
MOST_SEEDS = 3
"""Both plays are under so many of the search's seeds at most, since a second look takes long to play."""
WORTH_IT = 0.05
"""[share of the cost] If a second look saves less, or no more than differs between seeds, it is not named."""
LEAST_ASKS = 1.1
"""[models per request] If fewer are asked, it is not the second look that saves."""


@dataclass(frozen=True, slots=True)
class SecondLook:
    """What asking up to `asks` models saves on one trace, as a share > 0 of the cost, with α kept as well."""

    asks: int
    saved: float

    @property
    def words(self) -> str:
        """What there is to say, in one line."""
        return f"a second look would save {self.saved:.0%}: asks: {self.asks}"


def second_looks(found: Search, choice: Choice) -> tuple[SecondLook | None, ...]:
    """Return, by trace, what a second look would save; None if that is nothing, or the trace has no answers.

    The bandit is played with the chosen margin and V, or its own V if another policy was chosen.
    """
    trial = choice.chosen
    if trial is None or found.interrupted or trial.settings.asks > 1 or trial.settings.policy.startswith(SINGLE):
        return (None,) * len(found.traces)
    conditions = replace(found.conditions, seeds=min(MOST_SEEDS, choice.seeds))
    return tuple(_second_look(trace, trial.settings, conditions) for trace in found.traces)


def _second_look(trace: Recording, settings: Settings, conditions: Conditions) -> SecondLook | None:
    if trace.rounds.answers is None:
        return None
    bandit = settings if settings.policy == "bandit" else replace(settings, policy="bandit", v=None)
    try:
        once = _played(trace, settings, conditions)
        looking = _played(trace, replace(bandit, asks=ASKS), conditions)
    except UsageError:  # no policy can reach α
        return None
    kept = (looking.attained or 0.0) >= min(settings.alpha, once.attained or 0.0) - MET
    saved = 1.0 - looking.mean_cost / once.mean_cost if once.mean_cost > 0.0 else 0.0
    chance = (once.mean_cost_spread or 0.0) + (looking.mean_cost_spread or 0.0)
    is_clear = looking.asks >= LEAST_ASKS and saved >= WORTH_IT and once.mean_cost - looking.mean_cost > chance
    return SecondLook(ASKS, saved) if kept and is_clear else None


def _played(trace: Recording, settings: Settings, conditions: Conditions) -> Result:
    return replay(trace, [settings.policy], settings, conditions).results[0]

"""Loads: what it costs to load a model, and when a model that is not loaded is worth it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from messctl.records import SURCHARGE, Decision
from messctl.zoo import ModelSpec


@dataclass(slots=True)
class _Load:
    """What is known of one model's loads: their mean cost, and the regret for having gone without it."""

    mean_cost: float = 0.0
    count: int = 0
    regret: float = 0.0


class Loads:
    """What loading costs, in the unit of the costs: as stated per load (`cost.load`), measured, or seconds × `watts`.

    Without any of these, loads are not counted, and weigh nothing. What is not stated is the mean of this process's
    loads; before the first it is 0, as the mean cost of a model that was never asked: it looks free, and so gets tried.

    When to load is the question of rent or buy (ski rental; Karlin, Manasse, Rudolph and Sleator 1988). Nobody knows
    how many of the next requests a cold model would serve best, so its surcharge is what a load costs, L, less the
    regret R: what was lost since it last answered, by the policy's own weighing, on requests that it would have served
    had it been loaded. R never exceeds L, since a request is served without it only where that loses less than L − R;
    and once R has come to L, the next request that is best served by it loads it. Who knows the future pays, for what
    happens up to that load, either R or L, and this at most twice as much. Prompts that alternate do not thrash: before
    every load, as much was lost without it.

    A promise is safe from all this: no surcharge exceeds L, while debt raises the price of satisfaction without bound
    (λ of the bandit, Q of MESS+), and with it what is lost by a model that satisfies less.
    """

    def __init__(self, watts: float | None = None) -> None:
        self._watts = watts
        self._known: dict[str, _Load] = {}

    def with_meter(self, source: str) -> str:
        """Return a meter's source, and that of the loads where they are counted by the seconds they take."""
        return source if self._watts is None else f"{source}; loads: seconds × {self._watts:g} W"

    def cost(self, model: ModelSpec, load_s: float) -> float:
        """Return what a load of `load_s` ≥ 0 seconds cost; 0 s: there was none."""
        if load_s <= 0.0:
            return 0.0
        if model.cost is not None:
            return model.cost.load or 0.0
        return (self._watts or 0.0) * load_s

    def observe(self, model: ModelSpec, cost: float, load_s: float) -> None:
        """Take in that a model answered, after a load of `load_s` seconds that cost so much; 0 s: it was loaded."""
        known = self._known.setdefault(model.name, _Load())
        known.regret = 0.0
        if load_s > 0.0:
            known.count += 1
            known.mean_cost += (cost - known.mean_cost) / known.count

    def surcharge(self, cold: Iterable[ModelSpec]) -> Mapping[str, float]:
        """Return what serving by each of these models, none of them loaded, costs beyond its answer, where > 0."""
        extra = {}
        for model in cold:
            known = self._known.get(model.name, _Load())
            stated = None if model.cost is None else model.cost.load
            more = (known.mean_cost if stated is None else stated) - known.regret
            if more > 0.0:
                extra[model.name] = more
        return extra

    def regret(self, decision: Decision) -> None:
        """Take in a decision: what was lost by it, since the model was not loaded that would have been served."""
        wanted, lost = _lost(decision)
        if lost > 0.0:
            self._known.setdefault(wanted, _Load()).regret += lost


def _lost(decision: Decision) -> tuple[str, float]:
    """Return which model would have been served, were all loaded, and what was lost by serving another.

    Nothing is where the choice was not by weighing, as when exploring.
    """
    surcharge, weighed, served = decision.request.surcharge, decision.weighed, decision.served
    extra = {} if weighed is None else weighed.terms.get(SURCHARGE, {})
    if decision.explored or weighed is None or not any(extra.values()):
        return served, 0.0
    askable = sorted(set(extra) - decision.request.excluded) or sorted(extra)
    total = {model: sum(term[model] for term in weighed.terms.values()) for model in askable}
    wanted = min(askable, key=lambda model: total[model] - extra[model])
    by_weighing = total.get(served) == min(total.values())
    if wanted == served or not by_weighing or not extra[wanted]:
        return served, 0.0
    # The policy weighs costs in a unit of its own, in which the surcharge is known, too.
    unit = surcharge[wanted] / extra[wanted]
    return wanted, max(0.0, (total[served] - (total[wanted] - extra[wanted])) * unit)

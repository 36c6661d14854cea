"""The cost of loading a model, and when a model that is not loaded is worth it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from messctl.records import SURCHARGE, Decision
from messctl.zoo import ModelSpec


@dataclass(slots=True)
class _Load:
    """One model's loads: their mean cost, and the regret for not having loaded it."""

    mean_cost: float = 0.0
    count: int = 0
    regret: float = 0.0


class Loads:
    """The costs of loads, in the unit of all costs: stated per load (`cost.load`), measured, or seconds × `watts`.

    If none of these is known, a load costs nothing. A cost that is not stated is the mean over this process's loads.
    Before the first load it is 0: the model looks free, and so it is tried.

    When to load a model is the rent-or-buy problem (ski rental; Karlin, Manasse, Rudolph and Sleator 1988). Nobody
    knows how many of the next requests a cold model would serve best. Its surcharge is therefore L − R. L is the cost
    of a load. R is the regret: what was lost since the model last answered, on requests that it would have served if
    it had been loaded, by the policy's own weights. R never exceeds L: a request is served without the model only if
    that loses less than L − R. Once R reaches L, the next request that the model serves best loads it.

    Up to that load, a router that knows the future pays R or L; this one pays at most twice as much. Alternating
    prompts do not thrash, because as much as a load costs was lost before every load.

    The promise is not in danger. No surcharge exceeds L, but debt raises the price of satisfaction without bound (λ of
    the bandit, Q of MESS+), and so raises the loss by a model that satisfies less.
    """

    def __init__(self, watts: float | None = None) -> None:
        self._watts = watts
        self._known: dict[str, _Load] = {}

    def with_meter(self, source: str) -> str:
        """Return a meter's source, with the source of load costs added if these are seconds × watts."""
        return source if self._watts is None else f"{source}; loads: seconds × {self._watts:g} W"

    def cost(self, model: ModelSpec, load_s: float) -> float:
        """Return the cost of a load that took `load_s` ≥ 0 seconds; 0 s means that there was none."""
        if load_s <= 0.0:
            return 0.0
        if model.cost is not None:
            return model.cost.load or 0.0
        return (self._watts or 0.0) * load_s

    def observe(self, model: ModelSpec, cost: float, load_s: float) -> None:
        """Learn that a model answered, after a load of this cost and `load_s` seconds; 0 s means that it was loaded."""
        known = self._known.setdefault(model.name, _Load())
        known.regret = 0.0
        if load_s > 0.0:
            known.count += 1
            known.mean_cost += (cost - known.mean_cost) / known.count

    def surcharge(self, cold: Iterable[ModelSpec]) -> Mapping[str, float]:
        """Return the surcharge of each of these models, which are not loaded. Surcharges of 0 are left out."""
        extra = {}
        for model in cold:
            known = self._known.get(model.name, _Load())
            stated = None if model.cost is None else model.cost.load
            more = (known.mean_cost if stated is None else stated) - known.regret
            if more > 0.0:
                extra[model.name] = more
        return extra

    def add_regret(self, decision: Decision) -> None:
        """Learn what a decision lost, because the model that would have served was not loaded."""
        wanted, lost = _lost(decision)
        if lost > 0.0:
            self._known.setdefault(wanted, _Load()).regret += lost


def _lost(decision: Decision) -> tuple[str, float]:
    """Return which model would have served if all were loaded, and the loss of serving another one.

    The loss is 0 if the choice was not made by weighing, for example when exploring.
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
    # The policy weighs costs in a unit of its own. The surcharge is known in both units.
    unit = surcharge[wanted] / extra[wanted]
    return wanted, max(0.0, (total[served] - (total[wanted] - extra[wanted])) * unit)

"""Loads: what it costs to load a model, and when a model that is not loaded is worth it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from messctl.records import Decision
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

    When to load is the question of rent or buy. A request served by a loaded model, where another would have been
    chosen were it loaded, is regretted by what the policy would have gained; a model's surcharge is the cost of its
    load less the regret since it was last loaded. So a model is loaded once doing without has cost as much as loading
    it: at most twice what the best choice in hindsight pays for the two (the ski-rental rule of Karlin et al. 1988),
    and no model that the policy goes on wanting is kept out, however dear its load.
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

    def regret(self, decision: Decision, free: Decision) -> None:
        """Take in what was decided, and what would have been were all models loaded."""
        surcharge = decision.request.surcharge
        more = surcharge.get(free.served, 0.0)
        if free.served == decision.served or more <= 0.0 or decision.weighed is None or free.weighed is None:
            return
        weighed = {name: _total(free, name) for name in (free.served, decision.served)}
        per_cost = (_total(decision, free.served) - weighed[free.served]) / more  # what weighs a unit of cost
        if per_cost > 0.0:
            gain = (weighed[decision.served] - weighed[free.served]) / per_cost
            self._known.setdefault(free.served, _Load()).regret += max(0.0, gain)


def _total(decision: Decision, model: str) -> float:
    """Return what a model weighed."""
    return sum(term.get(model, 0.0) for term in decision.weighed.terms.values()) if decision.weighed else 0.0

"""A backend whose completions say what they cost: a meter runs while a model answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from messctl.backends.base import Backend, OnText, resident
from messctl.costs.load_costs import Loads
from messctl.costs.meter import Meter
from messctl.errors import BackendError
from messctl.records import Completion, Cost, Question
from messctl.zoo import ModelSpec


@dataclass(frozen=True, slots=True)
class MeteredBackend:
    """`backend`, with `meter` running whenever a model answers; what loading it took is part of the cost.

    A meter that measures has the load in what it measured, of which it is taken to have its share of the time. Where
    costs follow from tokens, `loads` knows what a load costs; without it, loads are not counted there.
    """

    backend: Backend
    meter: Meter
    loads: Loads | None = None

    def complete(self, model: ModelSpec, question: Question, on_text: OnText | None = None) -> Completion:
        """Return the model's answer with its cost. Raises BackendError, also where the cost cannot be known."""
        with self.meter.measuring() as reading:
            completion = self.backend.complete(model, question, on_text)
        return replace(completion, cost=self._with_load(model, completion, reading.cost(model, completion)))

    def _with_load(self, model: ModelSpec, completion: Completion, cost: Cost) -> Cost:
        load_s = completion.load_s
        if self.meter.includes_loads:
            load = cost.amount * load_s / (load_s + completion.latency_s) if load_s > 0.0 else 0.0
            cost = replace(cost, load=load)
        elif self.loads is not None:
            load = self.loads.cost(model, load_s)
            cost = replace(cost, amount=cost.amount + load, load=load)
        if self.loads is not None:
            self.loads.observe(model, cost.load, load_s)
        return cost

    def resident(self, model: ModelSpec) -> bool:
        """Whether a model would answer without being loaded."""
        return resident(self.backend, model)

    def close(self) -> None:
        """Let go of all models."""
        self.backend.close()


def cost_of(completion: Completion) -> Cost:
    """Return what a completion of a `MeteredBackend` backend cost. Raises BackendError for another's."""
    if completion.cost is None:
        raise BackendError(f"model {completion.model!r}: no meter was running, so the cost of its answer is unknown")
    return completion.cost

"""A backend whose completions carry their cost: a meter runs while a model answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from messctl.backends.base import Backend, OnText, resident
from messctl.costs.load_costs import Loads
from messctl.costs.meter import Meter
from messctl.errors import BackendError
from messctl.records import Completion, Cost, Outcome, Question
from messctl.zoo import ModelSpec


@dataclass(frozen=True, slots=True)
class MeteredBackend:
    """`backend`, with `meter` running whenever a model answers. Loading the model is part of the cost.

    A meter that measures (`includes_loads`) has measured the load too: its part of the cost is its part of the time.
    For a meter that counts tokens, `loads` returns the cost of a load; without `loads`, a load costs nothing.
    """

    backend: Backend
    meter: Meter
    loads: Loads | None = None

    def complete(
        self,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
    ) -> Completion:
        """Return the model's answer with its cost. Raises BackendError, also if the cost is unknown."""
        with self.meter.measuring() as reading:
            completion = self.backend.complete(model, question, on_text, on_thinking)
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
        """Return whether a model is loaded already."""
        return resident(self.backend, model)

    def close(self) -> None:
        """Unload all models."""
        self.backend.close()


def outcome_of(completion: Completion) -> Outcome:
    """Return the outcome of a completion that is not graded. Raises BackendError as `cost_of` does.

    Its cost includes the load.
    """
    cost = cost_of(completion)
    return Outcome(
        satisfied=None,
        cost=cost.amount,
        latency_s=completion.latency_s,
        tokens_in=completion.tokens_in,
        tokens_out=completion.tokens_out,
        answer=completion.answer or completion.calls,
        logprob=completion.logprob,
        cost_quality=cost.quality,
        finish=completion.finish,
        thinking=completion.thinking or None,
    )


def cost_of(completion: Completion) -> Cost:
    """Return the cost of a completion. Raises BackendError if it does not come from a `MeteredBackend`."""
    if completion.cost is None:
        raise BackendError(f"model {completion.model!r}: no meter was running, so the cost of its answer is unknown")
    return completion.cost

"""A backend whose completions say what they cost: a meter runs while a model answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from messctl.backends.base import Backend, OnText
from messctl.errors import BackendError
from messctl.meters import Meter
from messctl.records import Completion, Cost, Question
from messctl.zoo import ModelSpec


@dataclass(frozen=True, slots=True)
class Metered:
    """`backend`, with `meter` running whenever a model answers; what loading it took is part of the cost."""

    backend: Backend
    meter: Meter

    def complete(self, model: ModelSpec, question: Question, on_text: OnText | None = None) -> Completion:
        """Return the model's answer with its cost. Raises BackendError, also where the cost cannot be known."""
        with self.meter.measuring() as reading:
            completion = self.backend.complete(model, question, on_text)
        return replace(completion, cost=reading.cost(model, completion))

    def close(self) -> None:
        """Let go of all models."""
        self.backend.close()


def paid(completion: Completion) -> Cost:
    """Return what a completion of a `Metered` backend cost. Raises BackendError for another's."""
    if completion.cost is None:
        raise BackendError(f"model {completion.model!r}: no meter was running, so the cost of its answer is unknown")
    return completion.cost

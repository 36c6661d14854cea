"""A conversation that has outgrown a model's context: it goes on, without its oldest turns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import accumulate

from messctl.backends.base import Backend, OnText, resident
from messctl.backends.llama_cpp import OnWarning
from messctl.errors import PromptTooLongError
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec

_CAUTION = 0.5  # of the excess is dropped at once, since a token here has more characters than one there


@dataclass(frozen=True, slots=True)
class LatestTurns:
    """Has `backend` answer with as many of the latest turns as the model's context holds, each model by its own.

    `on_warning` hears once per model that it no longer sees the whole conversation. Serves one conversation, whose
    history grows at its end: what a model could not hold once, it is not given again.
    """

    backend: Backend
    on_warning: OnWarning
    _dropped: dict[str, int] = field(default_factory=dict)

    def complete(self, model: ModelSpec, question: Question, on_text: OnText | None = None) -> Completion:
        """Return the model's answer. Raises BackendError, PromptTooLongError where the question itself is too long."""
        while True:
            dropped = min(self._dropped.get(model.name, 0), len(question.history))
            latest = replace(question, history=question.history[dropped:])
            try:
                return self.backend.complete(model, latest, on_text)
            except PromptTooLongError as error:
                if not latest.history:
                    raise
                if not dropped:
                    self.on_warning(
                        f"the conversation is longer than the context of model {model.name!r}: it no longer sees "
                        "the oldest turns"
                    )
                self._dropped[model.name] = dropped + _fewer(latest, error.excess)

    def resident(self, model: ModelSpec) -> bool:
        """Whether a model would answer without being loaded."""
        return resident(self.backend, model)

    def close(self) -> None:
        """Close the backend."""
        self.backend.close()


def _fewer(question: Question, excess: float) -> int:
    """Return how many turns to drop, ≥ 1: not more than have to go, and so that few attempts are needed."""
    sizes = [len(asked) + len(answered) for asked, answered in question.history]
    most = _CAUTION * excess * (sum(sizes) + len(question.prompt) + len(question.system or ""))
    return max(1, sum(size <= most for size in accumulate(sizes)))

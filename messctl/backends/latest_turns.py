"""A conversation that is longer than a model's context goes on without its oldest turns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import accumulate

from messctl.backends.base import Backend, OnText, resident
from messctl.backends.llama_cpp import OnWarning
from messctl.errors import PromptTooLongError
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec

_SHARE_DROPPED = 0.5  # of the excess at once: characters per token differ, and all of it may be too much


@dataclass(frozen=True, slots=True)
class LatestTurns:
    """Makes `backend` answer with the latest turns that fit into the model's context; each model by its own context.

    `on_warning` gets one line per model when that no longer sees the whole conversation. An instance serves one
    conversation, which only grows: turns that did not fit once are not tried again.
    """

    backend: Backend
    on_warning: OnWarning
    _dropped: dict[str, int] = field(default_factory=dict)

    def complete(
        self,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
    ) -> Completion:
        """Return the model's answer. Raises BackendError, PromptTooLongError if the question alone is too long."""
        while True:
            dropped = min(self._dropped.get(model.name, 0), len(question.history))
            latest = replace(question, history=question.history[dropped:])
            try:
                return self.backend.complete(model, latest, on_text, on_thinking)
            except PromptTooLongError as error:
                if not latest.history:
                    raise
                if not dropped:
                    self.on_warning(
                        f"the conversation is longer than the context of model {model.name!r}: it no longer sees "
                        "the oldest turns"
                    )
                self._dropped[model.name] = dropped + _turns_to_drop(latest, error.excess)

    def resident(self, model: ModelSpec) -> bool:
        """Return whether a model can answer without being loaded."""
        return resident(self.backend, model)

    def close(self) -> None:
        """Close the backend."""
        self.backend.close()


def _turns_to_drop(question: Question, excess: float) -> int:
    """Return how many turns to drop, ≥ 1: few enough to keep what fits, and enough to need few attempts."""
    sizes = [len(prompt) + len(answer) for prompt, answer in question.history]
    most = _SHARE_DROPPED * excess * (sum(sizes) + len(question.prompt) + len(question.system or ""))
    return max(1, sum(size <= most for size in accumulate(sizes)))

"""The interface of a backend, which makes one model answer one question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from messctl.records import Completion, Question
from messctl.zoo import ModelSpec

OnText = Callable[[str], None]
"""Receives an answer piece by piece as it is generated; a piece holds whole characters only."""


class Backend(Protocol):
    """Runs models. It maps every exception of the library beneath it to `messctl.errors.BackendError`."""

    def complete(
        self,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
    ) -> Completion:
        """Return the model's answer; load the model first if it is not loaded.

        `on_text` gets the answer as it comes, and `on_thinking` what the model thinks before it.

        Raises BackendError, and PromptTooLongError if a question with a shorter history may fit.
        """

    def close(self) -> None:
        """Free all models."""


def resident(backend: Backend, model: ModelSpec) -> bool:
    """Return whether a model can answer without being loaded; always true for a backend that loads none."""
    of_backend = getattr(backend, "resident", None)
    return of_backend is None or bool(of_backend(model))

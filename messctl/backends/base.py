"""What a backend is: a transport that has one model answer one question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from messctl.records import Completion, Question
from messctl.zoo import ModelSpec

OnText = Callable[[str], None]
"""Hears an answer piece by piece, as it comes; whole characters only."""


class Backend(Protocol):
    """Runs models. Whatever it is built on, its exceptions are mapped to `messctl.errors.BackendError`."""

    def complete(self, model: ModelSpec, question: Question, on_text: OnText | None = None) -> Completion:
        """Return the model's answer; loads the model where it is not loaded yet.

        Raises BackendError, and PromptTooLongError where a question with less history might fit.
        """

    def close(self) -> None:
        """Let go of all models."""


@runtime_checkable
class KeepsModels(Protocol):
    """A backend that loads models, and knows which are loaded now."""

    def resident(self, model: ModelSpec) -> bool:
        """Whether a model is in memory, so that it would answer without being loaded."""


def resident(backend: Backend, model: ModelSpec) -> bool:
    """Whether a model would answer without being loaded; of a backend that does not tell, all models would."""
    return not isinstance(backend, KeepsModels) or backend.resident(model)

"""A zoo's models, wherever they are: files run in this process, urls asked over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from messctl.backends.base import Backend, OnText, resident
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Has `files` run the models that have a path, and `servers` ask for those that have a url."""

    files: Backend
    servers: Backend

    def complete(self, model: ModelSpec, question: Question, on_text: OnText | None = None) -> Completion:
        """Return the model's answer, from wherever it is. Raises BackendError."""
        backend = self.files if model.url is None else self.servers
        return backend.complete(model, question, on_text)

    def resident(self, model: ModelSpec) -> bool:
        """Whether a model would answer without being loaded."""
        return model.url is not None or resident(self.files, model)

    def close(self) -> None:
        """Close both."""
        self.files.close()
        self.servers.close()

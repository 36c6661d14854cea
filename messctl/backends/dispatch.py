"""All models of a zoo behind one backend: files run in this process, urls are requested over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from messctl.backends.base import Backend, OnText, resident
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Sends a question to `files` if its model has a path, and to `servers` if it has a url."""

    files: Backend
    servers: Backend

    def complete(
        self,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
    ) -> Completion:
        """Return the model's answer. Raises BackendError."""
        backend = self.files if model.url is None else self.servers
        return backend.complete(model, question, on_text, on_thinking)

    def resident(self, model: ModelSpec) -> bool:
        """Return whether a model can answer without being loaded; true for every model at a server."""
        return model.url is not None or resident(self.files, model)

    def close(self) -> None:
        """Close both backends."""
        self.files.close()
        self.servers.close()

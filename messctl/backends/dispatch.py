"""A zoo's models, wherever they are: files run in this process or in one of their own, urls asked over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from messctl.backends.base import Backend, OnText
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Has `files` run the models that have a path, and `servers` ask for those that have a url.

    Models that are to be isolated go to `isolated`, where there is one.
    """

    files: Backend
    servers: Backend
    isolated: Backend | None = None

    def complete(self, model: ModelSpec, question: Question, on_text: OnText | None = None) -> Completion:
        """Return the model's answer, from wherever it is. Raises BackendError."""
        return self._backend(model).complete(model, question, on_text)

    def close(self) -> None:
        """Close them all."""
        self.files.close()
        self.servers.close()
        if self.isolated is not None:
            self.isolated.close()

    def _backend(self, model: ModelSpec) -> Backend:
        if model.url is not None:
            return self.servers
        return self.isolated if model.isolate and self.isolated is not None else self.files

"""All models of a zoo behind one backend: files run in this process, urls are requested over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable

from messctl.backends.base import Backend, OnText, resident
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec


class Dispatch:
    """Sends a question to the backend of files if its model has a path, and to that of servers if it has a url.

    `files` and `servers` make these backends, each when it is first needed. Thread-safe.
    """

    def __init__(self, files: Callable[[], Backend], servers: Callable[[], Backend]) -> None:
        self._make = {"files": files, "servers": servers}
        self._made: dict[str, Backend] = {}
        self._making = threading.Lock()

    def complete(
        self,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
    ) -> Completion:
        """Return the model's answer. Raises BackendError."""
        backend = self._backend("files" if model.url is None else "servers")
        return backend.complete(model, question, on_text, on_thinking)

    def resident(self, model: ModelSpec) -> bool:
        """Return whether a model can answer without being loaded; true for every model at a server."""
        return model.url is not None or resident(self._backend("files"), model)

    def close(self) -> None:
        """Close the backends that were made; may be called twice."""
        for backend in self._made.values():
            backend.close()

    def _backend(self, kind: str) -> Backend:
        with self._making:
            if kind not in self._made:
                self._made[kind] = self._make[kind]()
            return self._made[kind]

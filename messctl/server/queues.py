"""Queues: a model in this process answers one request after the other, and a limited number may wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from messctl.backends.base import Backend, OnText, resident
from messctl.display.text import plain
from messctl.errors import BusyError
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec

POLL_S = 0.05
"""How soon a waiting request notices that its client has left."""


class Queues:
    """A backend before which requests to a model in this process wait in line: `most` beside the one it answers.

    A request whose client leaves gives up its place. Models at servers have no queue. Thread-safe.
    """

    def __init__(self, backend: Backend, most: int) -> None:
        self._backend = backend
        self._most = most
        self._turns: dict[str, list[object]] = {}
        self._changed = threading.Condition()

    def complete(
        self,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
    ) -> Completion:
        """Return the model's answer, after those who came before. Raises BackendError, BusyError if too many wait."""
        if model.url is not None:
            return self._backend.complete(model, question, on_text, on_thinking)
        with self._turn(model.name, question):
            return self._backend.complete(model, question, on_text, on_thinking)

    def full(self) -> Iterable[str]:
        """Return the models for which as many requests wait as may."""
        with self._changed:
            return [name for name, line in self._turns.items() if len(line) > self._most]

    def waiting(self) -> dict[str, int]:
        """Return, by model, how many requests wait or are being answered."""
        with self._changed:
            return {name: len(line) for name, line in self._turns.items()}

    def resident(self, model: ModelSpec) -> bool:
        """Return whether a model can answer without being loaded."""
        return resident(self._backend, model)

    def close(self) -> None:
        """Close the backend."""
        self._backend.close()

    @contextmanager
    def _turn(self, name: str, question: Question) -> Iterator[None]:
        """Wait for the model, in the order of arrival."""
        ticket = object()
        with self._changed:
            line = self._turns.setdefault(name, [])
            if len(line) > self._most:
                raise BusyError(f"model {plain(repr(name))} has {len(line) - 1} waiting requests, as many as it may")
            line.append(ticket)
        try:
            with self._changed:
                while line[0] is not ticket:
                    self._changed.wait(POLL_S if question.recipient is not None else None)
                    if question.recipient is not None:
                        question.recipient.check()
            yield
        finally:
            with self._changed:
                line.remove(ticket)
                self._changed.notify_all()

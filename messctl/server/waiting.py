"""A client that waits for an answer, between the thread in which the router answers and the loop that sends.

The thread puts what happens, the loop takes it. If the client leaves, the thread notices at the next token, and a
connection to a model's server is cut at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from messctl.live.router import Answered
from messctl.records import Decision, LeftError
from messctl.server.metrics import MeasuredRequest


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer, or of what the model thinks before it."""

    text: str
    thinking: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """What comes beside the text: a choice of a streamed answer, or the counts of tokens."""

    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is complete."""

    answered: Answered


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no answer, or no more of it."""

    error: BaseException


Event = Text | Part | Done | Failed


class WaitingClient:
    """A client that waits for an answer: a `Recipient`.

    Make it in the event loop; `take`, `text` and so on are for the thread that answers.

    If it `streams`, it sees each piece as it comes. Otherwise the pieces of a model that breaks off are forgotten, and
    another one may answer. `model` is the one that answers, or was asked last. `measured` counts what happens.
    """

    def __init__(self, *, streams: bool) -> None:
        self.streams = streams
        self.model: str | None = None
        self.measured: MeasuredRequest | None = None
        self.parts: list[Mapping[str, Any]] = []
        self._shown = False
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._left = threading.Event()
        self._lock = threading.Lock()
        self._cut: Callable[[], None] | None = None

    @property
    def shown(self) -> bool:
        """Whether the client has seen a part of the answer."""
        return self._shown

    def check(self) -> None:
        """Raise LeftError if the client has left."""
        if self._left.is_set():
            raise LeftError

    @contextmanager
    def cutting(self, cut: Callable[[], None]) -> Iterator[None]:
        """Call `cut` if the client leaves within the block, or has left."""
        with self._lock:
            self._cut = cut
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._cut = None
            self.check()

    def decided(self, decision: Decision) -> None:
        """Note which model is asked now; what another one sent is forgotten."""
        self.check()
        if self.measured:
            self.measured.decided(decision)
        self.model = decision.served
        self.parts.clear()

    def text(self, text: str) -> None:
        """Take a piece of the answer."""
        self.check()
        self._put(Text(text))

    def thinking(self, text: str) -> None:
        """Take a piece of what the model thinks."""
        self.check()
        if self.streams:
            self._put(Text(text, thinking=True), shows=False)

    def take(self, part: Mapping[str, Any]) -> None:
        """Take what is no text."""
        self.check()
        self.parts.append(part)
        if self.streams:
            self._put(Part(part), shows="usage" not in part)

    def end(self, event: Done | Failed) -> None:
        """Note how it ended."""
        if self.measured and isinstance(event, Done):
            self.measured.answered(event.answered)
        elif self.measured and isinstance(event, Failed):
            self.measured.failed(event.error)
        self._put(event, shows=False)

    def leave(self) -> None:
        """Note that the client has left; from the loop, or any thread."""
        self._left.set()
        with self._lock:
            if self._cut is not None:
                self._cut()

    async def next(self, within_s: float | None = None) -> Event | None:
        """Return what happens next; None if nothing happens within a number of seconds."""
        try:
            return self._events.get_nowait()
        except asyncio.QueueEmpty:
            pass
        try:
            async with asyncio.timeout(within_s):
                return await self._events.get()
        except TimeoutError:
            return None

    def _put(self, event: Event, *, shows: bool = True) -> None:
        if shows and self.streams:
            self._shown = True
            if self.measured:
                self.measured.token()
        with suppress(RuntimeError):  # the loop is closed: the server has stopped
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

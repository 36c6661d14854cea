"""The clock that ends a request to a server, whatever the server does.

A limit on silence is not enough: a server that sends a byte now and then, an endless header or a stream without an end
is never silent. When the time is up, the connection is cut, and what waits for it fails at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STEP_S = 0.02
"""How exactly deadlines are kept, in seconds."""


class Deadline:
    """A point in time, `seconds` after now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """The seconds that are left, ≥ 0."""
        return max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return self.left_s == 0.0

    @contextmanager
    def calling(self, call: Callable[[], None]) -> Iterator[None]:
        """Call a function from another thread if the block still runs when the time is up."""
        watched = _watchdog.watch(self._end, call)
        try:
            yield
        finally:
            _watchdog.release(watched)


class _Watchdog:
    """One thread that looks after the deadlines of all requests; a timer for each would cost a thread each."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Watch nothing, without a thread, as in a new process: a fork copies the lock, and not whoever holds it."""
        self._watched: dict[object, tuple[float, Callable[[], None]]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def watch(self, end: float, call: Callable[[], None]) -> object:
        """Call a function at a point of the monotonic clock, unless what is returned is released before."""
        ticket = object()
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="messctl-deadlines")
                self._thread.start()
            self._watched[ticket] = end, call
            if len(self._watched) == 1:
                self._changed.notify()
        return ticket

    def release(self, ticket: object) -> None:
        """Forget a deadline."""
        with self._changed:
            self._watched.pop(ticket, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._watched:
                    self._changed.wait()
                now = time.monotonic()
                due = [(ticket, call) for ticket, (end, call) in self._watched.items() if end <= now]
                for ticket, call in due:  # none is called once it is released
                    del self._watched[ticket]
                    call()
            time.sleep(STEP_S)


_watchdog = _Watchdog()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watchdog.begin)

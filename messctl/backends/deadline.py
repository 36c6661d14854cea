"""The clock that ends a request to a server, whatever the server does.

A limit on silence is not enough: a server that sends a byte now and then, an endless header or a stream without an end
is never silent. When the time is up, the connection is cut, and what waits for it fails at once.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

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


class _Watchdog:
    """One thread that looks after the deadlines of all requests; a timer for each would cost a thread each."""

    def __init__(self) -> None:
        self._watched: dict[object, tuple[float, Callable[[], None]]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def watch(self, end: float, call: Callable[[], None]) -> object:
        """Call a function at a point of the monotonic clock, unless what is returned is released before."""
        ticket = object()
        with self._changed:
            if self._thread is None or not self._thread.is_alive():  # it does not outlive a fork
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
                for ticket, _ in due:
                    del self._watched[ticket]
            for _, call in due:
                call()
            time.sleep(STEP_S)


_watchdog = _Watchdog()


class Connection:
    """The connection of one HTTP client that sends one request at a time. It can be cut from another thread.

    Give `watch` to the client's requests as the extension `trace`. It learns from it which connection is in use.
    """

    def __init__(self) -> None:
        self._stream: Any = None
        self._is_cut = False

    def watch(self, event: str, info: dict[str, Any]) -> None:
        """Store each connection that is made, also one within another, to a proxy or with TLS."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._stream = info.get("return_value")
            if self._is_cut:
                self._shut()

    @contextmanager
    def cut_at(self, deadline: Deadline) -> Iterator[None]:
        """Cut the connection if the block still runs at the deadline."""
        self._is_cut = False
        watched = _watchdog.watch(time.monotonic() + deadline.left_s, self.cut)
        try:
            yield
        finally:
            _watchdog.release(watched)

    def cut(self) -> None:
        """Cut the connection now."""
        self._is_cut = True
        self._shut()

    def _shut(self) -> None:
        stream = self._stream
        link = None if stream is None else stream.get_extra_info("socket")
        if link is not None:
            with suppress(OSError, ValueError):
                socket.socket.shutdown(link, socket.SHUT_RDWR)

"""The clock that ends a request to a server, whatever the server does.

A limit on silence is not enough: a server that sends a byte now and then, an endless header or a stream without an end
is never silent. When the time is up, the connection is cut, and what waits for it fails at once.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


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
        timer = threading.Timer(deadline.left_s, self.cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

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

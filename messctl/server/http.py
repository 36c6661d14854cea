"""HTTP/1.1 connections: what cannot be read as a request is answered in OpenAI's shape, too."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from messctl.server.errors import invalid
from messctl.server.sending import JSON, encoded

HEADERS_S = 20.0
"""How long the head of a first request may take to arrive."""
LONGEST_HEAD = 2**16
"""The bytes that the head of a request may have."""
VERSIONS = ("1.0", "1.1")


class Connection(HttpToolsProtocol):
    """A connection. A client that sends no request for HEADERS_S seconds is left."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._in_head, self._head = True, 0
        self._waits: asyncio.TimerHandle | None = self.loop.call_later(HEADERS_S, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Handle what has arrived."""
        self._head += len(data)
        super().data_received(data)
        if self._in_head and self._head > LONGEST_HEAD and not self.transport.is_closing():
            self.send_400_response("the head is too long")

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._in_head, self._head = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin to answer: the head of a request is here. Raises ValueError for another protocol than HTTP/1."""
        self._in_head = False
        self._stop_waiting()
        if self.parser.get_http_version() not in VERSIONS:
            raise ValueError("another version of HTTP")
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn passes it
        """Answer what is no request, and close. An answer that has begun already is cut off."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            problem = invalid("this is no HTTP request that can be read: its head is invalid or too long")
            body = encoded(problem.document())
            head = f"content-type: {JSON}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head.encode() + body)
        self.transport.close()

    def _give_up(self) -> None:
        if self._in_head and not self.transport.is_closing():
            self.transport.close()

    def _stop_waiting(self) -> None:
        waits, self._waits = getattr(self, "_waits", None), None
        if waits is not None:
            waits.cancel()

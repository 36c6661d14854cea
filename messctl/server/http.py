"""HTTP/1.1 connections: what cannot be read as a request is answered in OpenAI's shape, too."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from messctl.server.errors import invalid
from messctl.server.sending import JSON, encoded

HEADERS_S = 20.0
"""How long the head of a first request may take to arrive."""


class Connection(H11Protocol):
    """A connection. A client that sends no request for HEADERS_S seconds is left."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._waits: asyncio.TimerHandle | None = self.loop.call_later(HEADERS_S, self._give_up)

    def handle_events(self) -> None:
        """Handle what has arrived."""
        super().handle_events()
        if self.scope is not None:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn passes it
        """Answer what is no request."""
        problem = invalid("this is no HTTP request that can be read: its head is invalid or too long")
        body = encoded(problem.document())
        headers = [(b"content-type", JSON.encode()), (b"connection", b"close"), (b"content-length", b"%d" % len(body))]
        try:
            for event in (
                h11.Response(status_code=problem.status, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event))
        except h11.LocalProtocolError:  # an answer has begun already
            pass
        self.transport.close()

    def _give_up(self) -> None:
        if self.scope is None and not self.transport.is_closing():
            self.transport.close()

    def _stop_waiting(self) -> None:
        waits, self._waits = getattr(self, "_waits", None), None
        if waits is not None:
            waits.cancel()

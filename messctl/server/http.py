"""HTTP/1.1 connections: what cannot be read as a request is answered in OpenAI's shape, too."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakSet

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from messctl.server.errors import invalid
from messctl.server.sending import JSON, encoded

HEADERS_S = 20.0
"""How long the head of a first request may take to arrive."""
MOST_HEAD = 65_536
"""How many bytes a head may have, and what is between two pieces of a body."""
VERSIONS = ("1.0", "1.1")
OFFERS = (b"upgrade", b"connection", b"http2-settings")
"""The headers of an offer to speak another protocol."""


class Connection(HttpToolsProtocol):
    """A connection. A client that sends no request for HEADERS_S seconds is left."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._cycles: WeakSet[Any] = WeakSet()  # of this connection: one is answered, others wait behind it
        self._waits: asyncio.TimerHandle | None = self.loop.call_later(HEADERS_S, self._give_up)
        self._loose = 0  # bytes since the last piece of a body, or the last request

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        self._leave_all()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """Answer no more: the transport is closed now, and says so only later."""
        self._leave_all()

    def data_received(self, data: bytes) -> None:
        """Handle what has arrived."""
        self._unset_keepalive_if_required()
        self._loose += len(data)
        try:
            while data:
                data = self._fed(data)
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        if self._loose > MOST_HEAD:
            self.send_400_response("")

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the request is to be read again."""
        if sum(map(len, (self.url, *(text for line in self.headers for text in line)))) > MOST_HEAD:
            raise ValueError("the head is too long")
        if self.parser.get_http_version() not in VERSIONS:
            raise ValueError("it is another version of HTTP")
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self._cycles.add(self.cycle)
            self._stop_waiting()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._loose = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        self._loose = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn passes it
        """Answer what is no request, unless an answer has begun."""
        problem = invalid("this is no HTTP request that can be read: its head is invalid or too long")
        body = encoded(problem.document())
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            head = f"content-type: {JSON}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            self.transport.write(b"HTTP/1.1 %d Bad Request\r\n%b%b" % (problem.status, head, body))
        self.transport.close()

    def _fed(self, data: bytes) -> bytes:
        """Let the parser read; return what is to be read again.

        A client may offer to speak another protocol. Then the parser takes the rest for words of that. The offer is
        not taken up: the request is read again as if there had been none.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            method = self.parser.get_method()
            if method == b"CONNECT":
                raise httptools.HttpParserError("this is no proxy") from None
            kept = [line for line in self.headers if line[0] not in OFFERS]
            if not self.parser.should_keep_alive():
                kept.append((b"connection", b"close"))
            head = b"".join(b"%b: %b\r\n" % line for line in kept)
            version = self.parser.get_http_version().encode()
            self.parser = httptools.HttpRequestParser(self)
            return b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, self.url, version, head, data[offer.args[0] :])
        return b""

    def _give_up(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()

    def _leave_all(self) -> None:
        for cycle in self._cycles:
            cycle.disconnected = True
            cycle.message_event.set()

    def _stop_waiting(self) -> None:
        waits, self._waits = getattr(self, "_waits", None), None
        if waits is not None:
            waits.cancel()

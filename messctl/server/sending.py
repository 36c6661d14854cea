"""Sending: a document, an error, or a stream of events, over ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from starlette.types import Receive, Scope, Send

from messctl.server.errors import ProtocolError

SILENT_S = 30.0
"""How long a client may pause within the body of its request."""
LINGER_S = 10.0
"""How long the rest of a refused body is read: a client that is still sending would not see the answer."""
CLOSE = {"connection": "close"}
JSON, EVENTS = "application/json", "text/event-stream; charset=utf-8"


def encoded(document: Any) -> bytes:
    """Return JSON as bytes, on one line."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


async def send_document(send: Send, document: Any, headers: Mapping[str, str]) -> None:
    """Send a whole response with the status 200."""
    body = encoded(document)
    await _start(send, 200, {"content-type": JSON, "content-length": str(len(body)), **headers})
    await send({"type": "http.response.body", "body": body})


async def send_error(
    receive: Receive, send: Send, error: ProtocolError, headers: Mapping[str, str] | None = None
) -> None:
    """Send an error as the whole response. If it closes the connection, the rest of the body is read before."""
    body, headers = encoded(error.document()), {**(headers or {}), **error.headers}
    await _start(send, error.status, {"content-type": JSON, "content-length": str(len(body)), **headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if headers.items() >= CLOSE.items():
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await _rest_of_body(receive)
    await send({"type": "http.response.body", "body": b""})


class EventStream:
    """A response of server-sent events. `begin` it, then send documents and comments, then `end` it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def begin(self, headers: Mapping[str, str]) -> None:
        """Send the head of the response, once."""
        if not self.begun:
            self.begun = True
            await _start(self._send, 200, {"content-type": EVENTS, "cache-control": "no-cache", **headers})

    async def data(self, *documents: Any) -> None:
        """Send documents, an event each."""
        await self._more(b"".join(b"data: " + encoded(document) + b"\n\n" for document in documents))

    async def comment(self, text: str) -> None:
        """Send a line that clients skip, to show that the server is alive."""
        await self._more(f": {text}\n\n".encode())

    async def end(self, *, done: bool = True) -> None:
        """Say that this was all, and end the response."""
        body = b"data: [DONE]\n\n" if done else b""
        await self._send({"type": "http.response.body", "body": body})

    async def _more(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})


async def read_body(scope: Scope, receive: Receive, most: int) -> bytes:
    """Return the body of a request. Raises ProtocolError if it has more bytes than `most`, or stops for SILENT_S."""
    too_large = ProtocolError(413, f"the body is larger than {most:,} bytes", code="request_too_large", headers=CLOSE)
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if length.isdigit() and int(length) > most:
        raise too_large
    pieces, size = [], 0
    while True:
        try:
            async with asyncio.timeout(SILENT_S):
                message = await receive()
        except TimeoutError:
            raise ProtocolError(408, f"the body stopped for {SILENT_S:g} seconds", headers=CLOSE) from None
        if message["type"] == "http.disconnect":
            raise ProtocolError(400, "the connection was closed within the body")
        piece = message.get("body", b"")
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise too_large
        if not message.get("more_body"):
            return b"".join(pieces)


async def _rest_of_body(receive: Receive) -> None:
    while (await receive()).get("more_body"):
        pass


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    lines = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})

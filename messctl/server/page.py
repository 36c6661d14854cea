"""The page at `/`: how well the promise is kept, live. It needs nothing from the network but this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from messctl.errors import StoreError
from messctl.server.accounts import Account
from messctl.server.board import Board
from messctl.server.errors import ProtocolError, busy
from messctl.server.origins import refuse_other_names
from messctl.server.sending import EVENTS, encoded, send_error
from messctl.server.service import Service

Endpoint = Callable[[Request], Awaitable[Response]]
ASSETS = {
    "page.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "chart.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
SAFE = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}
"""The headers of the page: it runs only its own script, and talks only to its own server."""
MOST_WATCHERS = 64
"""How many may watch at a time."""
AGAIN_S = 5.0


def page_routes(service: Service, board: Board) -> list[Route]:
    """Return the addresses of the page, of its events, and of the metrics."""
    return [
        Route("/", _asset("page.html")),
        *(Route(f"/page/{name}", _asset(name)) for name in ASSETS if name != "page.html"),
        Route("/v1/status/events", _Events(service, board)),
        Route("/metrics", _metrics(service)),
    ]


def _asset(name: str) -> Endpoint:
    content = files("messctl.server").joinpath("assets", name).read_bytes()

    async def asset(_: Request) -> Response:
        return Response(content, headers={**SAFE, "content-type": ASSETS[name]})

    return asset


def _metrics(service: Service) -> Endpoint:
    async def metrics(request: Request) -> Response:
        own = service.accounts.asking(request.scope["headers"]) if service.accounts.have_keys else None
        content, kind = await service.in_thread(_exposition, service, request.headers.get("accept", ""), own)
        return Response(content, headers={"content-type": kind})

    return metrics


def _exposition(service: Service, accept: str, own: Account | None) -> tuple[bytes, str]:
    """Return the metrics and their content type: all of them, or those of one tenant."""
    only = None if own is None else {"tenant": [own.label], "model": own.router.zoo.models}
    return service.metrics.exposition(accept, only)


class _Events:
    """Sends the board, now and whenever it changes, to at most MOST_WATCHERS at a time."""

    def __init__(self, service: Service, board: Board) -> None:
        self._service = service
        self._board = board
        self._watchers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one watcher, for as long as it watches."""
        if self._watchers >= MOST_WATCHERS:
            await send_error(receive, send, busy(f"{MOST_WATCHERS} pages are open, as many as may be", AGAIN_S))
            return
        try:
            if not self._service.accounts.have_keys:
                refuse_other_names(scope["headers"])  # prompts may be shown
            account = self._service.accounts.asking(scope["headers"])
        except ProtocolError as error:
            await send_error(receive, send, error)
            return
        self._watchers += 1
        try:
            events = self._events(account)
            await StreamingResponse(events, headers={**SAFE, "content-type": EVENTS})(scope, receive, send)
        finally:
            self._watchers -= 1

    async def _events(self, account: Account) -> AsyncIterator[bytes]:
        """Yield an event for each change. If the state cannot be read, the last event says so."""
        try:
            async for document in self._board.changes(account):
                yield b"event: status\ndata: " + encoded(document) + b"\n\n"
        except StoreError as error:
            yield b"event: error\ndata: " + encoded(self._service.refusal(error).document()) + b"\n\n"

"""The application: which endpoint answers which address."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from messctl.server.accounts import Account
from messctl.server.answer import CHAT, TEXT
from messctl.server.board import Board
from messctl.server.chat import CompletionsEndpoint
from messctl.server.errors import ProtocolError, unknown_model
from messctl.server.feedback import Repeated, judge, judgements_of
from messctl.server.page import page_routes
from messctl.server.request import AUTO, json_of
from messctl.server.sending import JSON, encoded, read_body, send_error
from messctl.server.service import Service
from messctl.server.status import model_document, models_document, status_document

HIDDEN = "the state cannot be used now; the server's own output says why"
"""The reason for whoever has no key."""
Endpoint = Callable[[Request], Awaitable[Response]]


def application(service: Service, *, show_prompts: bool = False) -> Starlette:
    """Return the application that a `service` answers; when it stops, so does the service.

    The page shows prompts and answers only if `show_prompts`.
    """
    board = Board(service, show_prompts=show_prompts)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        yield
        service.close()
        board.close()

    routes = [
        Route("/v1/chat/completions", CompletionsEndpoint(service, CHAT), methods=["POST"]),
        Route("/v1/completions", CompletionsEndpoint(service, TEXT), methods=["POST"]),
        Route("/v1/models", _models(service)),
        Route("/v1/models/{name:path}", _model(service)),
        Route("/v1/feedback", _feedback(service), methods=["POST"]),
        Route("/v1/status", _status(service)),
        Route("/healthz", _health),
        Route("/readyz", _ready(service)),
        *page_routes(service, board),
    ]
    on_error = _on_error(service)
    handlers = {HTTPException: _on_http_error, ProtocolError: on_error, Exception: on_error}
    served = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)  # type: ignore[arg-type]
    served.router.redirect_slashes = False  # an address with one more slash is unknown, and its error is like others
    return served


def document_response(document: Any, status: int = 200) -> Response:
    """Return a response with a JSON document."""
    return Response(encoded(document), status, media_type=JSON)


def _account(service: Service, request: Request) -> Account:
    """Return the account that a request belongs to. Raises ProtocolError for a wrong key."""
    return service.accounts.asking(request.scope["headers"])


def _models(service: Service) -> Endpoint:
    async def models(request: Request) -> Response:
        return document_response(models_document(_account(service, request)))

    return models


def _model(service: Service) -> Endpoint:
    async def model(request: Request) -> Response:
        name, names = request.path_params["name"], _account(service, request).router.zoo.models
        if name not in (AUTO, *names):
            raise unknown_model(name, ", ".join(names[:20]))
        return document_response(model_document(name))

    return model


def _feedback(service: Service) -> Endpoint:
    repeated = Repeated()

    async def feedback(request: Request) -> Response:
        account, key = _account(service, request), request.headers.get("idempotency-key")
        body = await read_body(request.scope, request.receive, service.limits.max_body)
        reply = repeated.reply(account, key, body)
        if reply is None:
            document = json_of(body)
            taken = await service.in_thread(judge, service.accounts, account, judgements_of(document))
            for each in taken:
                service.metrics.judged(account.label, each["model"], each["value"])
            reply = {"object": "list", "data": taken} if isinstance(document, list) else taken[0]
            repeated.keep(account, key, body, reply)
        return document_response(reply)

    return feedback


def _status(service: Service) -> Endpoint:
    async def status(request: Request) -> Response:
        account = _account(service, request)
        return document_response(await service.in_thread(status_document, service, account))

    return status


async def _health(_: Request) -> Response:
    return document_response({"status": "ok"})


def _ready(service: Service) -> Endpoint:
    async def ready(_: Request) -> Response:
        if service.stopping:
            return document_response({"status": "stopping"}, 503)
        problem = None if service.accounts.degraded else await asyncio.to_thread(service.state.problem)
        if problem is None:
            return document_response({"status": "ready"})
        reason = HIDDEN if service.accounts.have_keys else problem
        return document_response({"status": "state_unavailable", "reason": reason}, 503)

    return ready


class _Refusal(Response):
    def __init__(self, error: ProtocolError) -> None:
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI passes it
        await send_error(receive, send, self._error)


def _on_error(service: Service) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def on_error(_: Request, error: Exception) -> Response:
        return _Refusal(service.refusal(error))

    return on_error


async def _on_http_error(_: Request, error: HTTPException) -> Response:
    message = {404: "there is no such address", 405: "this address takes another method"}.get(error.status_code)
    return _Refusal(ProtocolError(error.status_code, message or error.detail, headers=error.headers))

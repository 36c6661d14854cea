"""The endpoints that answer: chat completions, and completions as they were before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from messctl.records import LeftError
from messctl.server.accounts import DEFAULT_TENANT
from messctl.server.answer import CHAT, TEXT, Form, Pieces, whole
from messctl.server.errors import ProtocolError, protocol_error
from messctl.server.request import ParsedRequest, chat_request, object_of, text_request
from messctl.server.sending import EventStream, read_body, send_document, send_error
from messctl.server.service import Service
from messctl.server.waiting import Done, Failed, Part, Text, WaitingClient

PATIENCE_S = 2.0
"""After this time without a word from a model the stream begins, and comments keep it alive."""
COMMENT_S = 5.0
PARSERS: Mapping[str, Callable[[Mapping[str, Any], str | None], ParsedRequest]] = {
    CHAT: chat_request,
    TEXT: text_request,
}


class CompletionsEndpoint:
    """Answers requests of one `kind`, CHAT or TEXT, each by a `service`."""

    def __init__(self, service: Service, kind: str) -> None:
        self._service = service
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, streamed or whole."""
        label = DEFAULT_TENANT
        try:
            account = self._service.accounts.asking(scope["headers"])
            label = account.label
            account.count()
            body = await read_body(scope, receive, self._service.limits.max_body)
            session = dict(scope["headers"]).get(b"x-session-id", b"").decode("latin-1") or None
            parsed = PARSERS[self._kind](object_of(body), session)
            waiting = WaitingClient(streams=parsed.stream)
            form = Form(self._kind, self._service.start(account, parsed, waiting))
        except ProtocolError as error:
            self._service.metrics.refused(label, error.status)
            await send_error(receive, send, error)
            return
        leaving = asyncio.create_task(_notice_leaving(receive, waiting))
        try:
            if parsed.stream:
                await _stream(receive, send, waiting, form, usage=parsed.usage)
            else:
                await _whole(receive, send, waiting, form)
        finally:
            waiting.leave()
            leaving.cancel()


async def _notice_leaving(receive: Receive, waiting: WaitingClient) -> None:
    """Tell whoever answers when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
    waiting.leave()


def _headers(waiting: WaitingClient, form: Form) -> dict[str, str]:
    model = {"x-messctl-model": waiting.model} if waiting.model and waiting.model.isprintable() else {}
    return {"x-messctl-request-id": form.request_id, **model}


async def _whole(receive: Receive, send: Send, waiting: WaitingClient, form: Form) -> None:
    event = await waiting.next()
    if isinstance(event, Done):
        await send_document(send, whole(form, event.answered, waiting.parts), _headers(waiting, form))
    elif isinstance(event, Failed):
        await send_error(receive, send, _error(event), _headers(waiting, form))


async def _stream(receive: Receive, send: Send, waiting: WaitingClient, form: Form, *, usage: bool) -> None:
    """Send what happens as it happens. An error before the first piece has a status of its own."""
    stream, pieces = EventStream(send), Pieces(form, usage=usage)
    while True:
        event = await waiting.next(COMMENT_S if stream.begun else PATIENCE_S)
        if isinstance(event, Failed) and not stream.begun:
            await send_error(receive, send, _error(event), _headers(waiting, form))
            return
        if isinstance(event, Part) and "usage" in event.content:
            continue
        await stream.begin(_headers(waiting, form))
        if event is None:
            await stream.comment("waiting for the model")
        elif isinstance(event, Failed):
            await stream.data(_error(event).document())
            await stream.end(done=False)
            return
        elif isinstance(event, Done):
            await stream.data(*pieces.end(event.answered, waiting.parts))
            await stream.end()
            return
        elif isinstance(event, Text | Part):
            await stream.data(*pieces.of(event, waiting.model))


def _error(failed: Failed) -> ProtocolError:
    if isinstance(failed.error, LeftError):  # the client has left, or the server stops
        return ProtocolError(503, "the server is stopping; ask again later", kind="server_error", code="stopping")
    return protocol_error(failed.error)

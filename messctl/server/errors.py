"""Errors as OpenAI's clients understand them: a status, and a document with `error`."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from messctl.display.text import plain
from messctl.errors import (
    BackendError,
    BusyError,
    MessctlError,
    PromptError,
    PromptTooLongError,
    RefusedError,
    StoreError,
    UnfitError,
    UsageError,
    last_resort,
    traceback_of,
)

INVALID, SERVER = "invalid_request_error", "server_error"
TOO_LONG = "context_length_exceeded"
TRIED = {"x-should-retry": "false"}
"""The header that keeps OpenAI's clients from trying again: the router has tried every model already."""
BUSY_S = 1
"""After how many seconds a client may try again that found all queues full."""


class ProtocolError(Exception):
    """A request that is answered by an error: its HTTP status, what is wrong, and which field of the request."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def document(self) -> dict[str, Any]:
        """Return the error as JSON, in OpenAI's shape."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}


def invalid(message: str, param: str | None = None, *, code: str | None = None) -> ProtocolError:
    """Return the error for a field that holds what it may not hold."""
    return ProtocolError(400, message, param=param, code=code)


def unknown_model(name: str, known: str) -> ProtocolError:
    """Return the error for a model that the zoo does not have."""
    message = f"the model {plain(repr(name[:100]))} does not exist; `auto` lets the router choose, or name one: {known}"
    return ProtocolError(404, message, param="model", code="model_not_found")


def busy(message: str, seconds: float = BUSY_S) -> ProtocolError:
    """Return the error for a request that came too early, and may come again after some seconds."""
    return ProtocolError(429, message, kind="rate_limit_error", code="rate_limit_exceeded", headers=_after(seconds))


def protocol_error(error: BaseException) -> ProtocolError:
    """Return what a client gets for any error."""
    if isinstance(error, ProtocolError):
        return error
    if isinstance(error, BackendError):
        return _of_models(error, plain(str(error)))
    if isinstance(error, MessctlError):
        text = plain(str(error))
        if isinstance(error, StoreError):
            return ProtocolError(503, text, kind=SERVER, code="state_unavailable")
        return invalid(text) if isinstance(error, UsageError) else ProtocolError(500, text, kind=SERVER)
    sys.stderr.write(f"messctl: {last_resort(error)}\n{traceback_of(error)}")
    return ProtocolError(500, "an unexpected error; the server's own output says which", kind=SERVER)


def _of_models(error: BackendError, text: str) -> ProtocolError:
    """Return what a client gets if no model answered."""
    again = error.again_after_s
    if isinstance(error, BusyError):
        return busy(text, again or BUSY_S)
    if isinstance(error, UnfitError):
        return invalid(text, error.field, code=TOO_LONG if error.too_long else "unsupported_value")
    if isinstance(error, PromptTooLongError):
        return invalid(text, "messages", code=TOO_LONG)
    if isinstance(error, PromptError | RefusedError):
        return ProtocolError(400, text, code="refused_by_models", headers=TRIED)
    headers = {**TRIED, **(_after(again) if again else {})}
    return ProtocolError(503 if again else 502, text, kind=SERVER, code="models_failed", headers=headers)


def _after(seconds: float) -> dict[str, str]:
    return {"retry-after": str(max(1, math.ceil(seconds)))}

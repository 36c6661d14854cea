"""What a failed request to a server means: the error with its remedy, and whether to send the request again."""

from __future__ import annotations

import email.utils
import json
import re
from datetime import UTC, datetime
from typing import Any

from messctl.display.text import plain
from messctl.errors import BackendError, PromptTooLongError, RefusedError
from messctl.zoo import ModelSpec

NOT_OPENAI = "check that it is an OpenAI-compatible server"
SEE_LOG = "see the server's log"

_LONGEST_RETRY_AFTER_S = 86400.0
_LONGEST_QUOTE = 200
_TOO_LONG = re.compile(
    r"context|too long|longer than|too many tokens|token count|maximum (allowed )?length", re.IGNORECASE
)
"""How servers say that a prompt is longer than a model's context."""
_UNKNOWN_HOST = ("Name or service", "name resolution", "nodename", "No address", "getaddrinfo")
_KEY_REFUSED = (401, 403)
_NOT_FOUND = 404
_TOO_LARGE = 413
_REFUSED = (400, 422)
_TOO_MANY = 429
_TEMPORARY = (408, 409, 425, 429, 500, 502, 503, 504)


class AttemptFailedError(Exception):
    """One attempt at a request failed. `error` is for the caller if no attempt succeeds; `retry`: another may."""

    def __init__(self, error: BackendError, *, retry: bool) -> None:
        super().__init__()
        self.error = error
        self.retry = retry


def server_error(model: ModelSpec, what: str, kind: type[BackendError] = BackendError) -> BackendError:
    """Return an error about a model at a server. It names the model, its url, `what` is wrong and what to do."""
    return kind(f"model {plain(repr(model.name))} ({plain(model.place)}): {what}")


def with_attempts(error: BackendError, attempts: int) -> BackendError:
    """Return the error, which says how often the request was sent if that was more than once."""
    if attempts > 1:
        error.args = (f"{error.args[0]} (tried {attempts} times)",)
    return error


def temporary(model: ModelSpec, what: str) -> AttemptFailedError:
    """Return a failure after which another attempt may succeed."""
    return AttemptFailedError(server_error(model, what), retry=True)


def permanent(model: ModelSpec, what: str) -> AttemptFailedError:
    """Return a failure after which another attempt is useless, or would make the caller wait too long."""
    return AttemptFailedError(server_error(model, what), retry=False)


def silent(model: ModelSpec) -> AttemptFailedError:
    """Return the failure of a server that is silent for longer than the model's `timeout_s`."""
    return permanent(
        model, f"sends nothing for {model.timeout_s:g} s: check whether it hangs, or raise timeout_s in zoo.yaml"
    )


def unreachable(model: ModelSpec, why: str) -> AttemptFailedError:
    """Return the failure of a connection; `why` is what the network library says about it."""
    if any(sign in why for sign in _UNKNOWN_HOST):
        return permanent(model, "has an unknown host: check the url")
    if "SSL" in why or "CERTIFICATE" in why:
        return permanent(model, f"offers no secure connection ({why}): check the url")
    return temporary(model, f"cannot be reached ({why}): start the server, or check the url")


def refused(model: ModelSpec, status: int, message: str, retry_after: str = "") -> AttemptFailedError:
    """Return the failure that an HTTP `status` other than 200 means.

    `message` is the server's own, without the key; `retry_after` is the header of that name, "" without one.
    """
    message = quote(message)
    reason = f"{status} ({message})" if message else f"{status}"
    kind: type[BackendError] = BackendError
    if status in _KEY_REFUSED:
        remedy = (
            f"set {model.key_env} to a key that it accepts"
            if model.key_env
            else "set key_env in zoo.yaml to the variable that holds the key"
        )
        what = f"refuses the key with {reason}: {remedy}"
    elif status == _NOT_FOUND:
        what = f"is not found, {reason}: check `model` and the url, which usually ends in /v1"
    elif 300 <= status < 400:
        what = f"has moved, {status}: use the url that it redirects to"
    elif status == _TOO_LARGE or (status in _REFUSED and _TOO_LONG.search(message)):
        kind = PromptTooLongError
        what = f"refuses the request with {reason}: shorten it, or check the server's limits"
    elif status in _REFUSED:
        kind = RefusedError
        what = f"refuses the request with {reason}: check which prompts and parameters the server accepts"
    elif status == _TOO_MANY:
        what = f"gets too many requests, {reason}: wait, or raise its limit"
    else:
        what = f"fails with {reason}: {SEE_LOG}"
    error = server_error(model, what, kind)
    error.again_after_s = _retry_after_s(retry_after)
    return AttemptFailedError(error, retry=status in _TEMPORARY)


def message_in(content: bytes) -> str:
    """Return the message in the body of an error response, on one line; the body itself if it is not JSON."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return " ".join(content[:1000].decode("utf-8", "replace").split())
    return message_of(document)


def message_of(document: Any) -> str:
    """Return the message in an error document, on one line."""
    while isinstance(document, dict):
        document = next((document[name] for name in ("error", "message", "detail") if document.get(name)), "")
    return " ".join(document.split()) if isinstance(document, str) else json.dumps(document)


def one_line(error: Exception) -> str:
    """Return an exception's text on one line, or the name of its class if it has none."""
    return plain(" ".join(str(error).split()))[:_LONGEST_QUOTE] or type(error).__name__


def quote(message: str) -> str:
    """Return a server's message as an error repeats it: printable and short."""
    return plain(message)[:_LONGEST_QUOTE]


def _retry_after_s(header: str) -> float:
    """Return the seconds in a Retry-After header, which holds a number or a date; 0 if it is neither."""
    try:
        return min(_LONGEST_RETRY_AFTER_S, max(0.0, float(header)))  # 0 for "nan"
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError):
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(_LONGEST_RETRY_AFTER_S, max(0.0, (until - datetime.now(UTC)).total_seconds()))

"""What a failed request to a server means: the error with its remedy, and whether to send the request again."""

from __future__ import annotations

import email.utils
from collections.abc import Collection
from datetime import UTC, datetime

from messctl.backends.complaint import Complaint
from messctl.backends.logprobs import LOGPROBS, are_named
from messctl.display.text import plain
from messctl.errors import BackendError, PromptTooLongError, RefusedError
from messctl.zoo import ModelSpec
from messctl.zoo.server_keys import MAX_TOKENS, MAX_TOKENS_KEYS, PARAMETERS

SETTINGS = (MAX_TOKENS, "temperature", "top_p")
"""The parameters whose values zoo.yaml sets."""
NOT_OPENAI = "check that it is an OpenAI-compatible server"
SEE_LOG = "see the server's log"

_LONGEST_RETRY_AFTER_S = 86400.0
_LONGEST_QUOTE = 200
_UNKNOWN_HOST = ("Name or service", "name resolution", "nodename", "No address", "getaddrinfo")
_KEY_REFUSED = (401, 403)
_NOT_OF_THE_PROMPT = (401, 402, 403, 404, 408, 429)
_NOT_FOUND = 404
_TOO_LARGE = 413
_REFUSED = (400, 422)
_TOO_MANY = 429
_TEMPORARY = (408, 409, 425, 429, 500, 502, 503, 504)


class AttemptFailedError(Exception):
    """One attempt at a request failed. `error` is for the caller if no attempt succeeds; `retry`: another may.

    `cut`: the connection broke or fell silent, so that what came before may be whole. `refuses_logprobs`: the server
    complains of log-probabilities, so that it may answer without.
    """

    def __init__(self, error: BackendError, *, retry: bool, cut: bool = False) -> None:
        super().__init__()
        self.error = error
        self.retry = retry
        self.cut = cut
        self.refuses_logprobs = False


def server_error(model: ModelSpec, what: str, kind: type[BackendError] = BackendError) -> BackendError:
    """Return an error about a model at a server. It names the model, its url, `what` is wrong and what to do."""
    return kind(_text(model, what))


def _text(model: ModelSpec, what: str) -> str:
    return f"model {plain(repr(model.name))} ({plain(model.place)}): {what}"


def with_attempts(error: BackendError, attempts: int) -> BackendError:
    """Return the error, which says how often the request was sent if that was more than once."""
    if attempts > 1:
        error.args = (f"{error.args[0]} (tried {attempts} times)",)
    return error


def temporary(model: ModelSpec, what: str) -> AttemptFailedError:
    """Return a failure after which another attempt may succeed."""
    return AttemptFailedError(server_error(model, what), retry=True)


def broken_off(model: ModelSpec) -> AttemptFailedError:
    """Return the failure of a connection that ends before the response does."""
    error = server_error(model, f"closes the connection too early: {SEE_LOG}")
    return AttemptFailedError(error, retry=True, cut=True)


def permanent(model: ModelSpec, what: str) -> AttemptFailedError:
    """Return a failure after which another attempt is useless, or would make the caller wait too long."""
    return AttemptFailedError(server_error(model, what), retry=False)


def silent(model: ModelSpec) -> AttemptFailedError:
    """Return the failure of a server that is silent for longer than the model's `timeout_s`."""
    what = f"sends nothing for {model.timeout_s:g} s: check whether it hangs, or raise timeout_s in zoo.yaml"
    return AttemptFailedError(server_error(model, what), retry=False, cut=True)


def overdue(model: ModelSpec, seconds: float) -> AttemptFailedError:
    """Return the failure of an answer that is not complete after the model's `deadline_s`, though the server sends."""
    what = f"does not end its answer within {seconds:g} s: see the server's log, or raise deadline_s in zoo.yaml"
    return AttemptFailedError(server_error(model, what), retry=False, cut=True)


def unreachable(model: ModelSpec, why: str) -> AttemptFailedError:
    """Return the failure of a connection; `why` is what the network library says about it."""
    if any(sign in why for sign in _UNKNOWN_HOST):
        return permanent(model, "has an unknown host: check the url")
    if "SSL" in why or "CERTIFICATE" in why:
        return permanent(model, f"offers no secure connection ({why}): check the url")
    return temporary(model, f"cannot be reached ({why}): start the server, or check the url")


def refused(
    model: ModelSpec, status: int | None, complaint: Complaint, sent: Collection[str] = (), retry_after: str = ""
) -> AttemptFailedError:
    """Return the failure that a server's complaint means.

    `status` is the HTTP status of the response if that is not 200, and otherwise the one that the complaint states,
    None without one. `complaint` is without the key. `sent` are the names of the request's parameters, `retry_after`
    is the header of that name, "" without one.
    """
    failed = _failure(model, status, complaint, sent, retry_after)
    bare = status in _REFUSED and not complaint.message and not complaint.places
    failed.refuses_logprobs = LOGPROBS in sent and (
        bare or LOGPROBS in complaint.places or are_named(complaint.message)
    )
    return failed


def _failure(
    model: ModelSpec, status: int | None, complaint: Complaint, sent: Collection[str], retry_after: str
) -> AttemptFailedError:
    message = quote(complaint.message)
    reason = f"{status} ({message})" if status and message else f"{status or message}"
    parameter = complaint.parameter([name for name in sent if name in (*PARAMETERS, *MAX_TOKENS_KEYS)])
    kind: type[BackendError] = BackendError
    if _is_too_long(status, complaint):
        what = f"refuses the request with {reason}: shorten it, lower max_tokens, or check the server's limits"
        error: BackendError = PromptTooLongError(_text(model, what), complaint.excess)
        return AttemptFailedError(error, retry=False)
    if parameter is not None and (status in _REFUSED or (complaint.is_sure and status not in _NOT_OF_THE_PROMPT)):
        what = f"refuses `{parameter}` with {reason}: {_remedy(model, parameter, complaint)}"
        return AttemptFailedError(server_error(model, what, RefusedError), retry=False)
    if status is None:
        what = f"fails during its answer ({message}): {SEE_LOG}"
    elif status in _KEY_REFUSED:
        what = f"refuses the key with {reason}: {_key_remedy(model)}"
    elif status == _NOT_FOUND:
        what = f"is not found, {reason}: check `model` and the url, which usually ends in /v1"
    elif 300 <= status < 400:
        what = f"has moved, {status}: use the url that it redirects to"
    elif status in _REFUSED:
        kind = RefusedError
        what = f"refuses the request with {reason}: check which prompts and parameters the server accepts"
    elif status == _TOO_MANY:
        what = f"gets too many requests, {reason}: wait, or raise its limit"
    else:
        what = f"fails with {reason}: {SEE_LOG}"
    error = server_error(model, what, kind)
    error.again_after_s = _retry_after_s(retry_after)
    return AttemptFailedError(error, retry=status is None or status in _TEMPORARY)


def _is_too_long(status: int | None, complaint: Complaint) -> bool:
    """Return whether the prompt is to blame: it is longer than the model's context."""
    if status == _TOO_LARGE or complaint.has_overflow_code:
        return True
    possible = status is None or (status >= 400 and status not in _NOT_OF_THE_PROMPT)
    return possible and complaint.says_overflow


def _remedy(model: ModelSpec, parameter: str, complaint: Complaint) -> str:
    """Return what to change in zoo.yaml so that a server no longer refuses a parameter."""
    where = f"to model {plain(repr(model.name))} in zoo.yaml"
    if parameter in MAX_TOKENS_KEYS:
        (other,) = (key for key in MAX_TOKENS_KEYS if key != parameter)
        if other in complaint.message:
            return f"add `max_tokens_key: {other}` {where}"
    name = MAX_TOKENS if parameter in MAX_TOKENS_KEYS else parameter
    omit = f"`omit: [{', '.join(dict.fromkeys((*model.omit, name)))}]`"
    if complaint.blames_value and name in SETTINGS:
        return f"change `{name}`, or add {omit} {where}"
    if name == MAX_TOKENS:
        return f"add `max_tokens_key: {other}` or {omit} {where}"
    return f"add {omit} {where}"


def _key_remedy(model: ModelSpec) -> str:
    if model.key_env:
        return f"set {model.key_env} to a key that it accepts"
    return "set key_env in zoo.yaml to the variable that holds the key"


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

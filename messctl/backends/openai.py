"""Models at OpenAI-compatible servers: llama-server, vLLM, Ollama and their like, over HTTP.

A request is sent again, after a while, where it was lost and nothing of the answer has been told to anybody: the server
was not there, was busy or broken, or sent what is no answer. A server that stays silent is not asked twice.
"""

from __future__ import annotations

import email.utils
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from messctl.backends.answer import AnswerText
from messctl.backends.answer_stream import AnswerStream
from messctl.backends.base import OnText
from messctl.backends.events import NotEventsError, documents
from messctl.backends.http import CONNECT_S, Clients, Key, failed
from messctl.display.text import plain
from messctl.errors import BackendError, PromptTooLongError, RefusedError
from messctl.records import Completion, Question
from messctl.zoo import ModelSpec
from messctl.zoo.models import MOST_TOKENS

if TYPE_CHECKING:
    import httpx

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 8.0
"""A server that asks for a longer pause is given up at once."""
_LONGEST_ASKED_S = 86400.0
_TOO_LONG = re.compile(
    r"context|too long|longer than|too many tokens|token count|maximum (allowed )?length", re.IGNORECASE
)
"""How servers say that a prompt is longer than a model's context."""
_LONGEST_QUOTE = 200
_MOST_BYTES = 2**26
_TOO_LARGE = 413
_REFUSALS = (400, 422)
_COMES_AND_GOES = (408, 409, 425, 429, 500, 502, 503, 504)


class _LostError(Exception):
    """An attempt that failed: the error to raise in the end, and whether another may succeed."""

    def __init__(self, error: BackendError, *, again: bool) -> None:
        super().__init__()
        self.error = error
        self.again = again


@dataclass
class _Heard:
    """What has come of an answer so far."""

    text: AnswerText
    finish: str | None = None
    streams: bool = False
    pieces: int = 0
    usage: Mapping[str, Any] = field(default_factory=dict)


class OpenAICompatible:
    """Asks the servers that zoo.yaml's urls name. Thread-safe: any number of requests may be under way.

    Proxies of the environment are used, though not for this machine's own addresses. A key is read from the
    environment for every request, goes into its header, and nowhere else.
    """

    def __init__(self, pause: Callable[[float], None] = time.sleep) -> None:
        self._clients = Clients()
        self._pause = pause
        self._coin = random.Random()
        self._lock = threading.Lock()

    def complete(self, model: ModelSpec, question: Question, on_text: OnText | None = None) -> Completion:
        """Return the model's answer. Raises BackendError."""
        started = time.perf_counter()
        stream = AnswerStream(on_text)
        body = _body(model, question)
        for attempt in range(model.retries + 1):
            heard = _Heard(AnswerText((), stream.listener))
            try:
                self._ask(model, body, heard)
                break
            except _LostError as lost:
                if stream.started or not lost.again or attempt == model.retries:
                    raise _final(lost.error, attempt) from None
                pause = self._next_pause(attempt, lost.error)
                if pause > LONGEST_PAUSE_S:
                    raise _final(lost.error, attempt) from None
                self._pause(pause)
                if heard.streams and not heard.pieces:
                    body = _unstreamed(body)  # a server that fails before its first piece says why in a whole response
        answer = heard.text.finish()
        latency_s = time.perf_counter() - started
        tokens_in, tokens_out = self._tokens(model, body, heard)
        finish = "length" if heard.finish == "length" else "stop"
        return Completion(model.name, answer, tokens_in, tokens_out, latency_s, 0.0, finish)

    def listed(self, model: ModelSpec) -> tuple[str, ...]:
        """Return the names of the models that the model's server says it has. Raises BackendError."""
        try:
            with _asking(self._clients, model, "GET", "models") as response:
                data = _document(model, _read(model, response)).get("data")
        except _LostError as lost:
            raise lost.error from None
        names = [entry.get("id") for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
        return tuple(name for name in names if isinstance(name, str))

    def close(self) -> None:
        """Close all connections."""
        self._clients.close()

    def _next_pause(self, attempt: int, error: BackendError) -> float:
        """Return how long to wait: as the server asks, or twice as long each time, at random so that clients part."""
        with self._lock:
            backoff = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt) * self._coin.uniform(0.5, 1.0)
        return max(backoff, error.again_after_s)

    def _ask(self, model: ModelSpec, body: Mapping[str, Any], heard: _Heard) -> None:
        """Have `heard` filled by one attempt. Raises _LostError."""
        with _asking(self._clients, model, "POST", "chat/completions", body) as response:
            if "text/event-stream" in response.headers.get("content-type", ""):
                heard.streams = True
                self._listen(model, response, heard)
            else:
                content = _read(model, response)
                if not content.strip():
                    raise _again(model, "answers nothing: look whether it is a server of models")
                _take(model, _document(model, content), heard, "message")
        if heard.finish is None:
            raise _again(model, "breaks off in the middle of its answer: look into the server's log")

    def _listen(self, model: ModelSpec, response: httpx.Response, heard: _Heard) -> None:
        """Take a stream of pieces. A server that keeps the line open with comments alone is silent, too."""
        silent_since = time.monotonic()
        try:
            for document in documents(response.iter_bytes()):
                if document is None:
                    if time.monotonic() - silent_since > model.timeout_s:
                        raise failed(model, _silence(model))
                    continue
                silent_since = time.monotonic()
                _take(model, document, heard, "delta")
        except BackendError as error:
            raise _LostError(error, again=False) from None
        except NotEventsError:
            raise _again(model, "sends what is not JSON: look whether it is an OpenAI-compatible server") from None

    def _tokens(self, model: ModelSpec, body: Mapping[str, Any], heard: _Heard) -> tuple[int, int]:
        """Return the tokens read and written: as the server counts them, or else as can be found out.

        A server that counts none in a stream, as llama-cpp-python's, sends one token a piece, and counts the prompt's
        when it is asked for one more token without a stream. Raises BackendError where it does not.
        """
        counts = _counts(heard.usage)
        if counts is not None:
            return counts
        probe = _Heard(AnswerText())
        try:
            self._ask(model, {**_unstreamed(body), "max_tokens": 1}, probe)
        except _LostError:
            pass
        else:
            counts = _counts(probe.usage)
        if counts is None or not heard.pieces:
            raise failed(model, "does not say how many tokens it read and wrote (`usage`): its cost cannot be known")
        return counts[0], heard.pieces


def patience_s(model: ModelSpec) -> float:
    """Return how long a model may take to fail, at most: every attempt at its server, and the pauses between.

    One that runs here has no bound of its own, and is given what is usual.
    """
    return (model.retries + 1) * (CONNECT_S + model.timeout_s) + model.retries * LONGEST_PAUSE_S


@contextmanager
def _asking(
    clients: Clients, model: ModelSpec, method: str, path: str, body: Mapping[str, Any] | None = None
) -> Iterator[httpx.Response]:
    """Yield the response to one request, whose body has yet to be read. Raises BackendError, _LostError."""
    import httpx  # noqa: PLC0415  # for zoos with servers alone

    key = Key.of(model)
    client, timeout = clients.of(model), clients.timeout(model)
    try:
        with client.stream(method, f"{model.url}/{path}", json=body, auth=key.auth(), timeout=timeout) as response:
            if response.status_code != 200:
                raise _refusal(model, key, response, _read(model, response))
            yield response
    except httpx.ConnectTimeout:
        raise _again(model, "does not take a connection: look whether the machine is up, and the url right") from None
    except httpx.TimeoutException:
        raise _LostError(failed(model, _silence(model)), again=False) from None
    except httpx.ConnectError as error:
        raise _unreachable(model, key.hidden(_one_line(error))) from None
    except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
        raise _again(model, "breaks the connection off: look into the server's log") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        text = f"cannot be asked ({key.hidden(_one_line(error))}): see the url, and the proxies in the environment"
        raise _LostError(failed(model, text), again=False) from None


def _read(model: ModelSpec, response: httpx.Response) -> bytes:
    """Return the whole body. Raises _LostError for one that is larger than any answer."""
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > _MOST_BYTES:
            raise _again(model, "sends more than any answer: look whether it is an OpenAI-compatible server")
    return bytes(content)


def _unreachable(model: ModelSpec, why: str) -> _LostError:
    if any(sign in why for sign in ("Name or service", "name resolution", "nodename", "No address", "getaddrinfo")):
        return _LostError(failed(model, "has a host that is not known: compare the url's"), again=False)
    if "SSL" in why or "CERTIFICATE" in why:
        return _LostError(failed(model, f"has no secure connection to offer ({why}): see the url"), again=False)
    return _again(model, f"cannot be reached ({why}): start the server, or see the url")


def _refusal(model: ModelSpec, key: Key, response: httpx.Response, content: bytes) -> _LostError:
    """Return what an HTTP status other than 200 means."""
    status = response.status_code
    said = plain(key.hidden(_said(content)))[:_LONGEST_QUOTE]
    told = f"{status} ({said})" if said else f"{status}"
    kind: type[BackendError] = BackendError
    if status in (401, 403):
        remedy = f"set {model.key_env} to one that it takes" if model.key_env else "name its variable with key_env"
        text = f"refuses the key with {told}: {remedy}"
    elif status == 404:
        text = f"is not found, {told}: compare `model` and the url, which usually ends in /v1"
    elif 300 <= status < 400:
        text = f"is elsewhere, {status}: give the url that it sends to"
    elif status == _TOO_LARGE or (status in _REFUSALS and _TOO_LONG.search(said)):
        kind = PromptTooLongError
        text = f"refuses the request with {told}: shorten it, or see what the server takes"
    elif status in _REFUSALS:
        kind = RefusedError
        text = f"refuses the request with {told}: see which prompts and which parameters the server takes"
    elif status == 429:
        text = f"is asked too often, {told}: wait, or have its limit raised"
    else:
        text = f"fails with {told}: look into the server's log"
    error = failed(model, text, kind)
    error.again_after_s = _retry_after(response.headers.get("retry-after", ""))
    return _LostError(error, again=status in _COMES_AND_GOES)


def _body(model: ModelSpec, question: Question) -> dict[str, Any]:
    """Return what is asked, in the words of the chat completions API."""
    system = model.system if question.system is None else question.system
    turns = [] if system is None else [("system", system)]
    for asked, answered in question.history:
        turns += [("user", asked), ("assistant", answered)]
    turns.append(("user", question.prompt))
    body: dict[str, Any] = {
        "model": model.model or model.name,
        "messages": [{"role": role, "content": _whole(content)} for role, content in turns],
        "max_tokens": model.answer_limit(question.max_tokens),
        "temperature": model.temperature if question.temperature is None else question.temperature,
        "top_p": model.top_p,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return body if question.seed is None else {**body, "seed": question.seed}


def _unstreamed(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("stream", "stream_options")}


def _take(model: ModelSpec, document: Mapping[str, Any], heard: _Heard, part: str) -> None:
    """Take one piece of an answer, or the whole of it. Raises _LostError for what is no answer."""
    if document.get("error"):
        said = plain(Key.of(model).hidden(_words(document)))[:_LONGEST_QUOTE]
        raise _again(model, f"fails while it answers ({said}): look into the server's log")
    if isinstance(document.get("usage"), dict):
        heard.usage = document["usage"]
    choices = document.get("choices")
    if not isinstance(choices, list):
        raise _again(model, "sends JSON that is no answer: look whether it is an OpenAI-compatible server")
    for choice in choices[:1]:
        message = choice.get(part) if isinstance(choice, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str) and content:
            heard.pieces += 1
            heard.text.add(_whole(content).encode())
        finish = choice.get("finish_reason") if isinstance(choice, dict) else None
        heard.finish = finish if isinstance(finish, str) else heard.finish


def _counts(usage: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the tokens read and written; None where it does not tell them, or no model can have had so many."""
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    sane = [count for count in counts if type(count) is int and 0 <= count <= MOST_TOKENS]
    return (sane[0], sane[1]) if len(sane) == 2 and sum(sane) > 0 else None


def _document(model: ModelSpec, content: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _again(model, "sends what is not JSON: look whether it is an OpenAI-compatible server")
    return document


def _said(content: bytes) -> str:
    """Return what a refusal says of itself, in one line."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return " ".join(content[:1000].decode("utf-8", "replace").split())
    return _words(document)


def _words(document: Any) -> str:
    while isinstance(document, dict):
        document = next((document[name] for name in ("error", "message", "detail") if document.get(name)), "")
    return " ".join(document.split()) if isinstance(document, str) else json.dumps(document)


def _retry_after(value: str) -> float:
    """Return the seconds of a Retry-After header, a number or a date; 0 where it tells nothing."""
    try:
        return min(_LONGEST_ASKED_S, max(0.0, float(value)))  # 0 for what is no number
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError):
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(_LONGEST_ASKED_S, max(0.0, (until - datetime.now(UTC)).total_seconds()))


def _again(model: ModelSpec, what: str) -> _LostError:
    return _LostError(failed(model, what), again=True)


def _final(error: BackendError, attempt: int) -> BackendError:
    """Return an error with how often it was tried."""
    if attempt:
        error.args = (f"{error.args[0]} (tried {attempt + 1} times)",)
    return error


def _silence(model: ModelSpec) -> str:
    return f"is silent for {model.timeout_s:g} s: look whether it hangs, or raise timeout_s in zoo.yaml"


def _one_line(error: Exception) -> str:
    return plain(" ".join(str(error).split()))[:_LONGEST_QUOTE] or type(error).__name__


def _whole(text: str) -> str:
    """Return text with U+FFFD for halves of characters, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

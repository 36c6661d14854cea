"""Models at OpenAI-compatible servers, such as llama-server, vLLM and Ollama, over HTTP.

A request is sent again after a pause if it failed for a reason that may pass, and nobody has seen a part of the answer:
the server was absent, busy or broken, or its answer was invalid. A silent server gets no second request, nor does one
that does not come to an end: the answer, with all attempts, must be there within the model's `deadline_s`.
Source: OpenAI's API reference, "Chat completions" and "Models".
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self

from messctl.backends.answer_stream import AnswerStream
from messctl.backends.answer_text import AnswerText
from messctl.backends.base import OnText
from messctl.backends.chat import chat_messages, has_system
from messctl.backends.connections import Connections
from messctl.backends.content import body_pieces, read_document
from messctl.backends.deadline import Deadline
from messctl.backends.logprobs import LOGPROBS, are_wanted, without
from messctl.backends.openai_errors import AttemptFailedError, server_error, with_attempts
from messctl.backends.openai_reply import LONGEST_TEXT, ServerReply, parse_json
from messctl.backends.patience import CONNECT_S, LONGEST_PAUSE_S
from messctl.backends.thinking import OPEN
from messctl.errors import BackendError
from messctl.inputs import valid_json
from messctl.records import Completion, Question, Recipient
from messctl.zoo import ModelSpec
from messctl.zoo.server_keys import MAX_TOKENS, MAX_TOKENS_KEYS

FIRST_PAUSE_S = 0.25
UNCOUNTED_TEXT, LONGEST_TOKEN = 2**18, 64
"""Characters of thinking that a server may send without counting its tokens, and of one token on average."""


class OpenAICompatible:
    """Sends questions to the servers that zoo.yaml's urls name. Thread-safe; requests may run at the same time.

    Proxies of the environment are used, except for this machine's own addresses. A key is read from the environment for
    each request and is sent in its header only. `pause` waits for a number of seconds between two attempts.
    """

    def __init__(self, pause: Callable[[float], None] = time.sleep) -> None:
        self._connections = Connections()
        self._pause = pause
        self._random = random.Random()
        self._lock = threading.Lock()
        self._without_logprobs: set[tuple[str | None, str]] = set()

    def complete(
        self,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
    ) -> Completion:
        """Return the model's answer. Raises BackendError.

        A server that refuses to give log-probabilities is asked again without them, and from then on.
        """
        started, deadline = time.perf_counter(), Deadline(model.longest_s)
        stream, opened, attempt = AnswerStream(on_text), OPEN if model.thinks else None, 0
        body = _request_body(model, question)
        server = model.url, body["model"]
        question = replace(question, logprob=are_wanted(model, question) and server not in self._without_logprobs)
        body |= {LOGPROBS: True} if question.logprob else {}
        while True:
            text = AnswerText((), stream.listener, on_thinking, opened)
            reply = ServerReply(text, tuple(body), _longest_text(body), on_part=_part_listener(question))
            try:
                self._attempt(model, deadline, body, reply, question.recipient)
                break
            except AttemptFailedError as failed:
                if question.recipient is not None:
                    question.recipient.check()
                error = with_attempts(failed.error, attempt + 1)
                shown = stream.started or (question.recipient is not None and question.recipient.shown)
                if question.logprob and failed.refuses_logprobs and not shown:
                    self._without_logprobs.add(server)
                    question, body = replace(question, logprob=False), _without(body, LOGPROBS)
                    continue
                if shown or not failed.retry or attempt == model.retries:
                    raise error from None
                pause_s = self._next_pause_s(attempt, error)
                if pause_s > min(LONGEST_PAUSE_S, deadline.left_s):
                    raise error from None
                self._pause(pause_s)
                attempt += 1
                if reply.streams and not reply.pieces:
                    body = _unstreamed(body)  # some servers give the reason only in a response that does not stream
        answer = reply.text.finish()
        latency_s = time.perf_counter() - started
        tokens_in, tokens_out = self._count_tokens(model, deadline, body, reply)
        return Completion(
            model.name,
            answer,
            tokens_in,
            tokens_out,
            latency_s,
            load_s=0.0,
            finish=reply.finish or "stop",
            logprob=reply.logprobs.value if question.logprob else None,
            thinking=reply.text.thinking,
            calls=reply.calls,
        )

    def list_models(self, model: ModelSpec) -> tuple[str, ...]:
        """Return the names of all models at the model's server, as the server lists them. Raises BackendError."""
        return tuple(str(entry["id"]) for entry in self.list_entries(model))

    def list_entries(self, model: ModelSpec) -> tuple[Mapping[str, Any], ...]:
        """Return what the model's server says of each of its models; `id` is its name. Raises BackendError."""
        try:
            deadline = Deadline(CONNECT_S + model.timeout_s)  # a list is short
            with self._connections.send(model, deadline, "GET", "models") as response:
                content = read_document(model, body_pieces(model, response))
                data = parse_json(model, content.decode("utf-8-sig", "replace")).get("data")
        except AttemptFailedError as failed:
            raise failed.error from None
        entries = [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
        return tuple(entry for entry in entries if isinstance(entry.get("id"), str))

    def close(self) -> None:
        """Close all connections; may be called twice."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attempt(
        self,
        model: ModelSpec,
        deadline: Deadline,
        body: Mapping[str, Any],
        reply: ServerReply,
        recipient: Recipient | None = None,
    ) -> None:
        """Send the question once and receive the answer. Raises AttemptFailedError, LeftError.

        If the connection breaks after the whole answer has come, only the counts of tokens are missing.
        """
        try:
            with self._connections.send(model, deadline, "POST", "chat/completions", body, recipient) as response:
                reply.receive(model, response)
        except AttemptFailedError as failed:
            if not (failed.cut and reply.whole):
                raise

    def _next_pause_s(self, attempt: int, error: BackendError) -> float:
        """Return the pause after an attempt: twice the last one, in part random; the server's wish if it is longer."""
        with self._lock:
            backoff_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt) * self._random.uniform(0.5, 1.0)
        return max(backoff_s, error.again_after_s)

    def _count_tokens(
        self, model: ModelSpec, deadline: Deadline, body: Mapping[str, Any], reply: ServerReply
    ) -> tuple[int, int]:
        """Return the tokens read and written, as the server counts them. Raises BackendError if it counts none.

        llama-cpp-python's server gives no counts in a stream, and sends one token in each piece. A second request for
        one token, without a stream, gets the prompt's count from it.
        """
        counts = reply.tokens()
        if counts is not None:
            return counts
        probe = ServerReply(AnswerText())
        least = {name: 1 for name in body if name in MAX_TOKENS_KEYS}
        if reply.streams:
            with suppress(AttemptFailedError):
                self._attempt(model, deadline, {**_unstreamed(body), **least}, probe)
            counts = probe.tokens()
        if counts is None or not reply.pieces:
            raise server_error(
                model, "gives no token counts (`usage`), so its cost is unknown: use a server that counts tokens"
            )
        return counts[0], reply.pieces


def _request_body(model: ModelSpec, question: Question) -> dict[str, Any]:
    """Return the request, without the parameters that the model's `omit` names.

    A whole request keeps all that came with it; the model's own settings stand in for what it leaves open.
    """
    given = {} if question.chat is None else dict(question.chat.parameters)
    parameters = {
        MAX_TOKENS: model.answer_limit(question.max_tokens),
        "temperature": model.temperature if question.temperature is None else question.temperature,
        "top_p": model.top_p,
        "seed": question.seed,
    }
    if model.max_tokens_key != MAX_TOKENS and given.get(MAX_TOKENS) is not None:
        given[model.max_tokens_key] = given.pop(MAX_TOKENS)
    if any(given.get(name) is not None for name in MAX_TOKENS_KEYS):
        del parameters[MAX_TOKENS]
    body: dict[str, Any] = {"model": model.model or model.name, "messages": _messages(model, question)}
    for name, value in parameters.items():
        key = model.max_tokens_key if name == MAX_TOKENS else name
        if value is not None and given.get(key) is None:
            given[key] = value
    given["stream"] = True
    given["stream_options"] = {**(given.get("stream_options") or {}), "include_usage": True}
    omitted = (*model.omit, *(MAX_TOKENS_KEYS if MAX_TOKENS in model.omit else ()))
    body |= {name: value for name, value in given.items() if name not in omitted}
    return _unstreamed(body) if "stream" in model.omit else body


def _messages(model: ModelSpec, question: Question) -> list[Any]:
    if question.chat is None:
        return [valid_json(message) for message in chat_messages(model, question)]
    given = [valid_json(message) for message in question.chat.messages]
    return given if model.system is None or has_system(given) else [{"role": "system", "content": model.system}, *given]


def _part_listener(question: Question) -> Callable[[Mapping[str, Any]], None] | None:
    """Return what takes the parts of an answer that are no text; None if nobody wants them."""
    if question.recipient is None:
        return None
    return without(question.recipient.take) if question.logprob else question.recipient.take


def _longest_text(body: Mapping[str, Any]) -> int:
    """Return the most characters that an answer to a request may have, with room for thinking that is not counted."""
    limits = [body[name] for name in MAX_TOKENS_KEYS if type(body.get(name)) is int]
    return min([LONGEST_TEXT, *(UNCOUNTED_TEXT + LONGEST_TOKEN * limit for limit in limits)])


def _unstreamed(body: Mapping[str, Any]) -> dict[str, Any]:
    return _without(body, "stream", "stream_options")


def _without(body: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}

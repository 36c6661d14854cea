"""An answer in OpenAI's form: a whole document, or the pieces of a stream. Each names the model that answered.

Source: OpenAI's API reference, "The chat completion object", "The chat completion chunk object", "Completions".
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from messctl.backends.tool_calls import add_calls
from messctl.live.router import Answered
from messctl.records import FILTER, LIMIT, Completion, cut_by
from messctl.server.waiting import Part, Text

CHAT, TEXT = "chat.completion", "text_completion"
PREFIX = {CHAT: "chatcmpl-", TEXT: "cmpl-"}
"""What is before a request's id in the id of its answer."""


def finish_of(completion: Completion) -> str:
    """Return why an answer ended, in OpenAI's words."""
    cut = cut_by(completion.finish)
    if cut == LIMIT:
        return "length"
    if cut == FILTER:
        return "content_filter"
    if completion.finish == "function_call":
        return "function_call"
    return "tool_calls" if completion.calls else "stop"


def usage_of(completion: Completion, parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the counts of tokens, with the details that the model's server gives."""
    usage: Mapping[str, Any] = next((part["usage"] for part in parts if "usage" in part), {})
    details = {key: value for key, value in usage.items() if key.endswith("_details")}
    total = completion.tokens_in + completion.tokens_out
    counts = {"prompt_tokens": completion.tokens_in, "completion_tokens": completion.tokens_out, "total_tokens": total}
    return counts | details


def record_of(answered: Answered) -> dict[str, Any]:
    """Return what messctl says about an answer: how the model was chosen, and what it cost."""
    decision = answered.decision
    return {
        "request_id": decision.request.request_id,
        "model": decision.served,
        "policy": answered.policy,
        "forced": answered.forced,
        "propensity": None if answered.forced else decision.propensity,
        "explored": decision.explored,
        "cost": answered.cost,
        "unit": answered.cost_unit,
        "cost_quality": answered.cost_quality,
        "attempts": list(answered.attempts),
        "queue": answered.standing.queue,
        "satisfied": answered.satisfied,
        "degraded": answered.degraded,
    }


@dataclass(slots=True)
class Form:
    """The form of one answer, CHAT or TEXT: its id and the time are the same in every piece."""

    kind: str
    request_id: str
    created: int = field(default_factory=lambda: int(time.time()))

    def document(self, model: str | None, choices: list[dict[str, Any]], **others: Any) -> dict[str, Any]:
        """Return the whole answer."""
        return self._base(self.kind, model, choices) | others

    def chunk(self, model: str | None, choices: list[dict[str, Any]], **others: Any) -> dict[str, Any]:
        """Return a piece of a stream."""
        kind = f"{CHAT}.chunk" if self.kind == CHAT else TEXT
        return self._base(kind, model, choices) | others

    def delta(self, index: int, delta: Mapping[str, Any], finish: str | None = None, **others: Any) -> dict[str, Any]:
        """Return one choice of a piece."""
        if self.kind == TEXT:
            text = delta.get("content") or ""
            return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
        return {"index": index, "delta": dict(delta), "logprobs": None, "finish_reason": finish} | others

    def _base(self, kind: str, model: str | None, choices: list[dict[str, Any]]) -> dict[str, Any]:
        identity = f"{PREFIX[self.kind]}{self.request_id}"
        return {"id": identity, "object": kind, "created": self.created, "model": model, "choices": choices}


def whole(form: Form, answered: Answered, parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the document of an answer that is not streamed."""
    parts, completion = list(parts), answered.completion
    others: dict[int, dict[str, Any]] = {}
    first = _choice(0)
    first["message"]["content"] = completion.answer or (None if completion.calls else "")
    if completion.thinking:
        first["message"]["reasoning_content"] = completion.thinking
    first["finish_reason"] = finish_of(completion)
    for part in parts:
        if "usage" not in part:
            index = part.get("index", 0)
            _add(first if index == 0 else others.setdefault(index, _choice(index)), part)
    choices = [first, *(others[index] for index in sorted(others))]
    if form.kind == TEXT:
        choices = [form.delta(each["index"], each["message"], each["finish_reason"]) for each in choices]
    model = answered.decision.served
    return form.document(model, choices, usage=usage_of(completion, parts), messctl=record_of(answered))


def _choice(index: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": None}


def _add(choice: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Add a piece of a stream to a whole choice."""
    message = choice["message"]
    for key, value in part.get("delta", {}).items():
        if key == "tool_calls" and isinstance(value, list):
            add_calls(message.setdefault("tool_calls", []), value)
        elif isinstance(value, str) and isinstance(message.get(key), str) and key != "role":
            message[key] += value
        elif key == "function_call" and isinstance(value, Mapping):
            calls = [{"function": message.get(key) or {"name": "", "arguments": ""}}]
            add_calls(calls, [{"index": 0, "function": value}])
            message[key] = calls[0]["function"]
        elif value is not None:
            message[key] = value
    logprobs = part.get("logprobs")
    if isinstance(logprobs, Mapping):
        known = choice["logprobs"] or {}
        choice["logprobs"] = {
            key: [*(known.get(key) or []), *value] if isinstance(value, list) else value
            for key, value in logprobs.items()
        }
    choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]


class Pieces:
    """The pieces of a streamed answer: first the role, then what comes, then why it ended, then the counts.

    `usage`: whether the client asked for the counts of tokens.
    """

    def __init__(self, form: Form, *, usage: bool) -> None:
        self._form = form
        self._usage = usage
        self._begun: set[int] = set()

    def of(self, event: Text | Part, model: str | None) -> list[dict[str, Any]]:
        """Return the pieces that tell of an event."""
        if isinstance(event, Text):
            key = "reasoning_content" if event.thinking else "content"
            return [*self._begin(0, model), self._chunk(model, self._form.delta(0, {key: event.text}))]
        part = event.content
        if "usage" in part:
            return []
        index, finish = part.get("index", 0), part.get("finish_reason")
        delta = {key: value for key, value in part.get("delta", {}).items() if key != "role"}
        beside = {key: value for key, value in part.items() if key not in ("index", "delta", "finish_reason")}
        return [*self._begin(index, model), self._chunk(model, self._form.delta(index, delta, finish, **beside))]

    def end(self, answered: Answered, parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the last pieces of a complete answer."""
        model, record = answered.decision.served, record_of(answered)
        last = self._form.delta(0, {}, finish_of(answered.completion))
        pieces = [*self._begin(0, model), self._chunk(model, last) | {"messctl": record}]
        if self._usage:
            counts = usage_of(answered.completion, parts)
            pieces.append(self._form.chunk(model, [], usage=counts, messctl=record))
        return pieces

    def _begin(self, index: int, model: str | None) -> list[dict[str, Any]]:
        if index in self._begun or self._form.kind == TEXT:
            return []
        self._begun.add(index)
        return [self._chunk(model, self._form.delta(index, {"role": "assistant", "content": ""}))]

    def _chunk(self, model: str | None, choice: dict[str, Any]) -> dict[str, Any]:
        return self._form.chunk(model, [choice], **({"usage": None} if self._usage else {}))

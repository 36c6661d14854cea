"""A request as a client sends it: what is needed of it is checked, and all of it is carried on.

Source: OpenAI's API reference, "Chat completions" and "Completions".
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from messctl.backends.local_chat import text_of
from messctl.inputs import valid_json
from messctl.records import Chat, Question, is_blank
from messctl.server.errors import invalid

AUTO = "auto"
"""The model's name by which the router chooses."""
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
MOST_MESSAGES = 10_000
DEEPEST = 128
"""How deep a body may be nested, in objects and lists."""
LONGEST_NAME = 512
"""The longest name of a model or a session, in characters."""
_NOT_CARRIED = ("model", "messages", "prompt", "stream", "suffix", "echo", "best_of")


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request that was read: its question, and how to answer it.

    model: the one that answers; None: the router chooses. session: what a client calls the conversation that the
    request belongs to; None if it does not say. usage: whether a stream ends with the counts of tokens.
    """

    question: Question
    model: str | None = None
    stream: bool = False
    usage: bool = False
    session: str | None = None


def object_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Raises ProtocolError."""
    document = json_of(body)
    if not isinstance(document, dict):
        raise invalid("the body is not a JSON object; send keys and values")
    return document


def json_of(body: bytes) -> Any:
    """Return the JSON in a body. Raises ProtocolError."""
    if not body.strip():
        raise invalid("the request has no body; send JSON")
    try:
        text = body.decode(json.detect_encoding(body))
        document = json.loads(text.removeprefix("\ufeff"), parse_constant=_refused, parse_float=_finite)
    except (ValueError, RecursionError):
        raise invalid("the body is not valid JSON, or has a number that is too large; correct it") from None
    _check_depth(document)
    return valid_json(document) if "\\u" in text else document


def chat_request(document: Mapping[str, Any], session: str | None = None) -> ParsedRequest:
    """Return a chat request. Raises ProtocolError for a field that holds what it may not hold."""
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("`messages` must be a list with at least one message", "messages")
    if len(messages) > MOST_MESSAGES:
        raise invalid(f"`messages` has {len(messages):,} messages; at most {MOST_MESSAGES:,} are taken", "messages")
    for at, message in enumerate(messages):
        _check_message(message, f"messages[{at}]")
    return _parsed(document, messages, session)


def text_request(document: Mapping[str, Any], session: str | None = None) -> ParsedRequest:
    """Return a request to the older endpoint, which has a `prompt`. Raises ProtocolError."""
    prompt = document.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise invalid("`prompt` must be a text, or a list of one text", "prompt")
    for name, neutral in (("echo", (None, False)), ("suffix", (None, "")), ("best_of", (None, 1))):
        if document.get(name) not in neutral:
            raise invalid(f"`{name}` is not supported; leave it out", name, code="unsupported_value")
    if document.get("logprobs") is not None:
        raise invalid("`logprobs` of completions is not supported; use chat completions", "logprobs")
    return _parsed(document, [{"role": "user", "content": prompt}], session)


def _parsed(document: Mapping[str, Any], messages: list[dict[str, Any]], session: str | None) -> ParsedRequest:
    for name, check in _CHECKS.items():
        value = document.get(name)
        wanted = None if value is None else check(value)
        if wanted is not None:
            raise invalid(f"`{name}` must be {wanted}", name)
    model = document.get("model", AUTO)
    if not isinstance(model, str) or not model or len(model) > LONGEST_NAME:
        raise invalid("`model` must be the name of a model, or `auto`", "model")
    chat = Chat(tuple(messages), {key: value for key, value in document.items() if key not in _NOT_CARRIED})
    limits = [document.get(name) for name in ("max_completion_tokens", "max_tokens")]
    question = Question(
        _prompt_of(chat),
        max_tokens=next((limit for limit in limits if limit is not None), None),
        temperature=document.get("temperature"),
        seed=document.get("seed"),
        chat=chat,
    )
    named = (session, document.get("prompt_cache_key"), document.get("user"))
    return ParsedRequest(
        question=question,
        model=None if model == AUTO else model,
        stream=bool(document.get("stream")),
        usage=bool((document.get("stream_options") or {}).get("include_usage")),
        session=next((name for name in named if isinstance(name, str) and 0 < len(name) <= LONGEST_NAME), None),
    )


def _prompt_of(chat: Chat) -> str:
    """Return the text that the router decides on: that of the last message of the user, or else of the last one."""
    texts = [text_of(message) for message in chat.messages if message["role"] == "user"]
    return next((text for text in reversed(texts) if not is_blank(text)), text_of(chat.messages[-1]))


def _check_message(message: Any, place: str) -> None:
    if not isinstance(message, dict):
        raise invalid(f"`{place}` must be an object with `role` and `content`", place)
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise invalid(f"`{place}.role` must be one of {', '.join(ROLES)}", f"{place}.role")
    calls = message.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        raise invalid(f"`{place}.tool_calls` must be a list of objects", f"{place}.tool_calls")
    if isinstance(content, list):
        for part in content:
            kind = part.get("type", "text") if isinstance(part, dict) else None
            if not isinstance(kind, str) or (kind == "text" and not isinstance(part.get("text", ""), str | None)):
                raise invalid(f"`{place}.content` must be a text, or a list of parts with a `type`", f"{place}.content")
    elif not isinstance(content, str) and not (content is None and role in ("assistant", "function")):
        raise invalid(f"`{place}.content` must be a text, or a list of parts", f"{place}.content")


def _number(low: float, high: float, *, whole: bool = False) -> Callable[[Any], str | None]:
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    wanted = f"{'a whole number' if whole else 'a number'} from {low:,} to {high:,}"

    def check(value: Any) -> str | None:
        fits = type(value) in kinds and low <= value <= high  # what is not a number is not in between
        return None if fits else wanted

    return check


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _options(value: Any) -> str | None:
    fits = isinstance(value, dict) and isinstance(value.get("include_usage"), bool | None)
    return None if fits else "an object, whose `include_usage` is true or false"


def _objects(value: Any) -> str | None:
    return None if isinstance(value, list) and all(isinstance(each, dict) for each in value) else "a list of objects"


def _object(value: Any) -> str | None:
    return None if isinstance(value, dict) else "an object"


def _texts(value: Any) -> str | None:
    return None if isinstance(value, list) and all(isinstance(each, str) for each in value) else "a list of texts"


def _stop(value: Any) -> str | None:
    stops = [value] if isinstance(value, str) else value
    fits = isinstance(stops, list) and len(stops) <= 64 and all(isinstance(each, str) and each for each in stops)
    return None if fits else "a text, or a list of at most 64 texts, none of them empty"


def _format(value: Any) -> str | None:
    fits = isinstance(value, dict) and isinstance(value.get("type"), str)
    schema = value.get("json_schema", {}) if fits else None
    return None if isinstance(schema, dict) else "an object with a `type`, such as json_schema"


_CHECKS: Mapping[str, Callable[[Any], str | None]] = {
    "stream": _flag,
    "stream_options": _options,
    "max_tokens": _number(1, 2**31 - 1, whole=True),
    "max_completion_tokens": _number(1, 2**31 - 1, whole=True),
    "temperature": _number(0, 100),
    "top_p": _number(0, 1),
    "top_k": _number(-1, 2**31 - 1, whole=True),
    "min_p": _number(0, 1),
    "frequency_penalty": _number(-2, 2),
    "presence_penalty": _number(-2, 2),
    "n": _number(1, 128, whole=True),
    "seed": _number(-(2**63), 2**63 - 1, whole=True),
    "logprobs": _flag,
    "top_logprobs": _number(0, 20, whole=True),
    "logit_bias": _object,
    "stop": _stop,
    "tools": _objects,
    "functions": _objects,
    "response_format": _format,
    "modalities": _texts,
}
"""What fields may hold, if they are there and not null. Other fields are carried on as they are."""


def _check_depth(document: Any) -> None:
    """Raise ProtocolError for JSON that is nested so deeply that it could not be written again."""
    level: list[Any] = [[document]]
    for _ in range(DEEPEST + 1):
        below = (each for held in level for each in (held.values() if isinstance(held, dict) else held))
        level = [each for each in below if isinstance(each, dict | list)]
        if not level:
            return
    raise invalid(f"the body is nested more than {DEEPEST} levels deep; make it flatter")


def _refused(name: str) -> Any:
    raise ValueError(name)


def _finite(digits: str) -> float:
    """Return a number; raise ValueError for one that only infinity could stand for, which no JSON can carry on."""
    number = float(digits)
    return number if math.isfinite(number) else _refused(digits)

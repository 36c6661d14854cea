"""What a model in this process takes from a whole request in OpenAI's protocol, and what it cannot do.

Such a model reads text and writes text. It takes the messages, `stop`, the sampling and `response_format`. Fields that
change nothing about an answer, such as `user`, and fields that nobody knows, are left aside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from messctl.records import Chat

TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
ROLES = {"developer": "system"}
"""Roles that chat templates do not know, and what they mean to them."""
TOOL_FIELDS = ("tools", "functions")
REFUSED = {
    "n": "it gives one answer",
    "logprobs": "it gives no log-probabilities",
    "top_logprobs": "it gives no log-probabilities",
    "logit_bias": "it takes no bias of tokens",
    "web_search_options": "it cannot search",
    "audio": "it gives text only",
}
"""Fields that would change an answer, and that a model in this process cannot serve."""
FORMATS = ("text", "json_object", "json_schema")
_NEUTRAL: tuple[Any, ...] = (None, False, 0, {}, [])


def unsupported(chat: Chat) -> tuple[str, str] | None:
    """Return the field that a model in this process cannot serve, and why; None if there is none."""
    wanted = chat.parameters
    for name in TOOL_FIELDS:
        if wanted.get(name) and wanted.get("tool_choice") != "none":
            return name, "it runs in this process and calls no tools"
    for name, why in REFUSED.items():
        if wanted.get(name) not in (*_NEUTRAL, *([1] if name == "n" else [])):
            return name, f"it runs in this process, where {why}"
    if any(kind != "text" for kind in wanted.get("modalities") or ()):
        return "modalities", "it runs in this process and gives text only"
    for message in chat.messages:
        if message.get("role") in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
            return "messages", "it runs in this process and reads no calls of tools"
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            if part.get("type", "text") not in TEXT_PARTS:
                return "messages", f"it runs in this process and reads text, not {part.get('type')!r}"
    return _unsupported_format(wanted.get("response_format"))


def _unsupported_format(wanted: Any) -> tuple[str, str] | None:
    if not isinstance(wanted, dict) or wanted.get("type", "text") == "text":
        return None
    if wanted["type"] not in FORMATS:
        return "response_format", f"it runs in this process and knows no format {wanted['type']!r}"
    from messctl.backends.grammar import GrammarError, grammar_of  # noqa: PLC0415  # few requests have a format

    try:
        grammar_of(wanted)
    except GrammarError as error:
        return "response_format", f"it runs in this process, where the schema {error}"
    return None


def text_messages(chat: Chat) -> list[dict[str, str]]:
    """Return the messages as a chat template reads them: roles that it knows, and contents that are text."""
    return [
        {"role": ROLES.get(str(message["role"]), str(message["role"])), "content": text_of(message)}
        for message in chat.messages
    ]


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message: its content, or the text of its parts, one after the other."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text", part.get("refusal")) for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def stops_of(chat: Chat | None) -> tuple[str, ...]:
    """Return the strings that end an answer."""
    stop = None if chat is None else chat.parameters.get("stop")
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def number_of(chat: Chat | None, name: str, default: float) -> float:
    """Return a number in a request, or the default if it has none."""
    value = None if chat is None else chat.parameters.get(name)
    return default if value is None else float(value)

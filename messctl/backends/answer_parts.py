"""The text in a server's message: its content, as text or as a list of parts, and what the model thought before.

Source: OpenAI's API reference, "Chat completions", and the list parts and keys for thinking that other servers use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TEXT = ("text", "output_text")
THINKING = ("thinking", "thought", "reasoning", "reasoning_text", "summary_text", "reasoning.text", "reasoning.summary")
WITHOUT_TEXT = (
    *("reference", "tool_reference", "redacted_thinking", "reasoning.encrypted", "tool_use", "tool_call"),
    *("tool_calls", "function_call"),
)
"""The types of parts that hold no text for a reader."""
THINKING_KEYS = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "reasoning_details")
"""The keys of a message that hold what the model thought; only the first that holds text counts."""
TEXT_KEYS = ("role", "content", "text", "refusal", *THINKING_KEYS)
"""The keys of a message whose text becomes the answer, or the thinking before it."""
_KNOWN_KEYS = (
    *("content", "text", "refusal", "role", "name", "id", "type", "object", "index", "status", "model"),
    *("tool_calls", "function_call", "annotations", *THINKING_KEYS),
)
_KNOWN_KEYS_OF_CHOICE = (
    *("delta", "message", "text", "index", "finish_reason", "native_finish_reason", "stop_reason", "matched_stop"),
    *("logprobs", "token_ids", "prompt_token_ids", "usage", "error", "seed", "stop_str"),
    *("content_filter_results", "content_filter_result", "content_filter_offsets"),
)


class UnknownShapeError(Exception):
    """An answer has a shape that is not known; the message names it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of an answer, or of what the model thought before it."""

    text: str
    thinking: bool = False


def pieces_of(message: Mapping[str, Any]) -> Iterator[Piece]:
    """Yield the text of a message, or of a piece of one, in its order: thinking, content, refusal.

    A refusal is the answer if the model gives one. Raises UnknownShapeError for content in an unknown shape.
    """
    yield from _thinking_of(message)
    yield from _pieces(message.get("content"), "content")
    yield from _pieces(message.get("refusal"), "refusal")


def unknown_key(message: Mapping[str, Any]) -> str | None:
    """Return the first key of a message that is not known and holds something; None if there is none."""
    return _first(message, _KNOWN_KEYS)


def unknown_key_of_choice(choice: Mapping[str, Any]) -> str | None:
    """Return the first key beside the message that is not known and holds something; None if there is none."""
    return _first(choice, _KNOWN_KEYS_OF_CHOICE)


def _first(part: Mapping[str, Any], known: Collection[str]) -> str | None:
    return next((key for key, value in part.items() if key not in known and _holds(value)), None)


def _holds(value: Any) -> bool:
    """Return whether a value holds a text or a number, at any depth."""
    if isinstance(value, dict | list):
        return any(map(_holds, value.values() if isinstance(value, dict) else value))
    return bool(value.strip() if isinstance(value, str) else value)


def _thinking_of(message: Mapping[str, Any]) -> list[Piece]:
    for key in THINKING_KEYS:
        try:
            pieces = [Piece(piece.text, thinking=True) for piece in _pieces(message.get(key), key)]
        except UnknownShapeError:
            continue
        if pieces:
            return pieces
    return []


def _pieces(value: Any, name: str) -> Iterator[Piece]:
    """Yield the text in a value: text, a part, or a list of these. `name` is the value's, for the error."""
    if value is None:
        return
    if isinstance(value, str):
        if value:
            yield Piece(value)
    elif isinstance(value, dict):
        yield from _pieces_of_part(value, name)
    elif isinstance(value, list):
        for element in value:
            if not isinstance(element, str | dict):
                raise UnknownShapeError(f"{_kind(element)} in `{name}`")
            yield from _pieces(element, name)
    else:
        raise UnknownShapeError(f"`{name}` is {_kind(value)}")


def _pieces_of_part(part: Mapping[str, Any], name: str) -> Iterator[Piece]:
    kind = part.get("type", "text")
    if kind in WITHOUT_TEXT:
        return
    if kind in TEXT and "text" in part:
        text = part["text"]
        text = text.get("value") if isinstance(text, dict) else text
        pieces = _pieces(text, f"{name}.text")
    elif kind == "refusal":
        pieces = _pieces(part.get("refusal"), f"{name}.refusal")
    elif kind in THINKING:
        held = next((part[key] for key in ("thinking", "reasoning", "text", "summary", "content") if part.get(key)), "")
        pieces = _pieces(held, f"{name}.{kind}")
    else:
        raise UnknownShapeError(f"a part of the type {kind!r} in `{name}`")
    thinking = kind in THINKING or part.get("thought") is True
    yield from (Piece(piece.text, thinking or piece.thinking) for piece in pieces)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "null" if value is None else "a list" if isinstance(value, list) else "a number"

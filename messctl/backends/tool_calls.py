"""The tools that a model calls: put together from the pieces in which a server sends them.

Source: OpenAI's API reference, "Chat completions": `tool_calls` of a message, and of the delta of a streamed answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

KEYS = ("tool_calls", "function_call")


def add_calls(calls: list[dict[str, Any]], deltas: Iterable[Any]) -> None:
    """Add pieces of calls to the calls so far, in place. A piece belongs to the call of its `index`."""
    for delta in deltas:
        if not isinstance(delta, Mapping):
            continue
        index = delta.get("index")
        at = index if type(index) is int and 0 <= index <= len(calls) else len(calls)
        if at == len(calls):
            calls.append({"type": "function", "function": {"name": "", "arguments": ""}})
        _add(calls[at], {key: value for key, value in delta.items() if key != "index"})


def numbered(calls: Iterable[Any]) -> list[Any]:
    """Return whole calls as pieces: each with its index."""
    return [{"index": at, **call} if isinstance(call, Mapping) else call for at, call in enumerate(calls)]


def _add(call: dict[str, Any], piece: Mapping[str, Any]) -> None:
    for key, value in piece.items():
        if isinstance(value, Mapping):
            held = call.setdefault(key, {})
            for name, text in value.items():
                known = held.get(name)
                joined = name == "arguments" and isinstance(known, str) and isinstance(text, str)
                held[name] = known + text if joined else text if text is not None else known
        elif value is not None:
            call[key] = value

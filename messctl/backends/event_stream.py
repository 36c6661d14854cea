"""Server-sent events, as servers stream their answers.

Source: the HTML standard, "Server-sent events". The fields `id` and `retry` only concern reconnecting, and are skipped.
Three things go beyond it, since servers rely on them:

- The last event counts even if no blank line ends it, and `[DONE]` ends the stream at once.
- A data line after a whole JSON object begins another event. Some servers send no blank lines.
- A field `error` is an event of that type, as older versions of llama.cpp send it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LONGEST_EVENT = 2**22
"""The most bytes in one line, and in the data of one event; no piece of an answer is longer."""
DONE = "[DONE]"
ERROR = "error"
MESSAGE = "message"
_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventTooLongError(Exception):
    """A line, or the data of an event, is longer than LONGEST_EVENT."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its type, MESSAGE if the stream names none, and its data, lines separated by line feeds."""

    type: str
    data: str


def read_events(pieces: Iterable[bytes]) -> Iterator[Event | None]:
    """Yield each event that has data, and None for each other line, until the stream ends or `[DONE]` comes.

    `pieces` may be cut anywhere. Raises EventTooLongError.
    """
    kind, data, size = MESSAGE, list[str](), 0
    for line in _lines(pieces):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        done = name == "data" and value.strip(' "') == DONE
        if data and (not line or done or (name == "data" and _is_whole(data))):
            yield Event(kind, "\n".join(data))
            data, size = [], 0
        else:
            yield None
        if done:
            yield Event(kind, DONE)
            return
        if not line:
            kind = MESSAGE
        elif name == "event":
            kind = value or MESSAGE
        elif name == ERROR:
            yield Event(ERROR, value)
        elif name == "data":
            data.append(value)
            size += len(value) + 1
            if size > LONGEST_EVENT:
                raise EventTooLongError
    if data:
        yield Event(kind, "\n".join(data))


def _is_whole(data: list[str]) -> bool:
    """Return whether the data so far are one line that holds a whole JSON object, so that nothing can follow it."""
    if len(data) != 1 or not data[0].rstrip().endswith("}"):
        return False
    try:
        return isinstance(json.loads(data[0]), dict)
    except (ValueError, RecursionError):
        return False


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    r"""Yield the lines of a stream, without their ends: \n, \r or \r\n, of which a cut may part the two."""
    line, after_return, first = bytearray(), False, True
    for piece in pieces:
        if not piece:
            continue
        start = 1 if after_return and piece.startswith(b"\n") else 0
        after_return = piece.endswith(b"\r")
        begun, *others = _LINE_END.split(piece[start:])
        line += begun
        for other in others:
            yield _decoded(line, first)
            line, first = bytearray(other), False
        if len(line) > LONGEST_EVENT:
            raise EventTooLongError
    if line:
        yield _decoded(line, first)


def _decoded(line: bytearray, first: bool) -> str:
    if len(line) > LONGEST_EVENT:
        raise EventTooLongError
    text = line.decode("utf-8", "replace")
    return text.removeprefix("\ufeff") if first else text

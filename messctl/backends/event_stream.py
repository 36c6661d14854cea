"""Server-sent events with one JSON document each, as servers stream their answers.

Source: the HTML standard, "Server-sent events", of which only `data` lines are used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

LONGEST_LINE = 2**22
"""The most bytes in one line; no piece of an answer is longer."""
DONE = "[DONE]"


class NotEventsError(Exception):
    """A line is longer than LONGEST_LINE, or its data are not a JSON object."""


def read_events(pieces: Iterable[bytes]) -> Iterator[dict[str, Any] | None]:
    r"""Yield the document of each event, and None for each other line, until the stream ends or `[DONE]` comes.

    `pieces` may be cut anywhere. A line ends with \n or \r\n only: other line ends of Unicode may be part of an answer.
    Raises NotEventsError.
    """
    for line in _lines(pieces):
        name, _, value = line.partition(":")
        if name != "data":
            yield None
            continue
        if value.strip() == DONE:
            return
        try:
            document = json.loads(value)
        except (ValueError, RecursionError):
            raise NotEventsError from None
        if not isinstance(document, dict):
            raise NotEventsError
        yield document


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    rest = bytearray()
    for piece in pieces:
        rest += piece
        if len(rest) > LONGEST_LINE:
            raise NotEventsError
        *lines, last = rest.split(b"\n")
        rest = bytearray(last)
        yield from (line.decode("utf-8", "replace").rstrip("\r") for line in lines)
    if rest:
        yield rest.decode("utf-8", "replace").rstrip("\r")

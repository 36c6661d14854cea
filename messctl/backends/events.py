"""Server-sent events whose data are JSON documents, as answers are streamed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

LONGEST_LINE = 2**22
DONE = "[DONE]"


class NotEventsError(Exception):
    """A line is longer than any piece of an answer, or what it says is no JSON document."""


def documents(pieces: Iterable[bytes]) -> Iterator[dict[str, Any] | None]:
    """Yield the document of every event, and None for every other line, until the end of the stream or `[DONE]`.

    Lines end with \\n or \\r\\n alone: what else Unicode takes for the end of a line may stand in an answer. Raises
    NotEventsError.
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
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) > LONGEST_LINE:
            raise NotEventsError
        *lines, rest = held.split(b"\n")
        held = bytearray(rest)
        yield from (line.decode("utf-8", "replace").rstrip("\r") for line in lines)
    if held:
        yield held.decode("utf-8", "replace").rstrip("\r")

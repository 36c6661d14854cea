"""The turns of a chat: lines of standard input, and turns of several lines."""

from __future__ import annotations

import sys
from typing import Protocol

from messctl.cli.arguments import MOST_BYTES
from messctl.errors import UsageError

QUOTE = '"""'
"""A turn that begins with this goes on over several lines, until it ends with this."""


class Turns(Protocol):
    """A source of turns."""

    interactive: bool
    """Whether a user types the turns. Then Ctrl-C ends an answer, not the chat."""

    def read(self) -> str:
        """Return the next turn, unchanged. Raises EOFError after the last one, UsageError if a turn is invalid."""


class Lines:
    """The lines of standard input: one turn per line. Each is read when it is needed."""

    interactive = False

    def read(self) -> str:
        """See `Turns`."""
        turn = self._line()
        while is_open(turn):
            try:
                turn += self._line()
            except EOFError:
                raise UsageError(
                    f"standard input ends in a turn that began with {QUOTE}; end it with {QUOTE}"
                ) from None
            if len(turn) > MOST_BYTES:
                raise UsageError(_TOO_LONG)
        return turn

    def _line(self) -> str:
        data = sys.stdin.buffer.readline(MOST_BYTES + 1)
        if not data:
            raise EOFError
        if len(data) > MOST_BYTES:
            while data and not data.endswith(b"\n"):
                data = sys.stdin.buffer.readline(MOST_BYTES)
            raise UsageError(_TOO_LONG)
        return data.decode("utf-8", "replace")


_TOO_LONG = f"a turn is larger than {MOST_BYTES // 10**6} MB; no model's context is that long; shorten it"


def is_open(text: str) -> bool:
    """Return whether a turn goes on in the next line."""
    text = text.strip()
    return text.startswith(QUOTE) and not (len(text) >= 2 * len(QUOTE) and text.endswith(QUOTE))


def unquoted(text: str) -> str | None:
    """Return the text between the quotes of a turn of several lines; None for any other turn."""
    text = text.strip()
    return text[len(QUOTE) : -len(QUOTE)].strip() if text.startswith(QUOTE) and not is_open(text) else None

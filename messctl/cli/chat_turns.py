"""The turns of a chat: lines of standard input, and turns of several lines."""

from __future__ import annotations

from typing import Protocol

from messctl.cli.arguments import MOST_BYTES
from messctl.cli.standard_input import TOO_LONG, InputLines
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

    def __init__(self) -> None:
        self._lines = InputLines()

    def read(self) -> str:
        """See `Turns`."""
        turn = self._lines.next()
        if turn is None:
            raise EOFError
        while is_open(turn):
            line = self._lines.next()
            if line is None:
                raise UsageError(f"standard input ends in a turn that began with {QUOTE}; end it with {QUOTE}")
            turn += line
            if len(turn) > MOST_BYTES:
                raise UsageError(TOO_LONG)
        return turn


def is_open(text: str) -> bool:
    """Return whether a turn goes on in the next line."""
    text = text.strip()
    return text.startswith(QUOTE) and not (len(text) >= 2 * len(QUOTE) and text.endswith(QUOTE))


def unquoted(text: str) -> str | None:
    """Return the text between the quotes of a turn of several lines; None for any other turn."""
    text = text.strip()
    return text[len(QUOTE) : -len(QUOTE)].strip() if text.startswith(QUOTE) and not is_open(text) else None

"""What is said in a chat, turn by turn, where nobody sits at a terminal; and how a turn spans lines."""

from __future__ import annotations

import sys
from typing import Protocol

from messctl.cli.arguments import MOST_BYTES
from messctl.errors import UsageError

QUOTE = '"""'
"""A turn that begins so goes on over lines until it ends so."""


class Turns(Protocol):
    """Where turns come from."""

    by_hand: bool
    """Whether somebody types them: then Ctrl-C ends an answer, and not the chat."""

    def read(self) -> str:
        """Return the next turn as it was said. Raises EOFError after the last, UsageError for one that is none."""


class Lines:
    """One turn per line of standard input, read when it is needed."""

    by_hand = False

    def read(self) -> str:
        """See `Turns`."""
        turn = self._line()
        while is_open(turn):
            try:
                turn += self._line()
            except EOFError:
                raise UsageError(f"standard input ends within a turn that began with {QUOTE}") from None
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


_TOO_LONG = f"a turn is larger than {MOST_BYTES // 10**6} MB; no model's context holds that"


def is_open(text: str) -> bool:
    """Return whether a turn goes on in the next line."""
    text = text.strip()
    return text.startswith(QUOTE) and not (len(text) >= 2 * len(QUOTE) and text.endswith(QUOTE))


def unquoted(text: str) -> str | None:
    """Return the text between the quotes of a turn that spans lines, None for any other turn."""
    text = text.strip()
    return text[len(QUOTE) : -len(QUOTE)].strip() if text.startswith(QUOTE) and not is_open(text) else None

"""Standard input as text: all of it, or line by line. A byte order mark tells the encoding; without one it is UTF-8."""

from __future__ import annotations

import sys

from messctl.cli.arguments import MOST_BYTES
from messctl.errors import UsageError
from messctl.inputs import begins_mark, check_marked, decoded, encoding_of

NAME = "standard input"
TOO_LONG = f"a turn is larger than {MOST_BYTES // 10**6} MB; no model's context is that long; shorten it"


def read_all() -> str:
    """Return all of standard input. Raises UsageError if it is too long, or UTF-16 without a mark."""
    data = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise UsageError(f"{NAME} is larger than {MOST_BYTES // 10**6} MB; no model's context holds that")
    return decoded(data, NAME)


class InputLines:
    """The lines of standard input, each read when it is needed. The first bytes tell the encoding of all."""

    def __init__(self) -> None:
        self._encoding: str | None = None
        self._begun = b""

    def next(self) -> str | None:
        """Return the next line, with its end; None after the last one.

        Raises UsageError if the line is longer than a prompt may be, or UTF-16 without a mark.
        """
        encoding = self._encoding = self._encoding or self._look()
        data = self._line("\n".encode(encoding))
        if encoding == "utf-8":
            check_marked(data, NAME)
        return data.decode(encoding, "replace") if data else None

    def _look(self) -> str:
        """Read the byte order mark, if there is one, and return the encoding."""
        head = b""
        while begins_mark(head) and (byte := sys.stdin.buffer.read(1)):
            head += byte
        encoding, mark = encoding_of(head)
        self._begun = head[mark:]
        return encoding

    def _line(self, end: bytes) -> bytes:
        """Return the bytes up to the next `end`. Raises UsageError if they are too many, and drops them."""
        unit, line, too_long = len(end), bytearray(self._begun), False
        self._begun = b""
        while len(line) % unit or not line.endswith(end):
            source = sys.stdin.buffer
            piece = source.readline(MOST_BYTES) if unit == 1 else source.read(unit - len(line) % unit)
            if not piece:
                break
            line += piece
            if len(line) > MOST_BYTES:
                too_long = True
                del line[:-unit]
        if too_long:
            raise UsageError(TOO_LONG)
        return bytes(line)

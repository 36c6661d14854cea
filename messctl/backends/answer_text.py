"""An answer's text while it is generated: made of whole characters, and cut at the first stop string."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from messctl.backends.base import OnText


class AnswerText:
    """Builds the text of an answer from the bytes of its tokens, and gives each new piece to `on_text`.

    A character that spans tokens waits until it is complete; invalid bytes become U+FFFD. Text that may be the
    beginning of a string in `stops` waits until that is decided. A stop string is not part of the answer.
    """

    def __init__(self, stops: Iterable[str] = (), on_text: OnText | None = None) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._on_text = on_text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[str] = []
        self._waiting = ""
        self._stopped = False

    def add(self, piece: bytes) -> bool:
        """Add a token's bytes; return whether the text now contains a stop string, which ends the answer."""
        return self._add_text(self._decoder.decode(piece))

    def finish(self) -> str:
        """Add what still waits, and return the whole answer."""
        if not self._stopped and not self._add_text(self._decoder.decode(b"", final=True)):
            self._emit(self._waiting)
        self._waiting = ""
        return "".join(self._pieces)

    def _add_text(self, text: str) -> bool:
        if not self._stops:
            self._emit(text)
            return False
        text = self._waiting + text
        found = [place for place in map(text.find, self._stops) if place >= 0]
        if found:
            self._stopped, self._waiting = True, ""
            self._emit(text[: min(found)])
            return True
        keep = max(_overlap(text, stop) for stop in self._stops)
        self._waiting = text[len(text) - keep :]
        self._emit(text[: len(text) - keep])
        return False

    def _emit(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            if self._on_text is not None:
                self._on_text(text)


def _overlap(text: str, stop: str) -> int:
    """Return how many of the last characters of `text` may be the beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)

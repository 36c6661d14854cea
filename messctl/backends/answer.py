"""An answer's text as it grows: whole characters, cut where a stop string begins."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from messctl.backends.base import OnText


class AnswerText:
    """Puts the text of an answer together from the bytes of its tokens, and tells `on_text` of every new piece.

    A character that spans tokens is held until it is whole, bytes that are no character become U+FFFD, and what
    may be the beginning of a stop string is held until it is known whether it is.
    """

    def __init__(self, stops: Iterable[str] = (), on_text: OnText | None = None) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._on_text = on_text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[str] = []
        self._held = ""
        self._stopped = False

    def add(self, piece: bytes) -> bool:
        """Take a token's bytes; return whether a stop string was met, with which the answer ends."""
        return self._take(self._decoder.decode(piece))

    def finish(self) -> str:
        """Let go of all that was held, and return the whole answer."""
        if not self._stopped and not self._take(self._decoder.decode(b"", final=True)):
            self._say(self._held)
        self._held = ""
        return "".join(self._pieces)

    def _take(self, text: str) -> bool:
        if not self._stops:
            self._say(text)
            return False
        text = self._held + text
        found = [place for place in map(text.find, self._stops) if place >= 0]
        if found:
            self._stopped, self._held = True, ""
            self._say(text[: min(found)])
            return True
        keep = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        self._say(text[: len(text) - keep])
        return False

    def _say(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            if self._on_text is not None:
                self._on_text(text)


def _overlap(text: str, stop: str) -> int:
    """Return how many of the last characters of `text` may be the beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)

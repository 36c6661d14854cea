"""An answer's text while it is generated: made of whole characters, cut at the first stop string, without thinking."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from messctl.backends.base import OnText
from messctl.backends.thinking import Thoughts, overlap, split_unopened
from messctl.records import is_blank


class AnswerText:
    """Builds the text of an answer from the bytes of its tokens, and gives each new piece to `on_text`.

    A character that spans tokens waits until it is complete; invalid bytes become U+FFFD. Text that may be the
    beginning of a string in `stops` waits until that is decided. A stop string is not part of the answer. Nor is what
    the model thinks: the part in tags at the beginning (see `Thoughts`), and what `add_thinking` gets. It goes to
    `on_thinking`. If the prompt `opened` a tag, the text begins within the thinking. A blank answer is never given to
    `on_text`.
    """

    def __init__(
        self,
        stops: Iterable[str] = (),
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
        opened: str | None = None,
    ) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._on_text = on_text
        self._on_thinking = on_thinking
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._thoughts = Thoughts(opened)
        self._thinking: list[str] = []
        self._answer: list[str] = []
        self._waiting = ""
        self._stopped = False

    @property
    def thinking(self) -> str:
        """What the model thought so far, without the blank around it. All of it is known after `finish`."""
        return "".join(self._thinking).strip()

    def add(self, piece: bytes) -> bool:
        """Add a token's bytes; return whether the text now contains a stop string, which ends the answer."""
        return self._add_text(self._decoder.decode(piece))

    def add_thinking(self, text: str) -> None:
        """Add thinking that the server keeps apart from the answer, which then does not begin within it."""
        self._thoughts.begin_outside()
        self._think(text)

    def finish(self) -> str:
        """Add what still waits, and return the whole answer.

        If the text never opened its thinking but closed it, the answer is what comes after. `on_text` has received
        the thinking, too, since nobody could know.
        """
        if not self._stopped and not self._add_text(self._decoder.decode(b"", final=True)):
            self._emit(self._waiting)
        self._waiting = ""
        thought, said = self._thoughts.finish()
        self._think(thought)
        self._say(said)
        answer = "".join(self._answer)
        if not self._thinking:
            thought, answer = split_unopened(answer)
            self._thinking, self._answer = [thought], [answer]
        return answer

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
        keep = max(overlap(text, stop) for stop in self._stops)
        self._waiting = text[len(text) - keep :]
        self._emit(text[: len(text) - keep])
        return False

    def _emit(self, text: str) -> None:
        thought, said = self._thoughts.split(text)
        self._think(thought)
        self._say(said)

    def _think(self, text: str) -> None:
        if text:
            self._thinking.append(text)
            if self._on_thinking is not None:
                self._on_thinking(text)

    def _say(self, text: str) -> None:
        if text:
            blank = not self._answer and is_blank(text)
            self._answer.append(text)
            if self._on_text is not None and not blank:
                self._on_text(text)

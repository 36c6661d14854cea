"""The stream of one answer, from the backend that generates it to the function that receives it."""

from __future__ import annotations

from messctl.backends.base import OnText


class AnswerStream:
    """Passes the text of an answer on to `on_text`, piece by piece, and stores what it has passed on.

    Give `listener` to a backend. It is None if `on_text` is None, and then the stream stays empty.
    """

    def __init__(self, on_text: OnText | None) -> None:
        self._on_text = on_text
        self._pieces: list[str] = []
        self.listener: OnText | None = None if on_text is None else self._pass_on

    @property
    def started(self) -> bool:
        """Whether any text was passed on."""
        return bool(self._pieces)

    @property
    def text(self) -> str:
        """All the text that was passed on so far."""
        return "".join(self._pieces)

    def _pass_on(self, text: str) -> None:
        # Stored first: an `on_text` that raises has received this piece.
        self._pieces.append(text)
        if self._on_text is not None:
            self._on_text(text)

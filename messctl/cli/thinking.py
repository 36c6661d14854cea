"""What a model thinks before its answer, as `--show-thinking` shows it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.text import Text

from messctl.cli.answer import visible
from messctl.cli.output import progress_console, warn
from messctl.display.text import plain

if TYPE_CHECKING:
    from messctl.backends.answer_stream import AnswerStream
    from messctl.live.router import Answered

Write = Callable[[str], None]


class ShownThinking:
    """Writes thinking on stderr as it comes, dim on a terminal, and a blank line after it. Stdout keeps the answer.

    `listener` gets the thinking; it is None unless thinking is to be shown.
    """

    def __init__(self, *, show: bool) -> None:
        self.listener: Write | None = self._write if show else None
        self._console = progress_console()
        self._begun = False
        self._blank = ""

    def before(self, write: Write) -> Write:
        """Return `write`, the writer of the answer, which first ends the thinking."""

        def end_and_write(text: str) -> None:
            self.end()
            write(text)

        return end_and_write

    def end(self) -> None:
        """End the thinking, if any was shown since the last time."""
        if self._begun:
            self._console.print("\n")
        self._begun, self._blank = False, ""

    def _write(self, text: str) -> None:
        """Write a piece; blank waits until more follows, so that none is at the beginning or the end."""
        text = self._blank + text if self._begun else text.lstrip()
        shown = text.rstrip()
        self._blank = text[len(shown) :]
        if shown:
            self._begun = True
            style = "dim" if sys.stderr.isatty() else ""
            self._console.print(Text(visible(shown), style), end="", soft_wrap=True)


def warn_of_shown(stream: AnswerStream, answered: Answered) -> None:
    """Warn if thinking was shown as a part of the answer, since only its end was marked."""
    if stream.started and stream.text != answered.completion.answer:
        warn(
            f"model {plain(repr(answered.decision.served))}: the text before </think> is its thinking, and no part of "
            "the answer; set thinks: true in zoo.yaml, so that it is not shown as the answer"
        )

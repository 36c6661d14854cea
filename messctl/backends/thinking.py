"""What a model thinks before it answers, told apart from the answer by the tags around it.

Source: the chat templates of models that think; DeepSeek-R1, Qwen3 and many others write `<think>…</think>`.
"""

from __future__ import annotations

import enum

from messctl.records import blank_size, is_blank

OPEN, CLOSE = "<think>", "</think>"
_FENCE = "```"
_AFTER_A_MENTION = "'\"`)]},.;:!?>"
"""Characters behind a tag that the text only mentions."""


class _Part(enum.Enum):
    BEGINNING, THINKING, BETWEEN, ANSWER = range(4)


class Thoughts:
    """Splits a text, which comes in pieces, into the thinking at its beginning and the answer behind it.

    A text that begins with OPEN is thinking up to CLOSE, or to its end without CLOSE. The blank before OPEN and the
    blank lines after CLOSE belong to neither part. Anywhere else, the tags are text. If the text begins `inside`, the
    prompt has opened the tag already, and the text may repeat it. What cannot be decided yet waits for the next piece.
    """

    def __init__(self, *, inside: bool = False) -> None:
        self._part = _Part.BEGINNING
        self._untagged = _Part.THINKING if inside else _Part.ANSWER
        self._waiting = ""

    def begin_outside(self) -> None:
        """Let a text that has not begun begin outside the thinking, since that comes by itself."""
        self._untagged = _Part.ANSWER

    def split(self, text: str) -> tuple[str, str]:
        """Add a piece; return the next thinking and the next text of the answer."""
        text, self._waiting = self._waiting + text, ""
        thought = ""
        if self._part is _Part.BEGINNING:
            start = text[blank_size(text) :]
            if OPEN.startswith(start) and start != OPEN:
                self._waiting = text
                return "", ""
            if start.startswith(OPEN):
                self._part, text = _Part.THINKING, start[len(OPEN) :]
            else:
                self._part = self._untagged
        if self._part is _Part.THINKING:
            thought, closed, text = text.partition(CLOSE)
            if not closed:
                known = len(thought) - overlap(thought, CLOSE)
                self._waiting = thought[known:]
                return thought[:known], ""
            self._part = _Part.BETWEEN
        if self._part is _Part.BETWEEN:
            if is_blank(text):
                self._waiting = text
                return thought, ""
            self._part, text = _Part.ANSWER, _without_blank_lines(text)
        return thought, text

    def finish(self) -> tuple[str, str]:
        """Return the last thinking and the last text of the answer: what still waits."""
        waiting, self._waiting = self._waiting, ""
        part = self._untagged if self._part is _Part.BEGINNING else self._part
        return waiting if part is _Part.THINKING else "", waiting if part is _Part.ANSWER else ""


def split_unopened(text: str) -> tuple[str, str]:
    """Return the thinking and the answer of a whole text in which only CLOSE may appear.

    Some servers leave out the OPEN that is in their prompt. The first CLOSE ends the thinking, unless the text speaks
    of it: there is an OPEN before it, it is in a block of code or in quotes, or it is a word in a line.
    """
    thought, closed, answer = text.partition(CLOSE)
    if not closed or OPEN in thought or thought.count(_FENCE) % 2:
        return "", text
    line_ends = not answer.partition("\n")[0].strip()
    alone = line_ends or thought.endswith("\n") or not thought
    mentioned = answer[:1] in _AFTER_A_MENTION or (thought[-1:].isspace() and answer[:1].isspace())
    if not alone and mentioned:
        return "", text
    return thought, "" if is_blank(answer) else _without_blank_lines(answer)


def overlap(text: str, beginning: str) -> int:
    """Return how many of the last characters of `text` may be the beginning of `beginning`, but not all of it."""
    longest = min(len(text), len(beginning) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(beginning[:size])), 0)


def _without_blank_lines(text: str) -> str:
    """Return a text without the blank lines at its beginning; the first line keeps its indentation."""
    size = blank_size(text)
    _, line, indentation = text[:size].rpartition("\n")
    return (indentation if line else "") + text[size:]

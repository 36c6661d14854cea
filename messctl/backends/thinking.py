"""What a model thinks before it answers, told apart from the answer by the tags around it.

Source: the chat templates of models that think. DeepSeek-R1, Qwen3 and many others write `<think>…</think>`, Magistral
`[THINK]`, Seed-OSS `<seed:think>`, Kimi-VL `◁think▷`.
"""

from __future__ import annotations

import enum

from messctl.records import blank_size, is_blank

OPEN, CLOSE = "<think>", "</think>"
TAGS = {
    OPEN: CLOSE,
    "<thinking>": "</thinking>",
    "[THINK]": "[/THINK]",
    "<seed:think>": "</seed:think>",
    "◁think▷": "◁/think▷",
}
"""The tags that open thinking, each with the one that closes it."""
_FENCE = "```"
_AFTER_A_MENTION = "'\"`)]},.;:!?>"
"""Characters behind a tag that the text only mentions."""


class _Part(enum.Enum):
    BEGINNING, THINKING, BETWEEN, ANSWER = range(4)


class Thoughts:
    """Splits a text, which comes in pieces, into the thinking at its beginning and the answer behind it.

    A text that begins with a tag of TAGS is thinking up to the tag that closes it, or to its end without that. The
    blank before the thinking and the blank lines after it belong to neither part. Anywhere else, the tags are text. If
    a tag was `opened` before the text, it begins within the thinking, and may repeat the tag. What cannot be decided
    yet waits for the next piece.
    """

    def __init__(self, opened: str | None = None) -> None:
        self._part = _Part.BEGINNING
        self._untagged = _Part.THINKING if opened else _Part.ANSWER
        self._closing = TAGS[opened or OPEN]
        self._waiting = ""
        self._blank: list[str] = []

    def begin_outside(self) -> None:
        """Let a text that has not begun begin outside the thinking, since that comes by itself."""
        self._untagged = _Part.ANSWER

    def split(self, text: str) -> tuple[str, str]:
        """Add a piece; return the next thinking and the next text of the answer."""
        if self._part in (_Part.BEGINNING, _Part.BETWEEN) and not self._waiting and is_blank(text):
            self._blank.append(text)  # not added to the text yet, so that many blank pieces take no more time each
            return "", ""
        text, self._waiting = "".join((*self._blank, self._waiting, text)), ""
        self._blank.clear()
        thought = ""
        if self._part is _Part.BEGINNING:
            start = text[blank_size(text) :]
            tag = next((tag for tag in TAGS if start.startswith(tag)), None)
            if tag:
                self._part, self._closing, text = _Part.THINKING, TAGS[tag], start[len(tag) :]
            elif any(tag.startswith(start) for tag in TAGS):
                self._waiting = text
                return "", ""
            else:
                self._part = self._untagged
        if self._part is _Part.THINKING:
            thought, closed, text = text.partition(self._closing)
            if not closed:
                known = len(thought) - overlap(thought, self._closing)
                self._waiting = thought[known:]
                return thought[:known], ""
            self._part = _Part.BETWEEN
        if self._part is _Part.BETWEEN:
            if is_blank(text):
                self._blank.append(text)
                return thought, ""
            self._part, text = _Part.ANSWER, _without_blank_lines(text)
        return thought, text

    def finish(self) -> tuple[str, str]:
        """Return the last thinking and the last text of the answer: what still waits."""
        waiting, self._waiting = "".join((*self._blank, self._waiting)), ""
        self._blank.clear()
        part = self._untagged if self._part is _Part.BEGINNING else self._part
        return waiting if part is _Part.THINKING else "", waiting if part is _Part.ANSWER else ""


def opened_by(prompt: str) -> str | None:
    """Return the tag that a prompt opens at its end, or None."""
    return next((tag for tag in TAGS if prompt.rstrip().endswith(tag)), None)


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

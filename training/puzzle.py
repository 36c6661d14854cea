"""A puzzle, its grader, and the rule that assigns it to a split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "held-out"]

HELD_OUT_SHARE = 8
"""One in this number of keys is held out."""

_SALT = "zoo-in-the-box"


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A question with one right answer.

    `difficulty` counts from 1. The canonical `key` decides the split. For computed families it is
    the task without its phrasing, so that no held-out task appears in training in other words, or
    with swapped operands. For facts it is the prompt: training has the fact in other words.
    """

    prompt: str
    answer: str
    family: str
    difficulty: int
    key: str = ""


def is_right(answer: str, puzzle: Puzzle) -> bool:
    """Return whether `answer`, without surrounding white space, equals the puzzle's answer."""
    return answer.strip() == puzzle.answer


def split_of(key: str) -> Split:
    """Return the split of a canonical key. It is the same in every process and on every machine."""
    digest = hashlib.sha256(f"{_SALT}/{key}".encode()).digest()
    return "held-out" if digest[0] % HELD_OUT_SHARE == 0 else "train"

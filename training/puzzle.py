"""One puzzle, its grader, and the rule that decides which split it belongs to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "held-out"]

HELD_OUT_SHARE = 8
"""One key in this many is held out."""

_SALT = "zoo-in-the-box"


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A question with one right answer.

    `difficulty` counts from 1. `key` is the canonical form which the split is decided by: for
    computed families the task without its phrasing (so that no held-out task is seen in training
    in other words, nor with its operands swapped), for families of facts the prompt itself (the
    fact must have been seen, but in other words).
    """

    prompt: str
    answer: str
    family: str
    difficulty: int
    key: str = ""


def is_right(answer: str, puzzle: Puzzle) -> bool:
    """Whether `answer`, stripped of surrounding white space, is exactly the puzzle's answer."""
    return answer.strip() == puzzle.answer


def split_of(key: str) -> Split:
    """The split that a canonical key belongs to: the same in every process and on every machine."""
    digest = hashlib.sha256(f"{_SALT}/{key}".encode()).digest()
    return "held-out" if digest[0] % HELD_OUT_SHARE == 0 else "train"

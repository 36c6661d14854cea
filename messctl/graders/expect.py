"""Graders without a reference: an expected text, or a regular expression."""

from __future__ import annotations

import re
from collections.abc import Callable

from messctl import expressions
from messctl.errors import UsageError

Grader = Callable[[str], float]
"""Takes an answer and returns its satisfaction, 0..1. Raises GradeError if it cannot be graded."""


_NUMBER_BEFORE = re.compile(r"(?<!\w)(?<!\d[.,/])(?<![-−])")
_BEFORE = re.compile(r"(?<!\w)(?<!\d[.,/])")
_AFTER = re.compile(r"(?!\w)(?![.,/]\d)")


def expect_text(expected: str) -> Grader:
    """Return a grader that accepts an answer with `expected` in it, as whole words.

    Case and the amount of white space do not matter. "42" is in "It is 42.", but not in "142", "-42" or "42.5".
    Raises UsageError if `expected` is empty.
    """
    wanted = _folded(expected)
    if not wanted:
        raise UsageError("--expect is empty; give the text that a good answer contains")
    # A number must not have an unexpected sign, and must not be part of a decimal or a fraction.
    before = _NUMBER_BEFORE if wanted[0].isdigit() else _BEFORE

    def grade(answer: str) -> float:
        text = _folded(answer)
        at = text.find(wanted)
        while at >= 0:
            if before.match(text, at) and _AFTER.match(text, at + len(wanted)):
                return 1.0
            at = text.find(wanted, at + 1)
        return 0.0

    return grade


def expect_regex(expression: str) -> Grader:
    """Return a grader that accepts an answer in which the regular expression matches somewhere.

    Raises UsageError for an invalid expression; the grader raises GradeError if it takes too long on an answer.
    """
    problem = expressions.check(expression)
    if problem:
        raise UsageError(f"{expressions.quoted(expression)} is not a regular expression ({problem}); correct it")
    return lambda answer: float(expressions.found(expression, answer))


def _folded(text: str) -> str:
    """Return a text without case, and with single spaces. No character becomes two, as ß would become ss."""
    plain = text.lower() if text.isascii() else "".join(_fold(character) for character in text)
    return " ".join(plain.split())


def _fold(character: str) -> str:
    folded = character.casefold()
    return folded if len(folded) == 1 else character

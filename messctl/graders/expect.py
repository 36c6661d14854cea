"""Graders without a reference: an expected text, or a regular expression."""

from __future__ import annotations

import re
from collections.abc import Callable

from messctl import expressions
from messctl.errors import GradeError, UsageError

Grader = Callable[[str], float]
"""Takes an answer and returns its satisfaction, 0..1. Raises GradeError if it cannot be graded."""


LONGEST = 2**20
"""The most characters of an answer, or of a reference, that is graded; a model with a usual limit writes fewer."""
_NUMBER_BEFORE = re.compile(r"(?<!\w)(?<!\d[.,/])(?<![-−])")
_BEFORE = re.compile(r"(?<!\w)(?<!\d[.,/])")
_AFTER = re.compile(r"(?!\w)(?![.,/]\d)")


def expect_text(expected: str) -> Grader:
    """Return a grader that accepts an answer with `expected` in it, as whole words.

    Case and the amount of white space do not matter. "42" is in "It is 42.", but not in "142", "-42" or "42.5".
    Raises UsageError if `expected` is empty, GradeError if it is too long; the grader raises that for an answer.
    """
    check_length(expected, "expected text")
    found = containing(expected)

    def grade(answer: str) -> float:
        check_length(answer)
        return float(found(answer))

    return grade


def containing(expected: str) -> Callable[[str], bool]:
    """Return what tells whether `expected` is in a text, as `expect_text` looks for it; both may have any length."""
    wanted = _folded(expected)
    if not wanted:
        raise UsageError("--expect is empty; give the text that a good answer contains")
    # A number must not have an unexpected sign, and must not be part of a decimal or a fraction.
    before = _NUMBER_BEFORE if wanted[0].isdigit() else _BEFORE
    repeats = wanted[len(wanted) - _period(wanted) :]

    def found(answer: str) -> bool:
        text = _folded(answer)
        at = text.find(wanted)
        while at >= 0:
            end = at + len(wanted)
            if before.match(text, at) and _AFTER.match(text, end):
                return True
            # To look at each place that overlaps this one anew would take quadratic time.
            at = at + len(repeats) if text.startswith(repeats, end) else text.find(wanted, at + 1)
        return False

    return found


def check_length(text: str, what: str = "answer") -> None:
    """Raise GradeError for a text that is too long to grade, or to grade by; `what` it is."""
    if len(text) > LONGEST:
        raise GradeError(f"the {what} has {len(text):,} characters; only up to {LONGEST:,} are graded; shorten it")


def expect_regex(expression: str) -> Grader:
    """Return a grader that accepts an answer in which the regular expression matches somewhere.

    Raises UsageError for an invalid expression; the grader raises GradeError if it takes too long on an answer.
    """
    problem = expressions.check(expression)
    if problem:
        raise UsageError(f"{expressions.quoted(expression)} is not a regular expression ({problem}); correct it")
    return lambda answer: float(expressions.found(expression, answer))


def _period(text: str) -> int:
    """Return by how many characters, ≥ 1, a text must move to match itself again: 2 for "ababa", 3 for "abc".

    It is found as Knuth, Morris and Pratt do, in linear time.
    """
    matched = [0]
    for at in range(1, len(text)):
        length = matched[-1]
        while length and text[length] != text[at]:
            length = matched[length - 1]
        matched.append(length + (text[length] == text[at]))
    return len(text) - matched[-1]


def _folded(text: str) -> str:
    """Return a text without case, and with single spaces. No character becomes two, as ß would become ss."""
    plain = text.lower() if text.isascii() else "".join(_fold(character) for character in text)
    return " ".join(plain.split())


def _fold(character: str) -> str:
    folded = character.casefold()
    return folded if len(folded) == 1 else character

"""Graders: whether an answer satisfies, judged by a rule."""

from __future__ import annotations

import re
from collections.abc import Callable

from messctl.errors import UsageError

Grader = Callable[[str], float]
"""Takes an answer and returns its satisfaction, 0..1."""


def expect_text(expected: str) -> Grader:
    """Return a grader that is satisfied where `expected` stands in the answer as words of its own.

    Case and the width of white space do not matter; "42" is in "It is 42." but not in "142", "-42" or "42.5".
    Raises UsageError for an empty expectation.
    """
    words = expected.split()
    if not words:
        raise UsageError("--expect is empty; give the text that a good answer holds")
    body = r"\s+".join(re.escape(word) for word in words)
    # A number has no sign before it that was not expected, and is no part of a decimal or a fraction.
    unsigned = r"(?<![-−])" if words[0][0].isdigit() else ""
    pattern = re.compile(rf"(?<!\w)(?<!\d[.,/]){unsigned}(?:{body})(?!\w)(?![.,/]\d)", re.IGNORECASE)
    return lambda answer: float(pattern.search(answer) is not None)


def expect_regex(expression: str) -> Grader:
    """Return a grader that is satisfied where the regular expression matches somewhere in the answer.

    Raises UsageError for an expression that is none.
    """
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UsageError(f"{expression!r} is not a regular expression ({error}); mend it") from None
    return lambda answer: float(pattern.search(answer) is not None)

"""Graders without a reference: an expected text, or a regular expression."""

from __future__ import annotations

import re
from collections.abc import Callable

from messctl.errors import UsageError

Grader = Callable[[str], float]
"""Takes an answer and returns its satisfaction, 0..1."""


def expect_text(expected: str) -> Grader:
    """Return a grader that accepts an answer with `expected` in it, as whole words.

    Case and the amount of white space do not matter. "42" is in "It is 42.", but not in "142", "-42" or "42.5".
    Raises UsageError if `expected` is empty.
    """
    words = expected.split()
    if not words:
        raise UsageError("--expect is empty; give the text that a good answer contains")
    body = r"\s+".join(re.escape(word) for word in words)
    # A number must not have an unexpected sign, and must not be part of a decimal or a fraction.
    unsigned = r"(?<![-−])" if words[0][0].isdigit() else ""
    pattern = re.compile(rf"(?<!\w)(?<!\d[.,/]){unsigned}(?:{body})(?!\w)(?![.,/]\d)", re.IGNORECASE)
    return lambda answer: float(pattern.search(answer) is not None)


def expect_regex(expression: str) -> Grader:
    """Return a grader that accepts an answer in which the regular expression matches somewhere.

    Raises UsageError for an invalid expression.
    """
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UsageError(f"{expression!r} is not a regular expression ({error}); correct it") from None
    return lambda answer: float(pattern.search(answer) is not None)

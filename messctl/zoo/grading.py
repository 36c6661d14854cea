"""zoo.yaml's `grader`: the name of a grader that compares with a reference, or a regular expression."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from messctl import expressions
from messctl.errors import did_you_mean
from messctl.zoo.schema import KEYS, Place, Text, quoted

GRADERS = ("exact", "contains", "regex", "numeric", "choice")
"""The graders that compare an answer with a reference; `messctl.graders` has them by these names."""
NONE, JUDGE = "none", "judge"
WORDS = re.compile(r"[\w -]+")
"""A text in which nothing but its letters says that it is meant as a regular expression."""


@dataclass(frozen=True, slots=True)
class Grading:
    """How answers are graded: by the grader `name`, which needs a reference, or by the regular expression `pattern`.

    One of the two is None. `doubt` says why a pattern may be meant as something else; None if nothing speaks for it.
    """

    name: str | None = None
    pattern: str | None = None
    doubt: str | None = None


@dataclass(frozen=True, slots=True)
class GradingRule:
    """The rule for the grader: a name, `{regex: an expression}`, or the old form, an expression as it is."""

    wanted: ClassVar[str] = f"{', '.join(GRADERS)}, {NONE}, or {{regex: an expression}}"

    def read(self, place: Place) -> Grading | None:
        """See `Rule`."""
        if place.empty:
            return None
        if place.kind == KEYS:
            below = place.entries(("regex",)).get("regex")
            if below is None:
                raise place.error(f"{place.name} has no regex; it must be {self.wanted}")
            return Grading(pattern=_expression(below))
        text = place.value()
        if Text().problem(text):
            raise place.error(f"{place.name} is {quoted(text)}; it must be {self.wanted}")
        if text == JUDGE:
            raise place.error(
                f"{place.name} is {text!r}, which needs a model that grades; name both to `messctl record`, with "
                f"--grader {JUDGE} --judge MODEL"
            )
        if text in (*GRADERS, NONE):
            return None if text == NONE else Grading(name=text)
        return Grading(pattern=_expression(place), doubt=_doubt(place, text))

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        return None if value is None or isinstance(value, Grading) else self.wanted


def _expression(place: Place) -> str:
    """Return the regular expression at a place. Raises ConfigError if it is not one."""
    text = Text().read(place) or ""
    problem = expressions.check(text)
    if problem:
        raise place.error(f"{place.name} is not a valid regular expression ({problem}); correct it")
    return text


def _doubt(place: Place, text: str) -> str | None:
    if not WORDS.fullmatch(text):
        return None
    return str(
        place.error(
            f"{place.name} {text!r} is taken for a regular expression{did_you_mean(text.lower(), GRADERS)}; "
            f"write {{regex: {text!r}}} if it is one, or a grader's name: {', '.join(GRADERS)}"
        )
    )

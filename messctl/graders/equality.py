"""Equality: when two answers to one request count as equal, so that they are right or wrong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from messctl.graders.expect import LONGEST
from messctl.graders.numbers import normalized
from messctl.graders.reference import final_number, option_letter

Form = Callable[[str], str | None]
"""Takes an answer, and returns what it shares with equal ones; None if it is equal to no other."""

_OUTER = " .,;:!?\"'`´()[]{}<>*_…„“”‚‘’«»‹›。、「」『』¡¿"
"""What may stand around an answer and says nothing. A sign, a currency or a `#` says something: −5 is not 5."""


def text(answer: str) -> str | None:
    """Return the words, without case, and without white space, quotes, brackets and stops around them."""
    words = " ".join(normalized("NFKC", answer).casefold().split())
    return words.strip(_OUTER) or words or None


def numeric(answer: str) -> str | None:
    """Return the final number, as the grader `numeric` finds it."""
    found = final_number(answer)
    return None if found is None else str(found)


def choice(answer: str) -> str | None:
    """Return the option letter, as the grader `choice` finds it."""
    return option_letter(answer)


def none(_answer: str) -> str | None:
    """Return None: no two answers are equal."""
    return None


FORMS: Mapping[str, Form] = {form.__name__: form for form in (text, numeric, choice, none)}


def groups(answers: Sequence[str | None], form: Form) -> list[int]:
    """Return a number for each answer to one request, ≥ 0, that equal answers share.

    None is equal to no other, nor is an answer that is too long to grade.
    """
    numbers: dict[object, int] = {}
    keys = [None if answer is None or len(answer) > LONGEST else form(answer) for answer in answers]
    return [numbers.setdefault((place,) if key is None else key, len(numbers)) for place, key in enumerate(keys)]

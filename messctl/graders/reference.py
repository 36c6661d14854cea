"""Graders against a reference: `exact`, `contains`, `regex`, `numeric` and `choice`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import wraps

from messctl.errors import UnknownNameError, UsageError
from messctl.graders.expect import check_length, containing, expect_regex
from messctl.graders.numbers import first_number, last_number, normalized, numbers, readable

ReferenceGrader = Callable[[str, str], float]
"""Takes an answer and a reference, and returns the satisfaction, 0..1.

Raises UsageError for an unusable reference, GradeError for an answer that is too long.
"""

_TOLERANCE = Fraction(1, 10**6)  # relative to the reference, for rounding
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_CONCLUDES = re.compile(r"(?:####|\banswer\b(?:\s+(?:is|was))?\s*[:=]?|\bequals\b|=)", re.IGNORECASE)
_LETTER = r"[A-Za-z]"
_NO_WORDS = frozenset("ABCDEFGHJKLMNOPQRSTUVWXYZ")
_ALONE = re.compile(rf"[\s*_(\[\"'`]*({_LETTER})[\s*_)\].:,;\"'`]*")
_NAMED = re.compile(
    rf"\b(?:answer|option|choice)\b(?:\s++(?:is|was|would be))?\s*+[:=]?[\s*_(\[\"'`]*+({_LETTER})(?![\w'’])",
    re.IGNORECASE,
)
_NOTHING_MORE = re.compile(r"[\s*_)\].:,;!\"'`]*")
_ANOTHER = re.compile(r"[\s)\].:,]*(?:or|and|/)\s*[(\[]?[A-Za-z](?![\w'’])")
_LEADS = re.compile(rf"^[\s*_\"'`]*[(\[]?({_LETTER})[)\].:]")
_FIRST = re.compile(r"^[\s*_\"'`]*[(\[]?([A-HJ-Z]),(?!\s*[(\[]?[A-Z](?![\w'’]))")
_BRACKETED = re.compile(rf"[(\[]({_LETTER})[)\]]")
_STANDING = re.compile(  # an A counts only if it cannot be the article
    r"(?<![\w'’.\-])([B-HJ-Z](?![\w'’\-])"
    r"|A(?=[ \t*_)\]\"'`]*(?:[.,;:!?<\n]|$))|A(?=\s+is\s+(?:the\s+)?(?:correct|right|answer)\b))"
)


def _limited(grader: ReferenceGrader) -> ReferenceGrader:
    @wraps(grader)
    def limited(answer: str, reference: str) -> float:
        check_length(answer)
        check_length(reference, "reference")
        return grader(answer, reference)

    return limited


@_limited
def exact(answer: str, reference: str) -> float:
    """Accept the same text. White space around and inside it and Unicode forms do not matter; case does."""
    return float(_spaced(answer) == _spaced(reference))


@_limited
def contains(answer: str, reference: str) -> float:
    """Accept an answer with the reference in it, as whole words. Case and the script of digits do not matter."""
    return float(containing(readable(reference))(readable(answer)))


@_limited
def regex(answer: str, reference: str) -> float:
    """Accept an answer in which the reference, a regular expression, matches somewhere."""
    return expect_regex(reference)(answer)


@_limited
def numeric(answer: str, reference: str) -> float:
    r"""Accept an answer whose final number is the reference's, to one millionth. Units do not matter.

    The final number is the last one in the last `\boxed{}`. Without that, it is the first one after the last `####`,
    "the answer is" or "=" with a number, and otherwise the last number of all.
    """
    wanted = _reference_number(reference)
    found = final_number(answer)
    if found is None:
        return 0.0
    return float(abs(found - wanted) <= _TOLERANCE * max(abs(wanted), Fraction(1, 10**6)))


@_limited
def choice(answer: str, reference: str) -> float:
    """Accept an answer whose option letter is the reference's.

    The letter is the first found of: in `\\boxed{}`; the whole answer; named ("the answer is (B)"); at the beginning
    ("B) because", "B, because"); the only one in brackets; the only single capital letter that is no word. An answer
    that names two letters is not accepted.
    """
    wanted = _ALONE.fullmatch(_plain(reference)) or _LEADS.match(_plain(reference))
    if wanted is None:
        raise UsageError(f"the reference {reference[:40]!r} is no option letter, such as B; use another grader")
    return float(option_letter(answer) == wanted[1].upper())


REFERENCE_GRADERS: Mapping[str, ReferenceGrader] = {
    grader.__name__: grader for grader in (exact, contains, regex, numeric, choice)
}


def reference_grader(name: str) -> ReferenceGrader:
    """Return the grader with this name. Raises UnknownNameError."""
    if name not in REFERENCE_GRADERS:
        raise UnknownNameError("grader", name, REFERENCE_GRADERS)
    return REFERENCE_GRADERS[name]


def best_grade(grader: ReferenceGrader, answer: str, references: Sequence[str]) -> float:
    """Return the satisfaction by the reference that suits the answer best, 0..1.

    `numeric` and `choice` pass over references that they cannot use, such as "forty-two" beside "42". Raises UsageError
    if there is none that they can use, or if another grader cannot use one.
    """
    grades, unusable = [], UsageError("there is no reference; add one")
    for reference in references:
        try:
            grades.append(grader(answer, reference))
        except UsageError as error:
            if grader not in (numeric, choice):
                raise
            unusable = error
    if not grades:
        raise unusable
    return max(grades)


def _spaced(text: str) -> str:
    return " ".join(normalized("NFC", text).split())


def _plain(text: str) -> str:
    return normalized("NFKC", text).strip()


def _reference_number(reference: str) -> Fraction:
    found = numbers(reference)
    if len(found) != 1:
        raise UsageError(f"the reference {reference[:40]!r} has {len(found)} numbers; `numeric` needs exactly one")
    return found[0]


def final_number(answer: str) -> Fraction | None:
    """Return the final number of an answer."""
    boxed = _BOXED.findall(answer)
    if boxed and (found := last_number(boxed[-1])) is not None:
        return found
    end = len(answer)
    for match in reversed(list(_CONCLUDES.finditer(answer))):
        # What follows a later conclusion has no number, so that each piece of the answer is read once.
        if (found := first_number(answer[match.end() : end].partition("\n")[0])) is not None:
            return found
        end = match.start()
    return last_number(answer)


def option_letter(answer: str) -> str | None:
    """Return the option letter of an answer, in upper case."""
    text = _plain(answer)
    boxed = _BOXED.findall(text)
    if boxed:
        text = re.sub(r"\\(?:text|mathrm|mathbf|textbf)\s*", "", boxed[-1]).strip("{} ")
    alone = _ALONE.fullmatch(text)
    if alone:
        return alone[1].upper()
    named = [
        match
        for match in _NAMED.finditer(text)
        if match[1] in _NO_WORDS
        or _NOTHING_MORE.fullmatch(text, match.end())  # "the answer is a dog", "Answer: I think"
    ]
    if named:
        last = named[-1]
        return None if _ANOTHER.match(text, last.end()) else last[1].upper()
    leads = _LEADS.match(text)
    if leads and not re.match(r"[\s*_\"'`]*[a-z]\.[a-z]\.", text):  # e.g., i.e.
        return None if _ANOTHER.match(text, leads.end()) else leads[1].upper()
    if first := _FIRST.match(text):
        return first[1]
    for pattern in (_BRACKETED, _STANDING):
        found = {letter.upper() for letter in pattern.findall(text)}
        if found:
            return found.pop() if len(found) == 1 else None
    return None

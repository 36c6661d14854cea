r"""Numbers in text, as people and models write them: `1,234.50`, `−5`, `٤٢`, `3/4`, `\frac{3}{4}`, `6.02×10^23`.

Commas, apostrophes, underscores and narrow spaces between groups of three digits separate thousands. A comma is a
decimal comma if one, two, or at least four digits follow it, or if it follows a leading 0. Points separate thousands if
there are two of them, or if a comma follows. `2½` and `2 1/2` are mixed numbers, and `2^10` is a power. Units with
their exponents, currencies and percent signs are ignored.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Literal

MOST_MARKS = 30
"""The most combining marks on one character."""

_PHRASES = re.compile("([\ufdfa\ufdfb])")
"""Two characters that stand for a phrase, of 18 and 8 characters; no other one stands for more than 6."""
_MINUS = dict.fromkeys(map(ord, "−‒–﹣－"), "-")
_SPACES = dict.fromkeys(map(ord, "\u00a0\u2009\u202f\u2007"), " ")
_PLAINLY = _MINUS | _SPACES | {ord("٫"): ".", ord("٬"): ",", ord("⁄"): "/"}
_MIXED = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞↉])")
_SUPERSCRIPT = re.compile(r"[⁺⁻]?[⁰¹²³⁴-⁹]+")
_LATEX = (
    (re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"(\1)/(\2)"),
    (re.compile(r"\\[dtc]?frac\s*(\d)\s*(\d)"), r"(\1)/(\2)"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\(?:times|cdot)\b"), "×"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,;:! ]"), ""),
    (re.compile(r"\\(?=[$%])"), ""),
)
_WHOLE_AND_PART = r"(?P<whole>\d{1,3})(?: |(?=\())\(?(?P<over>\d{1,3})\)?/\(?(?P<of>\d{1,3})(?![\w/])"
_GROUPS = r"(?!0)\d{1,3}(?P<sep>[,'’_ ])\d{3}(?:(?P=sep)\d{3})*"
_POINTED = r"(?P<pointed>(?!0)\d{1,3}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,}))"
_PLAIN = rf"(?:{_WHOLE_AND_PART}|{_GROUPS}(?!\d)(?:\.\d+)?|{_POINTED}(?!\d)|\d+(?:[.,]\d+)?|\.\d+)"
_EXPONENT_OF_TEN = (
    r"\s*[×⋅·x*]\s*10\s*(?:\^|\*\*)\s*\{?\(?(?P<power>[-+]?\d+)\)?\}?|[eE](?P<exponent>[-+]?\d+)(?![\w.])"
)
_POWER = rf"(?:{_EXPONENT_OF_TEN}|\s*\^\s*\{{?\(?(?P<raised>[-+]?\d+)\)?\}}?)?"
_NO_EXPONENT = "".join(rf"(?<!\^{mark}{sign})" for mark in ("", r"\{", r"\(") for sign in ("", "[-+]"))
_NUMBER = re.compile(
    rf"(?<![\w.]){_NO_EXPONENT}(?P<sign>[-+](?:\s?(?=[$€£¥]))?)?[$€£¥]?\(?(?P<inner>[-+])?(?P<number>{_PLAIN})\)?{_POWER}"
    r"(?:\s?/\s?\(?(?P<under>\d+(?:\.\d+)?)\)?(?![\w/]))?"
)
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")
_DIGIT = re.compile("[0-9]")
_LIMIT = 400  # digits; a longer number is no answer
_EXPONENT = 4  # characters of an exponent, including its sign
_BASE = 20  # digits of the base of a power
_LONGEST_POWER = 10_000  # digits; to compute a longer one takes milliseconds


def normalized(form: Literal["NFC", "NFKC"], text: str) -> str:
    """Return a text in a Unicode form. Of many marks on one character, the first MOST_MARKS stay.

    To sort a run of marks takes quadratic time. The limit is that of Unicode's Stream-Safe Text Format (UAX #15).
    A character that stands for a whole phrase stays as it is, so that a text does not grow to many times its length.
    """
    if text.isascii():
        return text
    pieces = _PHRASES.split("".join(_few_marks(text)))
    pieces[::2] = (unicodedata.normalize(form, piece) for piece in pieces[::2])
    return "".join(pieces)


def readable(text: str) -> str:
    """Return text with plain digits, minus signs and spaces, and without the LaTeX around numbers."""
    text = _SUPERSCRIPT.sub(lambda match: f"^{match[0]}", _MIXED.sub(" ", text.translate(_PLAINLY)))
    text = normalized("NFKC", text).translate(_PLAINLY)
    text = _FOREIGN_DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), text)
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    return text


def numbers(text: str) -> list[Fraction]:
    """Return all numbers in a text as exact fractions, in order."""
    return list(_values(_NUMBER.finditer(readable(text))))


def first_number(text: str) -> Fraction | None:
    """Return the first number in a text, None if there is none."""
    if text.isascii() and not _DIGIT.search(text):
        return None  # soon, because there may be many such texts
    return next(_values(_NUMBER.finditer(readable(text))), None)


def last_number(text: str) -> Fraction | None:
    """Return the last number in a text, None if there is none."""
    return next(_values(reversed(list(_NUMBER.finditer(readable(text))))), None)


def _values(matches: Iterable[re.Match[str]]) -> Iterator[Fraction]:
    return (value for match in matches if (value := _value(match)) is not None)


def _value(match: re.Match[str]) -> Fraction | None:
    written = match["number"]
    if max(len(match[part] or "") for part in ("number", "under")) > _LIMIT:
        return None
    if match["pointed"]:
        written = written.replace(".", "").replace(",", ".")
    elif match["sep"]:
        written = written.replace(match["sep"], "")
    elif re.fullmatch(r"\d+,\d+", written):
        written = written.replace(",", ".")
    power, raised = match["power"] or match["exponent"] or "0", match["raised"] or "1"
    if max(len(power), len(raised)) > _EXPONENT:
        return None
    if match["over"]:
        if not int(match["of"]):
            return None
        value = int(match["whole"]) + Fraction(int(match["over"]), int(match["of"]))
    else:
        value = Fraction(written if not written.startswith(".") else f"0{written}") * Fraction(10) ** int(power)
    if match["raised"]:
        too_long = len(written) > _BASE or len(written) * abs(int(raised)) > _LONGEST_POWER
        if too_long or (not value and int(raised) < 0):
            return None
        value **= int(raised)
    if match["under"]:
        if not (under := Fraction(match["under"])):
            return None
        value /= under
    return -value if _is_negative(match) else value


def _is_negative(match: re.Match[str]) -> bool:
    """Return whether a number has one minus, outside or inside its bracket.

    A minus after another number or word, as in 17-5, is not a sign.
    """
    text, at = match.string, match.start()
    signed = (match["sign"] or "").startswith("-")
    if signed and at and text[at - 1] in ")]}0123456789":
        signed = False
    return signed != (match["inner"] == "-")


def _few_marks(text: str) -> Iterator[str]:
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= MOST_MARKS:
            yield character

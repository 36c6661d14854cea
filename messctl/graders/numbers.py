r"""Numbers in text, as people and models write them: `1,234.50`, `−5`, `٤٢`, `3/4`, `\frac{3}{4}`, `6.02×10^23`.

Commas, apostrophes, underscores and narrow spaces between groups of three digits separate thousands; a comma before
one or two, or four and more, last digits is a decimal comma. Units, currencies and percent signs are left aside.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

_MINUS = dict.fromkeys(map(ord, "−‒–﹣－"), "-")
_SPACES = dict.fromkeys(map(ord, "\u00a0\u2009\u202f\u2007"), " ")
_LATEX = (
    (re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"(\1)/(\2)"),
    (re.compile(r"\\[dtc]?frac\s*(\d)\s*(\d)"), r"\1/\2"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\(?:times|cdot)\b"), "×"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,;:! ]"), ""),
    (re.compile(r"\\(?=[$%])"), ""),
)
_GROUPS = r"\d{1,3}(?:(?P<sep>[,'’_ ])\d{3})(?:(?P=sep)\d{3})*"
_PLAIN = rf"(?:{_GROUPS}(?!\d)(?:\.\d+)?|\d+(?:[.,]\d+)?|\.\d+)"
_POWER = r"(?:\s*[×x*]\s*10\s*\^?\s*\{?\(?(?P<power>[-+]?\d+)\)?\}?|[eE](?P<exponent>[-+]?\d+)(?![\w.]))?"
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<sign>[-+](?:\s?(?=[$€£¥]))?)?[$€£¥]?\(?(?P<inner>[-+])?(?P<number>{_PLAIN})\)?{_POWER}"
    r"(?:\s?/\s?\(?(?P<under>\d+(?:\.\d+)?)\)?(?![\w/]))?"
)
_LIMIT = 400  # digits: whoever writes more is not answering
_EXPONENT = 4  # digits, with the sign


def readable(text: str) -> str:
    """Return text with plain digits, minus signs and spaces, and without the LaTeX around numbers."""
    text = unicodedata.normalize("NFKC", text.translate(_MINUS | _SPACES)).translate(_MINUS | _SPACES)
    text = "".join(_digit(character) for character in text)
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    return text


def numbers(text: str) -> list[Fraction]:
    """Return all numbers of a text, in order, exactly."""
    found = (_value(match) for match in _NUMBER.finditer(readable(text)))
    return [value for value in found if value is not None]


def _value(match: re.Match[str]) -> Fraction | None:
    written = match["number"]
    if match["sep"]:
        written = written.replace(match["sep"], "")
    elif re.fullmatch(r"\d+,\d+", written):
        written = written.replace(",", ".")
    power = match["power"] or match["exponent"] or "0"
    if len(written) > _LIMIT or len(power) > _EXPONENT:
        return None
    value = Fraction(written if not written.startswith(".") else f"0{written}") * Fraction(10) ** int(power)
    if match["under"] and Fraction(match["under"]):
        value /= Fraction(match["under"])
    # A sign that stands after something, as in 17-5, is no sign of this number.
    before = match.string[: match.start()].rstrip()
    signed = match["sign"] == "-" or (match["sign"] or "").startswith("-")
    if signed and before and (before[-1].isalnum() or before[-1] in ")]}"):
        signed = not match.string[: match.start()].endswith((")", "]", "}", *"0123456789"))
    return -value if signed != (match["inner"] == "-") else value


def _digit(character: str) -> str:
    if character.isascii() or not character.isdecimal():
        return character
    return str(unicodedata.decimal(character))

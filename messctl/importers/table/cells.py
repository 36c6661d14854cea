"""The cells of a table: numbers in several notations, words for true and false, and cells that are empty.

A notation that can be read in two ways is refused until the user states which is meant.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from messctl.errors import UsageError
from messctl.importers.base import LARGEST_COUNT, Columns, Place

EMPTY = frozenset(["", "na", "n/a", "#n/a", "nan", "null", "none", "-", "–", "—"])
TRUE = frozenset(["true", "yes", "pass", "passed", "correct", "right", "success", "✓", "✔", "✅"])
FALSE = frozenset(["false", "no", "fail", "failed", "incorrect", "wrong", "failure", "✗", "✘", "❌"])
CURRENCIES = {"$": "USD", "€": "EUR", "£": "GBP", "USD": "USD", "EUR": "EUR", "GBP": "GBP"}
_PLAIN = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COMMA = re.compile(r"[+-]?[0-9]+(?:,[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_GROUPS = {
    ".": re.compile(r"[+-]?[1-9][0-9]{0,2}(?:[,\s'’][0-9]{3})+(?:\.[0-9]+)?"),
    ",": re.compile(r"[+-]?[1-9][0-9]{0,2}(?:[.\s'’][0-9]{3})+(?:,[0-9]+)?"),
}
_CURRENCY = re.compile("|".join(map(re.escape, CURRENCIES)))
_SEPARATORS = re.compile(r"[\s'’,.]")
WIDE_SCALE = 10
"""A scale at least this long cannot be mistaken for 0..1; a column that looks like 0..1 is then refused."""


def is_empty(value: object) -> bool:
    """Return whether a cell holds nothing: null, NaN, or a word for it."""
    if isinstance(value, str):
        return value.strip().lower() in EMPTY
    return value is None or (isinstance(value, float) and math.isnan(value))


def text_number(text: str, decimal: str | None) -> float | None:
    """Return the number that a text is in the notation of a decimal mark, or None if it is none.

    Without a mark, it has no separator of thousands, and its decimal mark is a point.

    >>> text_number("1.234,5", ","), text_number("1,234.5", "."), text_number("1,234", None)
    (1234.5, 1234.5, None)
    """
    text = text.strip().replace("−", "-")
    if decimal in (None, ".") and _PLAIN.fullmatch(text):
        return float(text)
    if decimal == "," and _COMMA.fullmatch(text):
        return float(text.replace(",", "."))
    if decimal and _GROUPS[decimal].fullmatch(text):
        whole, _, part = text.partition(decimal)
        return float(f"{_SEPARATORS.sub('', whole)}.{part or 0}")
    return None


def currencies(text: str) -> set[str]:
    """Return the currencies whose marks or codes a text has."""
    return {CURRENCIES[mark] for mark in _CURRENCY.findall(text)}


def bare_number(text: str) -> str:
    """Return a text without the marks of currencies and without spaces around it."""
    return _CURRENCY.sub("", text).strip()


class Cells:
    """The reading of a table's cells, as the user stated its notation. It notices columns that mix notations."""

    def __init__(self, columns: Columns) -> None:
        self._decimal = columns.decimal
        if self._decimal not in (None, ".", ","):
            raise UsageError(f"--decimal {self._decimal!r}: the decimal mark is . or ,; state one of them")
        self._unit = columns.unit
        self._low, self._high = scale_of(columns.scale) if columns.scale else (0.0, 1.0)
        self._scaled = columns.scale is not None
        self._least = threshold_of(columns.threshold, self._low, self._high) if columns.threshold else None
        self._kinds: dict[tuple[str, str], dict[str, Place]] = {}
        self._most: dict[tuple[str, str], tuple[float, Place]] = {}

    def score(self, at: Place, column: str, value: object, model: str = "") -> float | None:
        """Return a satisfaction in 0..1, or None for an empty cell. Raises SourceError.

        `model` is the model of the score if the column has scores of several.
        """
        if is_empty(value):
            return None
        raw, kind = self._raw_score(at, column, value)
        self._check_kind(at, column, model, kind)
        if kind != "word" and raw > self._most.get((column, model), (-math.inf, at))[0]:
            self._most[column, model] = (raw, at)
        share = (raw - self._low) / (self._high - self._low) + 0.0  # no -0.0 if low scores are good
        if not 0 <= share <= 1:
            advice = "state the range of the scores, such as --scale 0:100, or another column"
            where = f"{self._low:g}..{self._high:g}, the scale" if self._scaled else "0..1"
            raise at.error(f"is {_shown(value)}, but satisfaction must be in {where}", column, advice)
        if self._least is None:
            return share
        return float(raw >= self._least if self._high > self._low else raw <= self._least)

    def _raw_score(self, at: Place, column: str, value: object) -> tuple[float, str]:
        """Return the number of a score and its kind: "word", "percent", "bit" (0 or 1) or "number"."""
        word = str(value).strip().lower() if isinstance(value, (str, bool)) else ""
        if word in TRUE or word in FALSE:
            return self._worded(at, column, word), "word"
        if isinstance(value, str) and word.endswith("%"):
            share = self._number(at, column, value.strip().removesuffix("%"))
            if self._scaled and (self._low, self._high) != (0.0, 100.0):
                raise at.error(f"is {value!r}, but the scale is {self._low:g}:{self._high:g}", column, "state 0:100")
            return (share if self._scaled else share / 100), "percent"
        advice = "turn grades into numbers in the source" if word and not word[0].isdigit() else ""
        number = self._number(at, column, value, advice)
        return number, "bit" if number in (0, 1) else "number"

    def _worded(self, at: Place, column: str, word: str) -> float:
        """Return the score of a word. If low scores are good, true says that what the column is about came to pass."""
        if self._low < self._high:
            return self._high if word in TRUE else self._low
        if word not in ("true", "yes", "false", "no"):
            raise at.error(
                f"is {word!r}, but by the scale {self._low:g}:{self._high:g} low scores are good", column,
                "leave out --scale, or write numbers in the source",
            )  # fmt: skip
        return self._low if word in TRUE else self._high

    def _check_kind(self, at: Place, column: str, model: str, kind: str) -> None:
        """Raise SourceError if a column mixes percent with plain numbers, or words with scores in between."""
        seen = self._kinds.setdefault((column, model), {})
        seen.setdefault(kind, at)
        mixed = ("percent" in seen and len(seen) > 1) or ("word" in seen and ("number" in seen or self._odd(seen)))
        if mixed:
            other = next(place for name, place in seen.items() if name != kind)
            written = {"percent": "per cent", "word": "a word", "bit": "a number", "number": "a number"}[kind]
            raise at.error(f"is {written}, and not what is in {other.unit} {other.row}", column, "write all alike")

    def _odd(self, seen: Mapping[str, Place]) -> bool:
        return "bit" in seen and self._scaled and (self._low, self._high) != (0.0, 1.0)

    def check_scale(self) -> None:
        """Raise SourceError for a column whose scores look like 0..1 though a far wider scale is stated."""
        if abs(self._high - self._low) < WIDE_SCALE or min(self._low, self._high) < 0:
            return
        for (column, model), (most, at) in self._most.items():
            if 0 < most <= 1:
                whose = f" of {model!r}" if model else ""
                raise Place(at.path).error(
                    f"no score{whose} is above {most:g}, though the scale is {self._low:g}:{self._high:g}",
                    column,
                    "bring all scores to one scale in the source",
                )

    def cost(self, at: Place, column: str, value: object) -> float | None:
        """Return a cost, finite and ≥ 0, or None for an empty cell. Raises SourceError."""
        if is_empty(value):
            return None
        if isinstance(value, str) and (marks := currencies(value)):
            if marks != {self._unit}:
                stated = self._unit or "not stated"
                raise at.error(f"is {value!r}, but the unit is {stated}", column, f"state --unit {min(marks)}")
            value = bare_number(value)
        return at.cost(column, self._number(at, column, value))

    def latency(self, at: Place, column: str, value: object) -> float | None:
        """Return seconds, finite and ≥ 0, or None for an empty cell. Raises SourceError."""
        return None if is_empty(value) else at.cost(column, self._number(at, column, value))

    def count(self, at: Place, column: str, value: object) -> int | None:
        """Return a whole number ≥ 0, or None for an empty cell. Raises SourceError."""
        if is_empty(value):
            return None
        number = self._number(at, column, value)
        if not (number.is_integer() and 0 <= number <= LARGEST_COUNT):
            raise at.error(f"is {_shown(value)}, but must be a whole number, 0 or more", column)
        return int(number)

    def _number(self, at: Place, column: str, value: object, advice: str = "") -> float:
        """Return a number. Raises SourceError for anything else, and for a text that has two readings."""
        if not isinstance(value, str):
            number = at.number(column, value, advice or "correct it")
            if number is None or not math.isfinite(number):
                raise at.error(f"is {value}, but must be a finite number", column)
            return number
        number = text_number(value, self._decimal)
        if number is not None and math.isfinite(number):
            return number
        if self._decimal is None and any(text_number(value, mark) is not None for mark in ".,"):
            advice = "state the decimal mark, with --decimal . or --decimal ,"
        raise at.error(f"is the text {value[:40]!r}, but must be a number", column, advice or "correct it")


def scale_of(text: str) -> tuple[float, float]:
    """Return the worst and the best score of a scale such as `0:100`. Raises UsageError."""
    low, colon, high = text.partition(":")
    ends = (text_number(low, "."), text_number(high, "."))
    if not colon or ends[0] is None or ends[1] is None or ends[0] == ends[1]:
        raise UsageError(f"--scale {text!r}: write the worst and the best score, such as 0:100")
    return ends[0], ends[1]


def threshold_of(text: str, low: float, high: float) -> float:
    """Return the score that satisfies, on the scale. Raises UsageError for one outside it, or with two readings.

    A threshold is a score of the scale. From 0 to 1, or with a percent sign, it is a share of the scale.
    """
    share_only = text.strip().endswith("%")
    number = text_number(text.strip().removesuffix("%"), ".")
    if number is None or not math.isfinite(number):
        raise UsageError(f"--threshold {text!r}: write a score, or a share such as 50%")
    if share_only:
        number /= 100
    as_share = low + number * (high - low) if 0 <= number <= 1 else None
    as_score = number if not share_only and min(low, high) <= number <= max(low, high) else None
    if as_share is not None and as_score not in (None, as_share):
        clear = high - low >= WIDE_SCALE and 0 < number < 1
        if not clear:
            raise UsageError(
                f"--threshold {text}: it may be a score or a share of the scale {low:g}:{high:g}; write a share as "
                f"{number * 100:g}%"
            )
        as_score = None
    found = as_score if as_share is None else as_share
    if found is None:
        raise UsageError(f"--threshold {text}: is outside of the scale {low:g}:{high:g}; state a score within it")
    return found


def name_text(at: Place, column: str, value: object) -> str:
    """Return an id or the name of a model: a text without spaces around it, or a whole number. Raises SourceError."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else at.text(column, value)
    if not text.strip():
        raise at.error("is empty", column, "fill it in, or name another column")
    return text.strip()


def prose(at: Place, column: str, value: Any) -> str:
    """Return the text of a prompt or an answer; a chat is the text of its messages. Raises SourceError."""
    if isinstance(value, list) and value:
        parts = [part.get("content") if isinstance(part, dict) and "role" in part else part for part in value]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(parts):
            return "\n\n".join(texts)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not is_empty(value):
        return str(value)
    return "" if is_empty(value) and not isinstance(value, str) else at.text(column, value)


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, (int, float)) else str(value)

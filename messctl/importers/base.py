"""The nouns that every importer shares: a format, its options, and a place in a source."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from messctl.errors import SourceError, did_you_mean
from messctl.importers.text import readable_prompt
from messctl.trace import Row

LARGEST_COUNT = 2**63 - 1  # what an int64 column holds
TRUTHS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the user may choose about reading a source; a format names in `takes` what it understands."""

    allow_pickle: bool = False
    metric: str | None = None
    filter: str | None = None

    def given(self) -> set[str]:
        """Return the names of the options that differ from their defaults."""
        return {name for name in self.__slots__ if getattr(self, name)}


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of benchmark results.

    `rows` yields trace rows from existing files and folders, twice with the same result if called twice; it
    raises SourceError. `cost_unit` and `meter` say what the costs in the source are, where it has any.
    """

    name: str
    summary: str
    rows: Callable[[Sequence[Path], ImportOptions], Iterator[Row]]
    cost_unit: str | None = None
    meter: str = "none"
    takes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class At:
    """A place in a source, and how its values are read there; every error names the file, row and column.

    `row` counts from 1 and is absent where the whole file is meant; `unit` is what the file counts by.
    """

    path: Path
    row: int | None = None
    unit: str = "row"

    def error(self, what: str, column: str | None = None) -> SourceError:
        """Return the error to raise for something wrong here."""
        place = [str(self.path)] if self.row is None else [f"{self.path}: {self.unit} {self.row}"]
        return SourceError(", ".join([*place, *([f"column {column!r}"] if column else [])]) + f": {what}")

    def missing(self, name: str, known: Iterable[object]) -> SourceError:
        """Return the error for a column or key that is not there; it names the nearest that is."""
        return self.error(f"{name!r} is missing{did_you_mean(name, [str(other) for other in known])}")

    def mapping(self, value: object, column: str | None = None) -> Mapping[str, Any]:
        """Return `value`, which must be a JSON object. Raises SourceError."""
        if not isinstance(value, dict):
            raise self.error(f"is {_kind(value)}, but an object {{…}} is expected", column)
        return value

    def key(self, mapping: Mapping[str, Any], name: str) -> Any:
        """Return `mapping[name]`. Raises SourceError, naming the nearest key, where it is missing."""
        if name not in mapping:
            raise self.missing(name, mapping)
        return mapping[name]

    def optional(self, mapping: Mapping[str, Any], name: str) -> Any:
        """Return `mapping[name]` or None. Raises SourceError where a key looks like `name` misspelt."""
        # Stricter than a hint: 'prompt' is not 'prompt_tokens' misspelt, and may stand alone.
        if name not in mapping and difflib.get_close_matches(name, mapping, n=1, cutoff=0.75):
            raise self.missing(name, mapping)
        return mapping.get(name)

    def text(self, column: str, value: object) -> str:
        """Return text: a list of strings, or the repr of one, joined by newlines; "" for nothing.

        Raises SourceError for a value of another kind.
        """
        if value is None:
            return ""
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return "\n".join(value)
        if not isinstance(value, str):
            raise self.error(f"is {_kind(value)}, but text is expected", column)
        return readable_prompt(value)

    def satisfaction(self, column: str, value: object) -> float | None:
        """Return a satisfaction in 0..1, or None for an empty cell; True is 1. Raises SourceError."""
        observed = self.number(column, value)
        if observed is not None and not 0 <= observed <= 1:
            raise self.error(f"is {observed:g}, but satisfaction must be in 0..1", column)
        return observed

    def cost(self, column: str, value: object) -> float | None:
        """Return a cost or a duration, finite and ≥ 0, or None for an empty cell. Raises SourceError."""
        observed = self.number(column, value)
        if observed is not None and not (math.isfinite(observed) and observed >= 0):
            raise self.error(f"is {observed:g}, but it must be finite and not negative", column)
        return observed

    def count(self, column: str, value: object) -> int | None:
        """Return a whole number ≥ 0, such as tokens, or None for an empty cell. Raises SourceError."""
        observed = self.cost(column, value)
        if observed is None:
            return None
        if not (observed.is_integer() and observed <= LARGEST_COUNT):
            raise self.error(f"is {observed:g}, but a whole number is expected", column)
        return int(observed)

    def number(self, column: str, value: object) -> float | None:
        """Return any number, or None for an empty cell. Raises SourceError."""
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        try:
            if isinstance(value, str):
                return TRUTHS.get(value.strip().lower()) if value.strip().lower() in TRUTHS else float(value)
            if isinstance(value, (numbers.Real, Decimal)):
                return float(value)
        except (ValueError, OverflowError):
            pass
        raise self.error(f"is {_kind(value)}, but a number is expected", column)


def _kind(value: object) -> str:
    if isinstance(value, str):
        return f"the text {value[:40]!r}{'…' if len(value) > 40 else ''}"
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")

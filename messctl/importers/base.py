"""What all importers share: a format, its options, and a place in a source file."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

from messctl.errors import SourceError, did_you_mean
from messctl.importers.text import readable_prompt
from messctl.trace import Row

LARGEST_COUNT = 2**63 - 1  # the largest value of an int64 column
MOST_COMPARED = 1000
"""The most keys among which a misspelt one is sought."""
TRUTHS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a table are, by their names. None, or an empty value, means: not stated.

    wide: the columns of satisfaction, if a request is one row: names of columns, which name the models, too, or
        patterns such as `score_{model}`.
    long: whether a row is one answer; `model_column` names its model, `satisfied` its satisfaction.
    cost, answer, tokens_in, tokens_out, latency: a column, or in a wide table a pattern.
    prompt, id: the columns of a request's prompt and of its id.
    threshold: the least score that satisfies, such as "0.5" or "50%".
    scale: the worst and the best score, such as "0:100".
    unit: the unit of the costs.
    duplicates: what counts if a long table has several rows of a request and model: "mean", "first" or "last".
    decimal: the decimal mark of numbers in text, "." or ",".
    delimiter: the character between the cells of a text file.
    skip, header_rows: the lines above the header of a text file, and those of the header.
    ignore: columns that are nothing, though a pattern fits them.
    """

    wide: tuple[str, ...] = ()
    long: bool = False
    model_column: str | None = None
    satisfied: str | None = None
    cost: str | None = None
    prompt: str | None = None
    id: str | None = None
    answer: str | None = None
    tokens_in: str | None = None
    tokens_out: str | None = None
    latency: str | None = None
    threshold: str | None = None
    scale: str | None = None
    unit: str | None = None
    duplicates: str | None = None
    decimal: str | None = None
    delimiter: str | None = None
    skip: int = 0
    header_rows: int = 1
    ignore: tuple[str, ...] = ()

    @classmethod
    def names(cls) -> frozenset[str]:
        """Return the names of all that can be stated."""
        return frozenset(each.name for each in fields(cls))

    def given(self) -> set[str]:
        """Return the names of what is stated."""
        return {each.name for each in fields(self) if getattr(self, each.name) != each.default}


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """The user's choices for reading a source. Each format lists in `takes` those that it supports.

    name: pairs of a folder or file and the name of the model whose results lie there.
    columns: what the columns of a table are.
    unread: gets the columns of a table that nothing reads.
    """

    allow_pickle: bool = False
    metric: str | None = None
    filter: str | None = None
    name: tuple[tuple[str, str], ...] = ()
    columns: Columns = Columns()
    unread: Callable[[Iterable[str]], None] = lambda _: None

    def given(self) -> set[str]:
        """Return the names of the options that differ from their defaults."""
        own = {name for name in ("allow_pickle", "metric", "filter", "name") if getattr(self, name)}
        return own | (self.columns.given() - {"unit"})


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of benchmark results.

    rows: yields trace rows from existing files and folders. It is called twice, and must give the same result both
        times. Raises SourceError.
    cost_unit, meter: the unit and the origin of the costs in the source. Without a unit, the user states it. A source
        without costs has neither, and its meter is "none".
    takes: the names of the options that the format supports.
    """

    name: str
    summary: str
    rows: Callable[[Sequence[Path], ImportOptions], Iterator[Row]]
    cost_unit: str | None = None
    meter: str = "none"
    takes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a source file, and the reading of values there. Every error names the file, row and column.

    row: counts from 1; None means the whole file. unit: what `row` counts: "row", "line" or "record".
    """

    path: Path
    row: int | None = None
    unit: str = "row"

    def error(self, what: str, column: str | None = None, advice: str = "correct it") -> SourceError:
        """Return an error about this place: where, what is wrong, and, in the imperative, what to do."""
        place = str(self.path) if self.row is None else f"{self.path}: {self.unit} {self.row}"
        return SourceError(f"{place}{f', column {column!r}' if column else ''}: {what}; {advice}")

    def missing(self, name: str, known: Iterable[object]) -> SourceError:
        """Return the error for a missing column or key. It names the nearest known one."""
        nearest = did_you_mean(name, [str(other) for other in known])
        return self.error(f"{name!r} is missing{nearest}", advice=f"rename it to {name!r}" if nearest else "add it")

    def mapping(self, value: object, column: str | None = None) -> Mapping[str, Any]:
        """Return `value` if it is a JSON object. Raises SourceError otherwise."""
        if not isinstance(value, dict):
            raise self.error(f"is {_kind(value)}, but must be an object {{…}}", column)
        return value

    def key(self, mapping: Mapping[str, Any], name: str) -> Any:
        """Return `mapping[name]`. Raises SourceError, which names the nearest key, if it is missing."""
        if name not in mapping:
            raise self.missing(name, mapping)
        return mapping[name]

    def optional(self, mapping: Mapping[str, Any], name: str) -> Any:
        """Return `mapping[name]` or None. Raises SourceError if a key looks like a misspelt `name`."""
        # A higher cutoff than for hints: 'prompt' is no misspelt 'prompt_tokens', and may appear without it.
        few = name not in mapping and len(mapping) <= MOST_COMPARED
        if few and difflib.get_close_matches(name, mapping, n=1, cutoff=0.75):
            raise self.missing(name, mapping)
        return mapping.get(name)

    def text(self, column: str, value: object) -> str:
        """Return a text as it is. None becomes "". Raises SourceError for any other value."""
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.error(f"is {_kind(value)}, but must be text", column)
        return value

    def lines(self, column: str, value: object) -> str:
        """Return a text. A list of strings, or its repr, is joined by newlines. None becomes "".

        Only for a format that writes its texts so. Raises SourceError for any other value.
        """
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return "\n".join(value)
        return readable_prompt(self.text(column, value))

    def satisfaction(self, column: str, value: object, advice: str = "correct it") -> float | None:
        """Return a satisfaction in 0..1, or None for an empty cell. True is 1. Raises SourceError with the advice."""
        truth = TRUTHS.get(str(value).strip().lower()) if isinstance(value, (str, bool)) else None
        observed = self.number(column, value, advice) if truth is None else truth
        if observed is not None and not 0 <= observed <= 1:
            raise self.error(f"is {observed:g}, but satisfaction must be in 0..1", column, advice)
        return observed

    def cost(self, column: str, value: object) -> float | None:
        """Return a cost or a duration, finite and ≥ 0, or None for an empty cell. Raises SourceError."""
        observed = self.number(column, value)
        if observed is not None and not (math.isfinite(observed) and observed >= 0):
            raise self.error(f"is {observed:g}, but must be finite and not negative", column)
        return observed

    def count(self, column: str, value: object) -> int | None:
        """Return a whole number ≥ 0, such as tokens, or None for an empty cell. Raises SourceError."""
        observed = self.cost(column, value)
        if observed is None:
            return None
        if not (observed.is_integer() and observed <= LARGEST_COUNT):
            raise self.error(f"is {observed:g}, but must be a whole number", column)
        return int(observed)

    def number(self, column: str, value: object, advice: str = "correct it") -> float | None:
        """Return any number, or None for an empty cell. A truth value is no number. Raises SourceError."""
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        try:
            if isinstance(value, (str, numbers.Real, Decimal)) and not isinstance(value, bool):
                return float(value)
        except (ValueError, OverflowError):
            pass
        raise self.error(f"is {_kind(value)}, but must be a number", column, advice)


def _kind(value: object) -> str:
    if isinstance(value, str):
        return f"the text {value[:40]!r}{'…' if len(value) > 40 else ''}"
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), f"of type {type(value).__name__}")

"""The records of a table's file, whatever its kind: its name or its first bytes tell the kind."""

from __future__ import annotations

import csv
from ast import literal_eval
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from messctl.errors import SourceError, UsageError
from messctl.importers.base import Columns, Place
from messctl.importers.files import (
    LONGEST_LINE,
    bounded_json,
    check_header,
    csv_lines,
    json_document,
    json_lines,
    json_records,
    parquet_records,
    reading,
)
from messctl.inputs import open_plain, read_start

Records = Iterator[tuple[Place, dict[str, Any]]]
DELIMITERS = ",;\t|"
NO_DELIMITERS = '\0\r\n"'
"""The characters that mean something else in a text file of cells."""
DEEPEST = 20
"""How deep objects may lie in one another."""
MOST_SKIPPED = 1_000_000
"""The most lines above a header."""
_SAMPLED = 50
"""The rows by which the delimiter of a file is recognised."""
_STRANGE = {
    b"PK\x03\x04": "a workbook or an archive, not a table; save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old workbook, not a table; save it as CSV",
    b"\x1f\x8b": "compressed; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed; unpack it first",
    b"SQLite format 3": "a database; export its table as CSV",
}


def records(path: Path, columns: Columns) -> Records:
    """Yield the records of a file with their places. Objects in objects become columns such as `a.b`.

    Raises SourceError for a file that is no table, UsageError for an impossible delimiter or header.
    """
    with reading(path):
        head = read_start(path, 4096)
    for begin, what in _STRANGE.items():
        if head.startswith(begin):
            raise SourceError(f"{path}: is {what}")
    if head.startswith(b"PAR1") or path.suffix.lower() == ".parquet":
        found: Records = ((at, _renamed(record)) for at, record in parquet_records(path))
    elif _is_json(path, head):
        found = _json(path)
    else:
        return _text(path, columns)
    return ((at, flat(at, record)) for at, record in found)


def _renamed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with plain names for columns of several levels, which pandas writes as `('gpt', 'score')`."""
    if not any(name.startswith("('") for name in record):
        return record
    return {_plain(name): value for name, value in record.items()}


def _plain(name: str) -> str:
    try:
        levels = literal_eval(name) if name.startswith("('") else name
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return name
    return " ".join(str(level) for level in levels if level != "") if isinstance(levels, tuple) else name


def _is_json(path: Path, head: bytes) -> bool:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".tab"):
        return False
    return suffix in (".json", ".jsonl", ".ndjson") or head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")


def _json(path: Path) -> Records:
    """Yield the records of JSON lines, of a list of objects, or of one object."""
    with reading(path), open_plain(path) as file:
        first = next((line for line in iter(lambda: file.readline(LONGEST_LINE + 1), b"") if line.strip()), b"")
        lines = len(first) <= LONGEST_LINE and _is_object(first.decode("utf-8-sig"))  # a document may be one long line
    if path.suffix.lower() in (".jsonl", ".ndjson") or lines:
        return json_lines(path)
    document = json_document(path)
    if isinstance(document, dict):
        return iter([(Place(path, 1, "record"), document)])
    return json_records(Place(path), document)


def _is_object(line: str) -> bool:
    try:
        return isinstance(bounded_json(line), dict)
    except (ValueError, RecursionError):
        return False


def flat(at: Place, record: dict[str, Any]) -> dict[str, Any]:
    """Return a record without objects in it: `{"a": {"b": 1}}` becomes `{"a.b": 1}`. Raises SourceError."""
    if not any(isinstance(value, dict) for value in record.values()):
        return record
    found: dict[str, Any] = {}
    waiting = [(str(name), value, 1) for name, value in reversed(record.items())]
    while waiting:
        name, value, depth = waiting.pop()
        if isinstance(value, dict) and value:
            if depth > DEEPEST:
                raise at.error("has objects nested too deeply", name, "flatten it in the source")
            waiting += [(f"{name}.{key}", inner, depth + 1) for key, inner in reversed(value.items())]
        elif name in found:
            raise at.error("appears twice", name, "rename one of the two in the source")
        else:
            found[name] = None if isinstance(value, dict) else value
    return found


def unfolded(at: Place, record: dict[str, Any], names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield a record per object of the list that a name leads into: `results.score` leads into `results`.

    Without such a list, the record itself is yielded. Raises SourceError for names that lead into two lists.
    """
    lists = {
        path for name in names for path in prefixes(name) if name not in record and isinstance(record.get(path), list)
    }
    if not lists:
        yield record
        return
    if len(lists) > 1:
        raise at.error(f"{' and '.join(sorted(lists))} are two lists", advice="name columns of one of them")
    path = lists.pop()
    rest = {name: value for name, value in record.items() if name != path}
    for entry in record[path]:
        inner = flat(at, dict(at.mapping(entry, path)))
        yield rest | {f"{path}.{name}": value for name, value in inner.items()}


def prefixes(name: str) -> list[str]:
    """Return the paths that a column's name leads through: `a` and `a.b` of `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _text(path: Path, columns: Columns) -> Records:
    limit = csv.field_size_limit(LONGEST_LINE)
    try:
        with reading(path):
            yield from _cells(path, columns)
    finally:
        csv.field_size_limit(limit)


def _cells(path: Path, columns: Columns) -> Records:
    if not 0 <= columns.skip <= MOST_SKIPPED or not 1 <= columns.header_rows <= 3:
        raise UsageError(f"--skip is 0 to {MOST_SKIPPED:,}, and --header-rows is 1, 2 or 3; correct it")
    if columns.delimiter and (len(columns.delimiter) > 1 or columns.delimiter in NO_DELIMITERS):
        raise UsageError(f"--delimiter is {columns.delimiter[:20]!r}; it must be one character, such as ; or a tab")
    delimiter = columns.delimiter or delimiter_of(path, columns.skip)
    row = 0
    try:
        reader = csv.reader(csv_lines(path), strict=True, delimiter=delimiter)
        lines = list(islice(reader, columns.skip, columns.skip + columns.header_rows))
        header = joined(lines) if lines else []
        while header and not header[-1]:
            header.pop()
        check_header(path, header)
        for cells in reader:
            row += 1
            if not any(cell.strip() for cell in cells):
                continue
            spare = cells[len(header) :]
            if len(cells) < len(header) or any(cell.strip() for cell in spare):
                advice = "leave out what is above the header, with --skip LINES" if len(header) < 2 else "correct it"
                what = f"has {len(cells)} cells, but the header has {len(header)} columns"
                raise Place(path, row).error(what, advice=advice)
            yield Place(path, row), dict(zip(header, cells, strict=False))
    except csv.Error as error:
        raise Place(path, row + 1).error(f"is not CSV ({error})", advice="check its quotes") from None


def joined(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the names of columns from the lines of a header; a cell of an upper line holds up to the next one.

    >>> joined([["", "gpt-4", "", "llama", ""], ["id", "score", "cost", "score", "cost"]])
    ['id', 'gpt-4 score', 'gpt-4 cost', 'llama score', 'llama cost']
    """
    *upper, last = lines
    names = [""] * len(last)
    for line in upper:
        held = ""
        for at in range(len(last)):
            held = (line[at].strip() if at < len(line) else "") or held
            names[at] = f"{names[at]} {held}".strip()
    return [f"{name} {own.strip()}".strip() for name, own in zip(names, last, strict=True)]


def delimiter_of(path: Path, skip: int = 0) -> str:
    """Return the delimiter of a text file: the one that gives all first rows one number of cells, at least two.

    Raises SourceError if none does, or if several do.
    """
    fitting = {mark: width for mark in DELIMITERS if (width := _width(path, mark, skip)) > 1}
    if path.suffix.lower() in (".tsv", ".tab") and "\t" in fitting:
        return "\t"
    if len(fitting) > 1:
        marks = " or ".join(repr(mark) for mark in fitting)
        raise SourceError(f"{path}: its cells may be separated by {marks}; state which, with --delimiter")
    return next(iter(fitting), "") or max(DELIMITERS, key=lambda mark: _width(path, mark, skip, rows=1))


def _width(path: Path, delimiter: str, skip: int, rows: int = _SAMPLED) -> int:
    """Return the number of cells of the first rows; 0 if they differ, or are no CSV."""
    try:
        reader = csv.reader(csv_lines(path), strict=True, delimiter=delimiter)
        filled = (cells for cells in islice(reader, skip, None) if any(cells))
        widths = Counter(len(cells) for cells in islice(filled, rows))
    except csv.Error:
        return 0
    return next(iter(widths)) if len(widths) == 1 else 0

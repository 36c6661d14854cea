"""The files of a source, and the records of a CSV, JSON, JSON Lines or Parquet file.

A file that cannot be read, decoded or parsed is a SourceError that names it.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from messctl.errors import SourceError
from messctl.importers.base import Place
from messctl.inputs import check_marked, encoding_of, open_plain, read_text
from messctl.trace.parquet import BoundedParquet, ParquetError

LONGEST_LINE = 2**24
"""The most bytes in one line of text, and characters in one cell: far more than a model can read or write."""
LARGEST_DOCUMENT = 2**28
"""The most bytes in one JSON document, which is read as a whole."""
MOST_VALUES = 10_000_000
"""The most values in one JSON text, each of which takes some 60 bytes of memory."""
MOST_COLUMNS = 2**16


def expand(sources: Sequence[Path], patterns: Sequence[str], *, recursive: bool = False) -> list[Path]:
    """Return the files of `sources`, each once. A folder stands for its files that match a pattern, sorted.

    Raises SourceError for a source that is missing or neither file nor folder, and for a folder without a match.
    """
    files: list[Path] = []
    for source in sources:
        with reading(source):
            if source.is_dir():
                walk = source.rglob if recursive else source.glob
                found = sorted({file for pattern in patterns for file in walk(pattern) if file.is_file()})
                if not found:
                    raise SourceError(f"{source}: has no file named {' or '.join(patterns)}; name the files instead")
                files += found
            elif source.is_file():
                files.append(source)
            elif source.exists():
                raise SourceError(f"{source}: not a regular file, but it is read twice; save it to a file first")
            else:
                raise SourceError(f"{source}: no such file or folder; check the path")
    return list(dict.fromkeys(files))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Map errors of the system and of the encoding to a SourceError that names `path`."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error}); check the file") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: is not UTF-8 text ({error.reason}); convert it to UTF-8") from None


def csv_records(path: Path) -> Iterator[tuple[Place, dict[str, str]]]:
    """Yield the rows of a CSV file as mappings, with their place. Row 1 is the first below the header.

    Raises SourceError for a missing header, a column that appears twice, or a row of another length than the header.
    """
    for at, header, cells in csv_cells(path):
        yield at, csv_record(at, header, cells)


def csv_cells(path: Path) -> Iterator[tuple[Place, list[str], list[str]]]:
    """Yield the place of each row of a CSV file, the names of the columns, and the row's cells. Skips blank lines.

    Raises SourceError for a missing header, a column that appears twice, or what is not CSV: after a bad quote, the
    rows cannot be told apart.
    """
    # This limit is global. It is raised while the file is read, and then restored.
    limit, row = csv.field_size_limit(LONGEST_LINE), 0
    try:
        with reading(path):
            reader = csv.reader(csv_lines(path), strict=True)
            header = next(reader, [])
            check_header(path, header)
            for row, cells in enumerate(filter(None, reader), start=1):
                yield Place(path, row), header, cells
    except csv.Error as error:
        raise Place(path, row + 1).error(f"is not CSV ({error})", advice="check its quotes") from None
    finally:
        csv.field_size_limit(limit)


def csv_record(at: Place, header: list[str], cells: list[str]) -> dict[str, str]:
    """Return the cells of a row by the names of their columns. Raises SourceError if there are more or fewer cells."""
    if len(cells) != len(header):
        raise at.error(f"has {len(cells)} cells, but the header has {len(header)} columns")
    return dict(zip(header, cells, strict=True))


def csv_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a CSV file with their ends, as text. Raises SourceError for one that is too long."""
    for at, line in _marked_lines(path):
        yield from io.StringIO(line.decode("utf-8-sig" if at.row == 1 else "utf-8"), newline="")


def byte_lines(path: Path) -> Iterator[tuple[Place, bytes]]:
    """Yield the lines of a file with their ends, each with its place. Raises SourceError for one that is too long."""
    with open_plain(path) as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            at = Place(path, number, "line")
            if len(line) > LONGEST_LINE:
                raise at.error(f"is longer than {LONGEST_LINE >> 20} MiB", advice="check the file")
            yield at, line


def _marked_lines(path: Path) -> Iterator[tuple[Place, bytes]]:
    """Yield what `byte_lines` does. Raises UsageError, too, for a file that looks like UTF-16 and does not say so."""
    for at, line in byte_lines(path):
        if at.row == 1 and not encoding_of(line)[1]:
            check_marked(line, str(path))
        yield at, line


def check_header(path: Path, header: Sequence[str]) -> None:
    """Raise SourceError for an empty or endless header, or for a column that appears twice."""
    if not any(name.strip() for name in header):
        raise SourceError(f"{path}: is empty; add a first line with column names")
    if len(header) > MOST_COLUMNS:
        raise Place(path).error(f"has {len(header):,} columns, and not {MOST_COLUMNS:,} at most", advice="remove some")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise Place(path).error("appears twice in the header", min(twice), "rename or remove one")


def json_lines(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the objects of a JSON Lines file, with their place. Blank lines are skipped. Raises SourceError."""
    with reading(path):
        for at, data in _marked_lines(path):
            line = data.decode("utf-8-sig" if at.row == 1 else "utf-8")
            if line.strip():
                yield at, dict(at.mapping(decode_json(at, line)))


def json_document(path: Path) -> Any:
    """Return the JSON document of a file. Raises SourceError."""
    with reading(path):
        text = read_text(path, LARGEST_DOCUMENT)
    return decode_json(Place(path), text)


def json_records(at: Place, records: object) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the objects of a JSON list, with their place. Raises SourceError for anything but a list of objects."""
    if not isinstance(records, list):
        raise at.error("is not a list […] of objects", advice="check the format and the file")
    for number, record in enumerate(records, start=1):
        place = Place(at.path, number, "record")
        yield place, dict(place.mapping(record))


def decode_json(at: Place, text: str) -> Any:
    """Return the value of a JSON text at a place. Raises SourceError."""
    try:
        return bounded_json(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}" if at.row is None else f"character {error.colno}"
        raise at.error(f"is not JSON ({error.msg} at {place})") from None
    except (ValueError, RecursionError) as error:
        raise at.error(f"is not valid JSON ({error})") from None


def bounded_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises ValueError if it is not JSON, has too many values, a text that is too long, or a key twice in one object;
    RecursionError.
    """
    if sum(map(text.count, ",[{")) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError for a text that is too long, and for a key twice: either may be meant."""
    found = dict(pairs)
    for key, value in pairs:
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str) and len(text) > LONGEST_LINE:
                raise ValueError(f"the text of {key[:40]!r} is longer than {LONGEST_LINE >> 20} MiB")
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice[:40]!r} is twice in one object")
    return found


def parquet_records(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the rows of a Parquet file as mappings, with their place. Raises SourceError."""
    row = 0
    try:
        file = BoundedParquet(path)
        check_header(path, file.names)
        for batch in file.batches(file.names, 1024):
            for record in batch.to_pylist():
                row += 1
                yield Place(path, row), record
    except (ParquetError, OSError, ValueError, OverflowError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise Place(path).error(
            f"not a Parquet file, or an incomplete one ({reason})", advice="make or download it again"
        ) from None


def require_columns(path: Path, header: Iterable[str], names: Iterable[str]) -> None:
    """Raise SourceError for the first of `names` that is not in the header."""
    columns = dict.fromkeys(header)
    for name in names:
        if name not in columns:
            raise Place(path).missing(name, columns)

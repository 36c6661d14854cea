"""Opening sources: which files a source means, and the records of a CSV, JSON, JSON lines or Parquet file.

Whatever is wrong with a file, its bytes or its encoding becomes a SourceError that names it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from messctl.errors import SourceError
from messctl.importers.base import At

LONGEST_CELL = 2**31 - 1  # the csv module gives up at 131,072 characters, which a prompt may exceed


def expand(sources: Sequence[Path], patterns: Sequence[str], *, recursive: bool = False) -> list[Path]:
    """Return the files that `sources` mean, each once: a file is itself, a folder its matching files, sorted.

    Raises SourceError for a source that is missing, is neither, or is a folder with no matching file.
    """
    files: list[Path] = []
    for source in sources:
        with reading(source):
            if source.is_dir():
                walk = source.rglob if recursive else source.glob
                found = sorted({file for pattern in patterns for file in walk(pattern) if file.is_file()})
                if not found:
                    raise SourceError(
                        f"{source}: holds no file named {' or '.join(patterns)}; name the files themselves"
                    )
                files += found
            elif source.is_file():
                files.append(source)
            elif source.exists():
                raise SourceError(f"{source}: not a regular file; it is read twice, so save it to a file first")
            else:
                raise SourceError(f"{source}: no such file or folder")
    return list(dict.fromkeys(files))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the operating system's errors and bad encodings into a SourceError that names `path`."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: is not UTF-8 text ({error.reason}); give a text file, or convert it") from None


def csv_records(path: Path) -> Iterator[tuple[At, dict[str, str]]]:
    """Yield the rows of a CSV file by column name, with their place; row 1 is the first below the header.

    Raises SourceError for a file without a header, a column that appears twice, or a row that is cut short.
    """
    # A limit of the whole process: it is raised while this file is read, and put back.
    limit = csv.field_size_limit(LONGEST_CELL)
    try:
        with reading(path), path.open(encoding="utf-8-sig", newline="") as file:
            yield from _csv_rows(path, csv.reader(file, strict=True))
    finally:
        csv.field_size_limit(limit)


def _csv_rows(path: Path, reader: Iterator[list[str]]) -> Iterator[tuple[At, dict[str, str]]]:
    row = 0
    try:
        header = next(reader, [])
        check_header(path, header)
        for cells in reader:
            if not cells:
                continue
            row += 1
            if len(cells) != len(header):
                raise At(path, row).error(f"has {len(cells)} cells, but the header names {len(header)} columns")
            yield At(path, row), dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise At(path, row + 1).error(f"is not CSV ({error})") from None


def check_header(path: Path, header: Sequence[str]) -> None:
    """Raise SourceError for a header that is empty or names a column twice."""
    if not any(name.strip() for name in header):
        raise SourceError(f"{path}: is empty; a first line with column names is expected")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise At(path).error("appears twice in the header", column=twice[0])


def json_lines(path: Path) -> Iterator[tuple[At, dict[str, Any]]]:
    """Yield the objects of a JSON lines file with their place, without blank lines. Raises SourceError."""
    with reading(path), path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                at = At(path, number, "line")
                yield at, dict(at.mapping(decoded(at, line)))


def json_document(path: Path) -> Any:
    """Return the one JSON document of a file. Raises SourceError."""
    with reading(path):
        text = path.read_text(encoding="utf-8-sig")
    return decoded(At(path), text)


def json_records(at: At, records: object) -> Iterator[tuple[At, dict[str, Any]]]:
    """Yield the objects of a JSON list with their place. Raises SourceError where it is not such a list."""
    if not isinstance(records, list):
        raise at.error("a list […] of objects is expected")
    for number, record in enumerate(records, start=1):
        place = At(at.path, number, "record")
        yield place, dict(place.mapping(record))


def decoded(at: At, text: str) -> Any:
    """Return the JSON value of a text that stands at a place. Raises SourceError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}" if at.row is None else f"character {error.colno}"
        raise at.error(f"is not JSON ({error.msg} at {place})") from None
    except (ValueError, RecursionError) as error:
        raise at.error(f"is not JSON that can be read ({error})") from None


def parquet_records(path: Path) -> Iterator[tuple[At, dict[str, Any]]]:
    """Yield the rows of a Parquet file by column name, with their place. Raises SourceError."""
    import pyarrow as pa  # noqa: PLC0415 – formats without Parquet need not load it
    import pyarrow.parquet as pq  # noqa: PLC0415

    row = 0
    try:
        with pq.ParquetFile(path) as file:
            check_header(path, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=1024):
                for record in batch.to_pylist():
                    row += 1
                    yield At(path, row), record
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise SourceError(f"{path}: not a Parquet file, or one that was cut short ({_first_line(error)})") from None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def require(path: Path, header: Iterable[str], names: Iterable[str]) -> None:
    """Raise SourceError for the first of `names` that is no column of `path`."""
    columns = list(header)
    for name in names:
        if name not in columns:
            raise At(path).missing(name, columns)

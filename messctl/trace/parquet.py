"""Parquet files, read in batches of bounded memory, with the checksums of their pages checked.

A small file can hold very much text: it is compressed, and a dictionary stores a repeated text once. So the number of
rows that are read at once depends on the sizes that the pages state, and a file that expands without end is refused.
"""

from __future__ import annotations

import base64
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from messctl.errors import MessctlError, last_resort, shortage
from messctl.inputs import open_plain
from messctl.trace.pages import (
    DELTA_BYTE_ARRAY,
    DICTIONARY,
    PLAIN_DICTIONARY,
    DamagedPageError,
    Page,
    RowGroup,
    read_groups,
    read_pages,
)

MOST_COLUMNS = 2**16
LARGEST_PAGES = 2**29
"""The most bytes of one page of each column together. Most have one MiB, but 1,024 long texts may share a page."""
BATCH_BYTES = 2**26
"""The bytes that the text of one batch may take, and the same for its numbers."""
FREE_BYTES, MOST_EXPANSION = 2**28, 2000
"""A file may expand to this number of bytes, and beyond that to this multiple of its own size."""
FREE_ROWS, ROWS_PER_BYTE = 2**16, 64
"""A file may have this number of rows, and beyond that this number for each of its bytes."""
_NUMBER_BYTES = 32
"""The bytes that one number of a batch takes at most, with its copies."""
_ARROW_SCHEMA = b"ARROW:schema"
_TEXT = ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
_TEXTS = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


class ParquetError(Exception):
    """A Parquet file is damaged, or needs more memory than its size can justify. The message says why."""


def arrow_file(path: Path, mode: str = "rb") -> Path | pa.NativeFile:
    """Return what pyarrow opens for a path. It knows no name that is not UTF-8, so such a file is opened here."""
    name = os.fsencode(path)
    return path if name.decode(errors="ignore").encode() == name else pa.OSFile(name, mode)


class BoundedParquet:
    """An open Parquet file: its `schema`, its `names`, its `metadata` and its number of `rows`.

    Opening reads the footer only. Raises OSError and NotOrdinaryError if the file cannot be opened, ParquetError if it
    is no Parquet file, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with open_plain(path) as file:
            self._bytes = file.seek(0, 2)
        with _errors_mapped():
            self._file = pq.ParquetFile(arrow_file(path), page_checksum_verification=True)
            self.schema: pa.Schema = self._file.schema_arrow
            self.names: list[str] = self.schema.names
            self.rows: int = self._file.metadata.num_rows
            self.metadata: dict[bytes, bytes] = self._file.metadata.metadata or {}
            if _ARROW_SCHEMA in self.metadata and _second_copy(self.metadata[_ARROW_SCHEMA]).names != self.names:
                raise ParquetError("the two copies of its schema differ")
            twice = [name for name, count in Counter(self.names).items() if count > 1]
            if twice:
                raise ParquetError(f"it has several columns of the name {twice[0][:100]!r}")
            leaves = self._file.metadata.num_columns
            if max(leaves, len(self.names)) > MOST_COLUMNS:
                raise ParquetError(f"it has more than {MOST_COLUMNS:,} columns")
            paths = [self._file.schema.column(leaf).path for leaf in range(leaves)]
        if self.rows > FREE_ROWS + ROWS_PER_BYTE * self._bytes:
            raise ParquetError(f"it cannot hold the {self.rows:,} rows that it states in {self._bytes:,} bytes")
        self._texts = frozenset(name for name in self.names if _is_text(self.schema.field(name).type))
        self._leaves: dict[str, list[int]] = defaultdict(list)
        for leaf, name in enumerate(paths):
            self._leaves[name].append(leaf)
            if "." in name:  # a part of a nested column; or a column whose name has a dot
                self._leaves[name.partition(".")[0]].append(leaf)

    def batches(self, columns: Sequence[str], most_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of some columns in batches of at most `most_rows`, in their order. Raises ParquetError."""
        done = expanded = 0
        most = max(FREE_BYTES, MOST_EXPANSION * self._bytes)
        with _errors_mapped(), open_plain(self._path) as file, self._with_dictionaries(columns) as source:
            groups = read_groups(file.fileno())
            self._check(groups)
            for numbers in _together(groups, most_rows):
                filled = [number for number in numbers if groups[number].rows]
                rows = min([most_rows, *(self._safe_rows(file.fileno(), groups, each, columns) for each in filled)])
                parts = _Parts(most_rows)
                for read in source.iter_batches(batch_size=rows, columns=list(columns), row_groups=numbers):
                    sizes = _sizes(read)
                    done += read.num_rows
                    expanded += 8 * read.num_rows * read.num_columns + int(sizes[-1] if len(sizes) else 0)
                    if expanded > most:  # before any of it is handed on
                        raise ParquetError(f"its {self._bytes:,} bytes expand to more than {most:,}")
                    yield from parts.add(read, sizes)
                yield from parts.rest()
        if columns and done != self.rows:
            raise ParquetError(f"it states {self.rows:,} rows, but has {done:,}")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _check(self, groups: Sequence[RowGroup]) -> None:
        """Raise ParquetError if the row groups do not have the columns and rows that the file states."""
        leaves = self._file.metadata.num_columns
        if any(len(group.places) != leaves for group in groups) or sum(group.rows for group in groups) != self.rows:
            raise ParquetError("its parts do not have the rows and columns that it states")

    def _safe_rows(self, descriptor: int, groups: Sequence[RowGroup], number: int, columns: Sequence[str]) -> int:
        """Return how many rows of a row group may be in memory at once, at least 1."""
        schema = self._file.schema
        leaves = [(name, leaf) for name in columns for leaf in self._leaves.get(name, ())]
        texts = sum(schema.column(leaf).physical_type in _TEXT for _, leaf in leaves)
        rows = BATCH_BYTES // (_NUMBER_BYTES * max(1, len(leaves)))
        held = 0
        for name, leaf in leaves:
            pages = list(read_pages(descriptor, *groups[number].places[leaf]))
            held += max((page.size for page in pages if not page.is_dictionary), default=0)
            held += 2 * max((page.size for page in pages if page.is_dictionary), default=0)  # itself, and its texts
            if held > LARGEST_PAGES:
                raise ParquetError(f"a page of column {name!r} is too large: {held:,} bytes, with those before it")
            if schema.column(leaf).max_repetition_level and _expanded(pages) > BATCH_BYTES:
                raise ParquetError(f"the lists in column {name!r} take more than {BATCH_BYTES:,} bytes")
            if schema.column(leaf).physical_type in _TEXT:
                rows = self._text_rows(name, pages, BATCH_BYTES // texts, rows)
        return max(1, rows)

    def _text_rows(self, name: str, pages: Sequence[Page], budget: int, rows: int) -> int:
        """Return how many texts of a column may be read at once, if `rows` are wanted."""
        stored_once = name in self._texts and any(page.is_dictionary for page in pages)
        for page in pages:
            if not page.size or (page.is_dictionary and stored_once):
                continue
            if page.encoding == DELTA_BYTE_ARRAY or page.is_dictionary:  # the longest text may be repeated
                rows = min(rows, budget // page.size)
            elif page.encoding not in (PLAIN_DICTIONARY, DICTIONARY):
                rows = min(rows, budget * page.values // page.size)
        return rows

    def _with_dictionaries(self, columns: Sequence[str]) -> pq.ParquetFile:
        """Return the file so that text that is stored once is read once. Its columns are decoded part by part."""
        texts = [name for name in columns if name in self._texts]
        known = self._file.metadata
        return pq.ParquetFile(
            arrow_file(self._path), metadata=known, read_dictionary=texts, page_checksum_verification=True
        )


class _Parts:
    """Collects what is read to batches of a number of rows, and of BATCH_BYTES of text, whichever comes first."""

    def __init__(self, rows: int) -> None:
        self._most = rows
        self._held: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def add(self, read: pa.RecordBatch, sizes: npt.NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """Add rows whose `sizes` come from `_sizes`, and yield the batches that are full."""
        start = 0
        while start < read.num_rows:
            before = int(sizes[start - 1]) if start else 0
            fitting = int(np.searchsorted(sizes, before + BATCH_BYTES - self._bytes, "right"))
            stop = max(start + (not self._held), min(fitting, start + self._most - self._rows))
            if stop > start:
                self._held.append(read.slice(start, stop - start))
                self._rows += stop - start
                self._bytes += int(sizes[stop - 1]) - before
            if stop < read.num_rows or self._rows == self._most:
                yield from self.rest()
            start = stop

    def rest(self) -> Iterator[pa.RecordBatch]:
        """Yield what is left, as one batch."""
        if self._held:
            names = self._held[0].schema.names
            columns = [_decoded([part.column(at) for part in self._held]) for at in range(len(names))]
            yield pa.RecordBatch.from_arrays(columns, names)
        self._held, self._rows, self._bytes = [], 0, 0


def _decoded(parts: Sequence[pa.Array]) -> pa.Array:
    """Return the parts of a column as one, with every text in full."""
    plain = [part.dictionary_decode() if _is_text_once(part.type) else part for part in parts]
    return plain[0] if len(plain) == 1 else pa.concat_arrays(plain)


def _is_text(kind: pa.DataType) -> bool:
    return kind in _TEXTS or _is_text_once(kind)


def _is_text_once(kind: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(kind)) and kind.value_type in _TEXTS


def _sizes(read: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return the bytes of text in the rows up to and with each one, (rows,), with every text in full."""
    return np.cumsum(sum((_lengths(column) for column in read.columns), np.zeros(read.num_rows, np.int64)))


def _lengths(column: pa.Array) -> npt.NDArray[np.int64]:
    """Return the bytes of each text of a column; 0 for a column of anything else."""
    if _is_text_once(column.type):
        lengths = pc.binary_length(column.dictionary).take(column.indices)
    elif column.type in _TEXTS:
        lengths = pc.binary_length(column)
    else:
        return np.zeros(len(column), np.int64)
    return np.asarray(pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False), np.int64)


def _second_copy(stored: bytes) -> pa.Schema:
    """Return the schema that Arrow stores beside Parquet's own."""
    return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(stored)))


def _together(groups: Sequence[RowGroup], rows: int) -> Iterator[list[int]]:
    """Yield lists of consecutive row groups, each just large enough for `rows`, as each list is held in memory."""
    numbers: list[int] = []
    held = 0
    for number, group in enumerate(groups):
        numbers.append(number)
        held += group.rows
        if held >= rows:
            yield numbers
            numbers, held = [], 0
    if numbers:
        yield numbers


def _expanded(pages: Sequence[Page]) -> int:
    """Return the most bytes that the values of a column can take."""
    longest = max((page.size for page in pages if page.is_dictionary), default=0)
    return sum(page.size + page.values * max(_NUMBER_BYTES, longest) for page in pages if not page.is_dictionary)


@contextmanager
def _errors_mapped() -> Iterator[None]:
    """Turn every error of reading into a ParquetError with one line; a shortage of the system is none of the file."""
    try:
        yield
    except UnicodeDecodeError:
        raise ParquetError("a name in it is not UTF-8 text") from None
    except (pa.ArrowException, DamagedPageError, OSError, ValueError, OverflowError, LookupError) as error:
        if shortage(error):  # `malloc of size …` is none, as a damaged size makes it, too
            raise MessctlError(last_resort(error)) from None
        raise ParquetError(next(iter(str(error).splitlines()), type(error).__name__)) from None

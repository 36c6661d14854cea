"""Where the columns of a Parquet file are, and their pages: how many values each has, and how large it becomes.

A page states its own size. So this tells in advance how much memory the values of a column take, whatever the footer
says. pyarrow tells no sizes of pages, and ends the process for some damaged footers if it is asked about a column.
Source: the Parquet format, `parquet.thrift`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from messctl.trace.thrift import I32, I64, LIST, STRUCT, Compact, ThriftError

PLAIN_DICTIONARY, DELTA_BYTE_ARRAY, DICTIONARY = 2, 7, 8
"""The encodings of Parquet that matter here."""

_ENOUGH = 256
"""The bytes of most page headers. A longer one, with long statistics, is read again with more."""
_LONGEST_HEADER = 2**20
_LONGEST_FOOTER = 2**27
_MOST_PAGES = 2**17
_DATA, _INDEX, _DICTIONARY, _DATA_V2 = range(4)


class DamagedPageError(Exception):
    """The header of a page, or the footer, is not valid, or there are too many pages. The message says which."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its number of values, its size in bytes when it is decompressed, and its encoding.

    is_dictionary: it holds the texts that the column's other pages refer to.
    """

    values: int
    size: int
    encoding: int
    is_dictionary: bool


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Consecutive rows: their number, and where each column begins and ends in the file, in bytes."""

    rows: int
    places: tuple[tuple[int, int], ...]


def read_groups(descriptor: int) -> list[RowGroup]:
    """Return the row groups of an open Parquet file, from its footer. Raises DamagedPageError."""
    try:
        end = os.lseek(descriptor, 0, os.SEEK_END) - 8
        length = int.from_bytes(_bytes(descriptor, end, 4), "little")
        if not 0 < length <= min(end, _LONGEST_FOOTER):
            raise ThriftError
        reader = Compact(_bytes(descriptor, end - length, length))
        groups: list[RowGroup] = []
        for number, kind in reader.fields():
            if (number, kind) == (4, LIST):
                groups = [_group(reader) for _ in range(_structs(reader))]
            else:
                reader.skip(kind)
    except (IndexError, ThriftError, OSError):
        raise DamagedPageError("its footer is damaged") from None
    return groups


def read_pages(descriptor: int, start: int, end: int) -> Iterator[Page]:
    """Yield the pages between two places of an open file. Raises DamagedPageError."""
    found = 0
    while start < end:
        found += 1
        if found > _MOST_PAGES:
            raise DamagedPageError(f"a column has more than {_MOST_PAGES:,} pages in a row group")
        page, length = _page(descriptor, start, end)
        if page is not None:
            yield page
        start += length


def _group(reader: Compact) -> RowGroup:
    rows = -1
    places: tuple[tuple[int, int], ...] = ()
    for number, kind in reader.fields():
        if (number, kind) == (1, LIST):
            places = tuple(_place(reader) for _ in range(_structs(reader)))
        elif (number, kind) == (3, I64):
            rows = reader.whole()
        else:
            reader.skip(kind)
    if rows < 0:
        raise ThriftError
    return RowGroup(rows, places)


def _place(reader: Compact) -> tuple[int, int]:
    """Return where the pages of a column begin and end, by its description in the footer."""
    found: dict[int, int] = {}
    for number, kind in reader.fields():
        if (number, kind) != (3, STRUCT):
            reader.skip(kind)
            continue
        for inner, of in reader.fields():
            if inner in (7, 9, 11) and of == I64:
                found[inner] = reader.whole()
            else:
                reader.skip(of)
    size, first, dictionary = found.get(7, -1), found.get(9, -1), found.get(11, 0)
    start = dictionary if 0 < dictionary < first else first
    if min(size, start) < 0:
        raise ThriftError
    return start, start + size


def _structs(reader: Compact) -> int:
    count, kind = reader.items()
    if kind != STRUCT:
        raise ThriftError
    return count


def _page(descriptor: int, start: int, end: int) -> tuple[Page | None, int]:
    """Return a page, None for one of an index, and its length in the file with its header."""
    for most in (_ENOUGH, _LONGEST_HEADER):
        reader = Compact(_bytes(descriptor, start, min(most, end - start)))
        try:
            return _parsed(reader)
        except IndexError:
            continue
        except ThriftError:
            break
    raise DamagedPageError("the header of a page is damaged")


def _parsed(reader: Compact) -> tuple[Page | None, int]:
    whole: dict[int, int] = {}
    about: dict[int, dict[int, int]] = {}
    for number, kind in reader.fields():
        if kind == STRUCT:
            inside = about.setdefault(number, {})
            for inner, of in reader.fields():
                if of == I32:
                    inside[inner] = reader.whole()
                else:
                    reader.skip(of)
        elif kind == I32:
            whole[number] = reader.whole()
        else:
            reader.skip(kind)
    kind, size, stored = (whole.get(number, -1) for number in (1, 2, 3))
    inside = about.get({_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}.get(kind, 0), {})
    values, encoding = inside.get(1, -1), inside.get(4 if kind == _DATA_V2 else 2, -1)
    if min(size, stored) < 0 or (kind != _INDEX and min(values, encoding) < 0):
        raise ThriftError
    page = None if kind == _INDEX else Page(values, size, encoding, kind == _DICTIONARY)
    return page, reader.position + stored


def _bytes(descriptor: int, start: int, length: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    parts = []
    while length > 0 and (part := os.read(descriptor, length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)

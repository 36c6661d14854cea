"""Tables: fitted to a terminal, or as CSV. No number is cut; a table that is too wide becomes one line per cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.style import StyleType
from rich.table import Column, Table
from rich.text import Text

FOLDED = 10
"""The least width of a folded column, in characters, if its cells are longer."""
GAP = 2
"""The spaces between a name and its value."""
LEAST_BESIDE = 24
"""The least room beside the names for values that break into lines, in characters."""
_ANY_WIDTH = Console(width=10**6, markup=False, emoji=False, highlight=False)


class Named(NamedTuple):
    """A value with its name, and the style of both."""

    name: str
    value: str | Text
    style: StyleType | None = None


def fitting(table: Table, width: int, *, folding: Collection[str] = (), least_first: Sequence[str] = ()) -> Table:
    """Return the table so that it fits into `width` characters.

    Headings are folded between words, and so are the cells of the columns `folding`. If the table is still too wide,
    the columns `least_first` are left out, one after the other. If that is not enough, each cell is on its own line.
    """
    smaller = table
    for heading in (None, *least_first):
        smaller = _without(smaller, heading)
        if _fit(smaller, width, folding):
            return smaller
    return _row_by_row(table, width)


def _fit(table: Table, width: int, folding: Collection[str]) -> bool:
    """Set the width of every column; return whether the table fits."""
    more: list[tuple[int, Column]] = []
    for column in table.columns:
        heading = str(column.header)
        content = max((cell_len(str(cell)) for cell in column.cells), default=0)
        word = max(map(cell_len, heading.split()), default=0)
        column.width = max(min(content, FOLDED) if heading in folding else content, word)
        column.no_wrap = False
        more.append((max(content, cell_len(heading)) - column.width, column))
    room = width - Measurement.get(_ANY_WIDTH, _ANY_WIDTH.options, table).maximum
    if room < 0:
        return False
    more.sort(key=lambda pair: pair[0])
    for index, (wanted, column) in enumerate(more):
        given = min(wanted, room // (len(more) - index))
        column.width = (column.width or 0) + given
        room -= given
    return True


def _without(table: Table, heading: str | None) -> Table:
    columns = [column for column in table.columns if column.header != heading]
    smaller = Table(
        *(column.copy() for column in columns),
        box=table.box,
        padding=table.padding,
        pad_edge=table.pad_edge,
        header_style=table.header_style,
    )
    for row, cells in zip(table.rows, zip(*(column.cells for column in columns), strict=True), strict=True):
        smaller.add_row(*cells, style=row.style)
    return smaller


def named(rows: Iterable[Named], width: int) -> Table:
    """Return names and values so that they fit into `width` characters, with no word broken that fits into a line.

    The values stand beside the names, or below them if the room beside them is too narrow. A row without a name and a
    value is a blank line.
    """
    rows = list(rows)
    name = max((cell_len(row.name) for row in rows), default=0)
    value = max((cell_len(str(row.value)) for row in rows), default=0)
    words = (cell_len(word) for row in rows for word in str(row.value).split())
    word = max((length for length in words if length <= width - GAP), default=0)
    beside = width - name - GAP >= min(value, max(LEAST_BESIDE, word))
    table = Table(box=None, show_header=False, padding=(0, GAP if beside else 0, 0, 0), pad_edge=False)
    table.add_column(width=name if beside else None, no_wrap=beside)
    for row in rows:
        left, right = Text(row.name, "bold"), Text(row.value) if isinstance(row.value, str) else row.value
        if beside:
            table.add_row(left, right, style=row.style)
            continue
        table.add_row(left, style=row.style)
        if str(row.value):
            table.add_row(Padding(right, (0, 0, 0, GAP)), style=row.style)
    return table


def _row_by_row(table: Table, width: int) -> Table:
    rows: list[Named] = []
    headings = [str(column.header) for column in table.columns]
    for row, cells in zip(table.rows, zip(*(column.cells for column in table.columns), strict=True), strict=True):
        if rows:
            rows.append(Named("", ""))
        rows += [
            Named(heading, cell, row.style) for heading, cell in zip(headings, cells, strict=True) if str(cell).strip()
        ]
    return named(rows, width)


def csv_of(rows: Sequence[Mapping[str, Any]], columns: Collection[str]) -> str:
    """Return rows as CSV: a header with the columns, then one line per row."""
    text = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()

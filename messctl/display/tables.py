"""Tables that fit a terminal. No number is cut; a table that is too wide becomes one line per cell."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

FOLDED = 10
"""The least width of a folded column, in characters, if its cells are longer."""
_ANY_WIDTH = Console(width=10**6)


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
    return _row_by_row(table)


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


def _row_by_row(table: Table) -> Table:
    lines = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    headings = [str(column.header) for column in table.columns]
    for row, cells in zip(table.rows, zip(*(column.cells for column in table.columns), strict=True), strict=True):
        if lines.rows:
            lines.add_row()
        for heading, cell in zip(headings, cells, strict=True):
            if str(cell).strip():
                lines.add_row(Text(heading, "bold"), cell, style=row.style)
    return lines

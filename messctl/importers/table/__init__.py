"""The user's own table: CSV, TSV, JSON, JSON lines or Parquet, wide or long, by the names of its columns.

If nothing says which columns are what, a command that names them is proposed, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from messctl.importers.base import Columns, Format, ImportOptions
from messctl.importers.files import expand
from messctl.importers.table.layout import long_rows, wide_rows
from messctl.importers.table.proposal import propose
from messctl.trace import Row

PATTERNS = ("*.csv", "*.tsv", "*.jsonl", "*.ndjson", "*.json", "*.parquet")


def rows(sources: Sequence[Path], options: ImportOptions) -> Iterator[Row]:
    """Yield a row per request. Raises ProposalError if no column is named."""
    files = expand(sources, PATTERNS)
    columns = options.columns
    if columns.wide and not columns.long:
        return wide_rows(files, columns, options.unread)
    if columns.long or columns.model_column:
        return long_rows(files, columns, options.name, options.unread)
    raise propose(files, options)


FORMAT = Format(
    name="table",
    summary="your own table: CSV, TSV, JSON lines or Parquet, by the names of its columns",
    rows=rows,
    meter="as in the table",
    takes=frozenset({"name"}) | Columns.names(),
)

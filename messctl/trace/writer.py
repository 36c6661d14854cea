"""Writing a trace row by row, with the memory of one row group."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from messctl.outputs import atomic_write
from messctl.records import Outcome
from messctl.trace.format import COST, FIELDS, REQUEST_COLUMNS, SATISFIED, Row, TraceMetadata, column, schema
from messctl.trace.parquet import arrow_file

ROWS_PER_GROUP, CHARACTERS_PER_GROUP = 4096, 2**24


class TraceWriter:
    """A context manager that writes rows to a new trace.

    The file appears at `path` when the block ends; after an exception, `path` is unchanged. Only its owner may read it,
    since it holds prompts.
    fields: the per-model fields to write. request: the optional columns of the request to write.
    Raises OutputError if the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        metadata: TraceMetadata,
        fields: Iterable[str] = (SATISFIED, COST),
        request: Iterable[str] = ("source",),
    ) -> None:
        self._fields = tuple(fields)
        self._models = metadata.models
        self._schema = schema(metadata, self._fields, request)
        self._rows: list[Row] = []
        self._characters = 0
        self._aside = atomic_write(path, private=True)

    def __enter__(self) -> Self:
        aside = self._aside.__enter__()
        try:
            self._sink = arrow_file(aside, "wb")
            self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd", write_page_checksum=True)
        except BaseException as error:
            # No __exit__ follows a failed __enter__, so clean up here. The error names the output.
            self._aside.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def append(self, row: Row) -> None:
        """Add one row. Models that are not in the metadata are left out."""
        self._rows.append(row)
        self._characters += len(row.prompt) + sum(_characters(outcome) for outcome in row.outcomes.values())
        if len(self._rows) == ROWS_PER_GROUP or self._characters > CHARACTERS_PER_GROUP:
            self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            self._writer.close()
            if isinstance(self._sink, pa.NativeFile):
                self._sink.close()
        except BaseException as late:
            if not self._aside.__exit__(type(late), late, late.__traceback__):
                raise
        else:
            self._aside.__exit__(kind, error, traceback)

    def _flush(self) -> None:
        if not self._rows:
            return
        values: dict[str, list[Any]] = {
            name: [getattr(row, name) for row in self._rows] for name in REQUEST_COLUMNS if name in self._schema.names
        }
        for model in self._models:
            outcomes = [row.outcomes.get(model) for row in self._rows]
            for name in FIELDS:
                if name in self._fields:
                    values[column(name, model)] = [getattr(outcome, name, None) for outcome in outcomes]
        self._writer.write_table(pa.table(values, schema=self._schema))
        self._rows.clear()
        self._characters = 0


def _characters(outcome: Outcome) -> int:
    """Return the length of an outcome's text."""
    return len(outcome.answer or "") + len(outcome.thinking or "")

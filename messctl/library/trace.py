"""A trace as a value: read from a file, or made of a table in memory."""

from __future__ import annotations

import os
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from messctl.display.text import or_dash
from messctl.errors import TraceError
from messctl.library.notebook import as_html, frame_of
from messctl.outputs import atomic_write, check_trace_writable
from messctl.trace import TraceFile, TraceMetadata, TraceSummary, summarise

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

TEXTS = ("request_id", "prompt")


class Trace:
    """A sound trace: recorded requests, with each model's satisfaction and cost. docs/trace-format.md has its columns.

    `path` is its file; one made in memory has a temporary file, which goes with it. `models` are sorted by name.
    """

    def __init__(self, path: Path, folder: str | None = None) -> None:
        self._folder = folder
        if folder is not None:
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._file = TraceFile(path)
        self.path = path
        self.summary: TraceSummary = summarise(self._file)
        for problem in self.summary.problems:
            where = path if folder is None else "the table"
            raise TraceError(f"{where}: {problem}")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Trace:
        """Return the trace in a Parquet file. Raises TraceError if it is none, or not sound."""
        return cls(Path(path))

    @classmethod
    def from_arrow(cls, table: pa.Table, *, cost_unit: str | None = None) -> Trace:
        """Return the trace that an Arrow table holds; its metadata may have what the page names.

        `cost_unit` is the unit of the costs. Whole numbers in `request_id` become texts. Raises TraceError.
        """
        for name in TEXTS:
            if name in table.column_names and pa.types.is_integer(table[name].type):
                table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.large_string()))
        about = TraceMetadata.decode("the table", table.schema.metadata)
        about = replace(about, cost_unit=cost_unit or about.cost_unit)
        folder = mkdtemp(prefix="messctl-")
        path = Path(folder) / "trace.parquet"
        metadata = {**(table.schema.metadata or {}), **about.encode()}
        pq.write_table(table.replace_schema_metadata(metadata), path)
        return cls(path, folder)

    @classmethod
    def from_pandas(cls, frame: pd.DataFrame, *, cost_unit: str | None = None) -> Trace:
        """Return the trace that a data frame holds; NaN and None mean: not observed. See `from_arrow`."""
        try:
            table = pa.Table.from_pandas(frame, preserve_index=False)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise TraceError(f"the frame: {' '.join(str(error).split())}; give each column one type") from None
        return cls.from_arrow(table, cost_unit=cost_unit or frame.attrs.get("cost_unit"))

    @classmethod
    def from_polars(cls, frame: pl.DataFrame, *, cost_unit: str | None = None) -> Trace:
        """Return the trace that a polars frame holds; null means: not observed. See `from_arrow`."""
        return cls.from_arrow(frame.to_arrow(), cost_unit=cost_unit)

    @property
    def models(self) -> tuple[str, ...]:
        """The models, sorted by name."""
        return self._file.models

    @property
    def cost_unit(self) -> str:
        """The unit of the costs."""
        return self._file.metadata.cost_unit

    @property
    def is_temporary(self) -> bool:
        """Whether its file goes with it."""
        return self._folder is not None

    def __len__(self) -> int:
        return self._file.rows

    def to_arrow(self) -> pa.Table:
        """Return all of it as an Arrow table, with its metadata."""
        return pq.read_table(self.path)

    def to_pandas(self) -> pd.DataFrame:
        """Return all of it as a data frame of pandas, which must be installed."""
        frame_of("a\n")  # says how to install pandas
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        frame.attrs["cost_unit"] = self.cost_unit  # for `from_pandas` of a part of it
        return frame

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file. Raises OutputError."""
        check_trace_writable(Path(path))
        with atomic_write(Path(path), private=True) as aside:
            Path(aside).write_bytes(self.path.read_bytes())

    def __repr__(self) -> str:
        return f"<Trace of {len(self):,} requests: {', '.join(self.models)}>"

    def _repr_html_(self) -> str:
        from rich.table import Table  # noqa: PLC0415  # only a notebook needs it

        table = Table(title=f"{len(self):,} requests, {self.summary.complete_rows:,} complete")
        for name in ("model", "mean satisfaction", f"mean cost ({self.cost_unit})", "observed"):
            table.add_column(name)
        for each in self.summary.models:
            table.add_row(
                each.model, or_dash(each.mean_satisfaction, ".4g"), or_dash(each.mean_cost, ".4g"), f"{each.observed:,}"
            )
        return as_html(table)


def trace_of(trace: Trace | str | os.PathLike[str]) -> Trace:
    """Return a trace, which may be given by its path. Raises TraceError."""
    return trace if isinstance(trace, Trace) else Trace.read(trace)

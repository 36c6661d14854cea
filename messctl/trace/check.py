"""The check of a trace's values: each problem names its row and column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from messctl.trace.format import COST, SATISFIED, column
from messctl.trace.reader import Batch, TraceFile

LEAST_COST, MOST_COST = 1e-100, 1e100
"""Sums and ratios of costs beyond these limits could overflow."""
COST_RULE = f"a cost must be 0, or between {LEAST_COST:g} and {MOST_COST:g}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. `row` counts from 1; `count` is the number of rows in this column with the same problem."""

    column: str
    row: int
    what: str
    count: int = 1

    def __str__(self) -> str:
        others = f" (and {self.count - 1} more like it)" if self.count > 1 else ""
        return f"row {self.row}, column {self.column!r}: {self.what}{others}"


def check(trace: TraceFile, batch: Batch) -> Iterator[Problem]:
    """Yield the problems of a batch: at most one per column, at its first bad row."""
    for name, array in (("request_id", batch.request_ids), ("prompt", batch.prompts)):
        if array.null_count:
            missing = np.flatnonzero(pc.is_null(array).to_numpy(zero_copy_only=False))
            yield Problem(name, batch.first_row + int(missing[0]), "is empty", len(missing))
    for index, model in enumerate(trace.models):
        satisfied, cost = batch.satisfied[:, index], batch.cost[:, index]
        bad = ~np.isnan(satisfied) & ~((satisfied >= 0) & (satisfied <= 1))
        yield from _first(batch, column(SATISFIED, model), bad, satisfied, "satisfaction must be in 0..1")
        bad = ~np.isnan(cost) & ~((cost == 0) | ((cost >= LEAST_COST) & (cost <= MOST_COST)))
        yield from _first(batch, column(COST, model), bad, cost, COST_RULE)


def possible_cost(cost: float) -> bool:
    """Return whether a trace may contain this cost, by `COST_RULE`."""
    return cost == 0 or LEAST_COST <= cost <= MOST_COST


def repeated_ids(request_ids: pa.ChunkedArray) -> Iterator[Problem]:
    """Yield one problem, for the first request id that appears again, if there is one."""
    if pc.count_distinct(request_ids, mode="all").as_py() == len(request_ids):
        return
    seen: dict[str, int] = {}
    again = 0
    first: tuple[int, str] | None = None
    for row, request_id in enumerate(request_ids.to_pylist(), start=1):
        if request_id in seen:
            again += 1
            first = first or (row, f"{request_id!r} is already the id of row {seen[request_id]}")
        seen.setdefault(request_id, row)
    if first:
        yield Problem("request_id", *first, count=again)


def _first(
    batch: Batch, name: str, bad: npt.NDArray[np.bool_], values: npt.NDArray[np.float64], rule: str
) -> Iterator[Problem]:
    rows = np.flatnonzero(bad)
    if len(rows):
        value = values[rows[0]]
        written = f"{value:g}" if np.isfinite(value) else "NaN or infinite"
        yield Problem(name, batch.first_row + int(rows[0]), f"is {written}, but {rule}", len(rows))

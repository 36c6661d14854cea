"""The summary of a trace, in one pass: means per model, missing cells, and all problems."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from messctl.errors import TraceError
from messctl.trace.check import Problem, check, repeated_ids
from messctl.trace.reader import TraceFile


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """One model of a trace.

    observed: the number of rows with a satisfaction. costed: the number of rows with a cost.
    mean_satisfaction: over `observed`. mean_cost: over `costed`, in the trace's unit. None if there is no such row, or
    if a value is not finite.
    """

    model: str
    observed: int
    costed: int
    mean_satisfaction: float | None
    mean_cost: float | None


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """The summary of a whole trace.

    complete_rows: the number of rows that a replay plays, with every model's satisfaction and cost. If the trace has
    no cost at all, the number of rows with every model's satisfaction.
    problems: the first problem of each column, in the order of their rows.
    """

    rows: int
    complete_rows: int
    models: tuple[ModelSummary, ...]
    problems: tuple[Problem, ...]


def summarise(trace: TraceFile) -> TraceSummary:
    """Read the whole trace. Raises TraceError if it has no rows or cannot be read."""
    if trace.rows == 0:
        raise TraceError(f"{trace.path}: has no rows; import it again from its source")
    count = len(trace.models)
    satisfied, cost = _Mean(count), _Mean(count)
    complete = outcomes_complete = 0
    problems: list[Problem] = []
    ids: list[pa.Array] = []
    for batch in trace.batches():
        satisfied.add(batch.satisfied)
        cost.add(batch.cost)
        complete += int((~batch.lacking.any(axis=1)).sum())
        outcomes_complete += int((~np.isnan(batch.satisfied).any(axis=1)).sum())
        problems += check(trace, batch)
        ids.append(batch.request_ids)
    problems += repeated_ids(pa.chunked_array(ids))
    models = tuple(
        ModelSummary(model, int(satisfied.counts[i]), int(cost.counts[i]), satisfied.mean(i), cost.mean(i))
        for i, model in enumerate(trace.models)
    )
    if not cost.counts.any():
        complete = outcomes_complete
    return TraceSummary(trace.rows, complete, models, _merged(problems))


class _Mean:
    def __init__(self, columns: int) -> None:
        self.counts = np.zeros(columns, dtype=np.int64)
        self._sums = np.zeros(columns)

    def add(self, values: npt.NDArray[np.float64]) -> None:
        self.counts += (~np.isnan(values)).sum(axis=0)
        # Infinities of both signs in one column sum to NaN, for which `mean` returns None.
        with np.errstate(invalid="ignore"):
            self._sums += np.nansum(values, axis=0)

    def mean(self, column: int) -> float | None:
        if not self.counts[column]:
            return None
        mean = float(self._sums[column] / self.counts[column])
        return mean if math.isfinite(mean) else None


def _merged(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the first problem of every column, with the number of all, in the order of their rows."""
    first: dict[str, Problem] = {}
    for problem in problems:
        known = first.get(problem.column)
        first[problem.column] = replace(known, count=known.count + problem.count) if known else problem
    return tuple(sorted(first.values(), key=lambda problem: (problem.row, problem.column)))

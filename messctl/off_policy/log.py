"""The log: the model that served each request, its propensity, its cost, and the satisfaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from messctl.errors import StoreError, TraceError, UsageError
from messctl.learning.features import Encoder, Features
from messctl.policies.base import Floats
from messctl.state.place import Place
from messctl.state.sqlite_file import ANOTHER_PLACE
from messctl.state.store import Store
from messctl.trace import Batch, TraceFile, is_sqlite
from messctl.trace.sound import sound_batches
from messctl.zoo import Zoo, costliest

LEAST_PROPENSITY = 1e-12
"""The smallest propensity accepted. No policy draws with less, and squared weights stay finite."""


@dataclass(frozen=True, slots=True)
class Log:
    """Answered requests in the order of their decisions; every array is (n,).

    `served` is the index in `zoo` of the model that served, `propensity` (0, 1] the probability of that choice, `cost`
    ≥ 0 the cost of its answer in `cost_unit`, and `satisfied` (0..1) the feedback, NaN if there is none. `features` are
    those of the `prompts`. `forced` is the number of requests left out because the user chose their model.

    `alone` tells which requests were answered by one model and no other. Of the others, `served` is the model whose
    answer was shown, `propensity` the probability that exactly those models were asked, and `cost` that of all of them.
    No policy that asks one model could have done that, so they count as decisions that it would not make.
    """

    path: Place
    cost_unit: str
    zoo: Zoo
    request_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    features: Features
    served: npt.NDArray[np.int64]
    propensity: Floats
    satisfied: Floats
    cost: Floats
    alone: npt.NDArray[np.bool_]
    forced: int = 0

    def __len__(self) -> int:
        return len(self.served)

    @property
    def has_feedback(self) -> npt.NDArray[np.bool_]:
        """Which answers have feedback, (n,)."""
        return ~np.isnan(self.satisfied)


@dataclass(frozen=True, slots=True)
class _Logged:
    """One logged decision; `number` is its row, from 1. A missing value is NaN or None."""

    number: int
    request_id: str
    prompt: str
    served: str | None
    propensity: float
    satisfied: float
    cost: float
    alone: bool


def read(path: Place, encoder: Encoder, reference: str | None = None, *, skip_forced: bool = False) -> Log:
    """Read an exported live log or a state, and encode its prompts with `encoder`.

    The models are those that ever answered. Their reference is `reference`, by default the one with the highest mean
    cost. With `skip_forced`, requests without a propensity are left out: the user chose their model. Raises TraceError
    for a file that is not a log or a row that lacks a value, UsageError if no request is left, StoreError for a state
    that cannot be read, and UnknownNameError for the reference.
    """
    models, cost_unit, rows = _of_state(path) if not isinstance(path, Path) or is_sqlite(path) else _of_trace(path)
    used = [row for row in rows if not (skip_forced and np.isnan(row.propensity))]
    for row in used:
        _check(path, row)
    if not used:
        raise UsageError(
            f"{path}: no request was routed by a policy, so nothing can be estimated; ask without --model first"
        )
    served = np.array([models.index(row.served or "") for row in used])
    cost = np.array([row.cost for row in used])
    return Log(
        path=path,
        cost_unit=cost_unit,
        zoo=Zoo.of(models, reference or _costliest(models, served, cost)),
        request_ids=tuple(row.request_id for row in used),
        prompts=tuple(row.prompt for row in used),
        features=encoder.column(pa.array([row.prompt for row in used], pa.large_string())),
        served=served,
        propensity=np.array([row.propensity for row in used]),
        satisfied=np.array([row.satisfied for row in used]),
        cost=cost,
        alone=np.array([row.alone for row in used]),
        forced=len(rows) - len(used),
    )


def _check(path: Place, row: _Logged) -> None:
    """Raise TraceError if the row lacks what an estimate needs."""
    place = f"{path}: row {row.number} ({row.request_id})"
    if row.served is None:
        raise TraceError(f"{place}: 'served' names no model of the log; export the log again")
    if np.isnan(row.propensity):
        raise TraceError(
            f"{place}: no propensity, because the user chose the model; leave such rows out with --skip-forced"
        )
    if not LEAST_PROPENSITY <= row.propensity <= 1.0:
        rule = f"{LEAST_PROPENSITY:g} at least; correct it, or remove the row"
        written = f"{row.propensity:g}" if np.isfinite(row.propensity) else "NaN or infinite"
        raise TraceError(f"{place}: propensity is {written}; it must lie in (0, 1], {rule}")
    if np.isnan(row.cost):
        raise TraceError(f"{place}: the cost of the served answer is missing; remove the row")


def _costliest(models: tuple[str, ...], served: npt.NDArray[np.int64], cost: Floats) -> str:
    """Return the model with the highest mean cost of an answer; one that served nothing has none."""
    answers = np.bincount(served, minlength=len(models))
    total = np.bincount(served, cost, minlength=len(models))
    means = np.where(answers > 0, total / np.maximum(answers, 1), np.nan)
    return costliest(dict(zip(models, means.tolist(), strict=True)))


def _of_state(path: Place) -> tuple[tuple[str, ...], str, list[_Logged]]:
    """Return the models, the cost unit and the answered requests of a live state."""
    models: set[str] = set()
    units: set[str] = set()
    rows: list[_Logged] = []
    with _copied(path) as store:
        for logged in store.requests:
            if not logged.answers:
                continue
            models.update(logged.answers)
            units.add(logged.circumstances.cost_unit)
            served, answers = logged.decision.served, logged.answers
            several = len(logged.decision.answers) > 1
            paid = [answer.cost for answer in answers.values()] if several else []
            rows.append(
                _Logged(
                    number=len(rows) + 1,
                    request_id=logged.decision.request.request_id,
                    prompt=logged.decision.request.prompt,
                    served=served if served in logged.answers else None,
                    propensity=_number(logged.propensity),
                    satisfied=_number(logged.satisfied),
                    cost=_total(paid) if several else _number(answers[served].cost if served in answers else None),
                    alone=not several,
                )
            )
    if len(units) > 1:
        listed = " and ".join(sorted(units))
        raise UsageError(f"{path}: costs in {listed} cannot be added up; give each zoo its own --state")
    return tuple(sorted(models)), "".join(units) or "unit", rows


@contextmanager
def _copied(path: Place) -> Iterator[Store]:
    """Open a copy of a state in memory, so that nothing changes beside it. Raises StoreError if it cannot be read."""
    try:
        with Store(path, copied=True) as store:
            yield store
    except StoreError as error:
        message = str(error).replace(ANOTHER_PLACE, "give a state of messctl, or an exported log")
        raise StoreError(message) from error


def _total(costs: list[float | None]) -> float:
    return float(np.sum([_number(cost) for cost in costs]))


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _of_trace(path: Path) -> tuple[tuple[str, ...], str, list[_Logged]]:
    """Return the models, the cost unit and the requests of an exported log."""
    trace = TraceFile(path)
    for name in ("served", "propensity"):
        if name not in trace.schema.names:
            raise TraceError(
                f"{path}: no column {name!r}; `messctl evaluate` needs a live log: `messctl export` writes one"
            )
    rows = [row for batch in sound_batches(trace) for row in _rows(batch, trace.models)]
    return trace.models, trace.metadata.cost_unit, rows


def _rows(batch: Batch, models: tuple[str, ...]) -> Iterator[_Logged]:
    assert batch.served is not None, "the columns are there"
    assert batch.propensity is not None, "the columns are there"
    # A policy that explored queried all models, whatever they answered: the served one alone counts.
    several = np.zeros(len(batch.cost), dtype=bool) if batch.several is None else batch.several
    if batch.explored is not None:
        several &= np.nan_to_num(batch.explored) == 0.0
    columns = (batch.request_ids.to_pylist(), batch.prompts.to_pylist(), batch.served.tolist())
    for row, (request_id, prompt, served) in enumerate(zip(*columns, strict=True)):
        yield _Logged(
            number=batch.first_row + row,
            request_id=request_id,
            prompt=prompt,
            served=models[served] if served >= 0 else None,
            propensity=float(batch.propensity[row]),
            satisfied=float(batch.satisfied[row, served]),
            cost=float(np.nansum(batch.cost[row]) if several[row] else batch.cost[row, served]),
            alone=not several[row],
        )

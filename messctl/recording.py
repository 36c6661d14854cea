"""Recordings: a trace read into memory, ready to be played."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from messctl.errors import TraceError
from messctl.features import Features, concatenate, encode
from messctl.policies import Rounds
from messctl.trace import Batch, TraceFile, check
from messctl.trace.check import repeated_ids
from messctl.zoo import Zoo


@dataclass(frozen=True, slots=True)
class Recording:
    """What was read of a trace: `left_out` rows lacked what was needed.

    A `partial` recording is a live log: it holds the models that were queried, NaN for the others, and only the
    policy `logged` can be played on it.
    """

    path: Path
    cost_unit: str
    rounds: Rounds
    left_out: int
    partial: bool = False

    @property
    def mean_cost(self) -> npt.NDArray[np.float64]:
        """Each model's mean observed cost, (models,); NaN for one never observed."""
        return _mean(self.rounds.cost)

    @property
    def mean_satisfied(self) -> npt.NDArray[np.float64]:
        """Each model's mean observed satisfaction, (models,); NaN for one never observed."""
        return _mean(self.rounds.satisfied)


def load(path: Path, reference: str | None = None, *, partial: bool = False) -> Recording:
    """Read a trace; its models' `reference` is by default the one with the highest mean cost.

    Rows in which some model was not observed are left out, so that all policies face the same requests; of a
    `partial` recording the served model's cost is enough. Raises TraceError where nothing is left or a value is
    wrong, UnknownNameError for the reference.
    """
    trace = TraceFile(path)
    if len(trace.models) < 2 and not partial:
        raise TraceError(f"{path}: has one model only, {trace.models[0]!r}; routing needs at least two")
    if not trace.rows:
        raise TraceError(f"{path}: has no rows")
    parts = [_part(batch, partial) for batch in sound_batches(trace)]
    costs_seen = np.any([part.costs_seen for part in parts], axis=0)
    if not (costs_seen.any() if partial else costs_seen.all()):
        model = trace.models[int(costs_seen.argmin())]
        raise TraceError(f"{path}: has no costs for {model!r}; import it again with --cost '{model}=VALUE'")
    kept = [part for part in parts if len(part.cost)]
    if not kept:
        what = "was it said what was served" if partial else "is there an outcome of every model"
        raise TraceError(f"{path}: in no row {what}; nothing to replay")
    cost = np.concatenate([part.cost for part in kept])
    rounds = Rounds(
        zoo=Zoo.of(trace.models, reference or trace.models[int(np.nanargmax(_mean(cost)))]),
        request_ids=pa.concat_arrays([part.ids for part in kept]).to_pylist(),
        features=concatenate([part.features for part in kept]),
        satisfied=np.concatenate([part.satisfied for part in kept]),
        cost=cost,
        order=np.arange(len(cost)),
        heard=np.ones(len(cost), dtype=np.bool_),
        served=np.concatenate([part.served for part in kept]),
        judged=np.concatenate([part.judged for part in kept]),
        alpha=np.concatenate([part.alpha for part in kept]),
        explored=np.concatenate([part.explored for part in kept]),
    )
    return Recording(path, trace.metadata.cost_unit, rounds, trace.rows - len(cost), partial)


@dataclass(frozen=True, slots=True)
class _Part:
    """What is kept of one batch; `costs_seen` (models,) is over the whole of it."""

    ids: pa.Array
    features: Features
    satisfied: npt.NDArray[np.float64]
    cost: npt.NDArray[np.float64]
    served: npt.NDArray[np.int64]
    judged: npt.NDArray[np.float64]
    alpha: npt.NDArray[np.float64]
    explored: npt.NDArray[np.float64]
    costs_seen: npt.NDArray[np.bool_]


def sound_batches(trace: TraceFile) -> Iterator[Batch]:
    """Yield each batch, checked. Raises TraceError for what is wrong in it, at the end for ids that come twice."""
    seen: list[pa.Array] = []
    for batch in trace.batches():
        for problem in check(trace, batch):
            raise TraceError(f"{trace.path}: {problem}; `messctl trace validate` lists all that is wrong")
        seen.append(batch.request_ids)
        yield batch
    for problem in repeated_ids(pa.chunked_array(seen, pa.large_string())):
        raise TraceError(f"{trace.path}: {problem}; request ids must be unique")


def _part(batch: Batch, partial: bool) -> _Part:
    rows = len(batch.cost)
    served = np.full(rows, -1) if batch.served is None else batch.served
    judged = np.full(rows, np.nan) if batch.judged is None else batch.judged
    alpha = np.full(rows, np.nan) if batch.alpha is None else batch.alpha
    explored = np.full(rows, np.nan) if batch.explored is None else batch.explored
    if partial:
        usable = (served >= 0) & ~np.isnan(batch.cost[np.arange(rows), served])
    else:
        usable = ~(np.isnan(batch.satisfied) | np.isnan(batch.cost)).any(axis=1)
    mask = pa.array(usable)
    return _Part(
        ids=batch.request_ids.filter(mask),
        features=encode(batch.prompts.filter(mask)),
        satisfied=batch.satisfied[usable],
        cost=batch.cost[usable],
        served=served[usable],
        judged=judged[usable],
        alpha=alpha[usable],
        explored=explored[usable],
        costs_seen=np.asarray((~np.isnan(batch.cost)).any(axis=0)),
    )


def _mean(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    observed = ~np.isnan(table)
    return np.where(observed, table, 0.0).sum(axis=0) / np.where(observed.any(axis=0), observed.sum(axis=0), np.nan)

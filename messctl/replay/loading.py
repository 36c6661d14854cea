"""Recordings: a trace read into memory, ready to be played; and, for one that is larger, rounds batch by batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from messctl.costs.cost_line import Line
from messctl.errors import TraceError, UnknownNameError, UsageError
from messctl.learning.feature_cache import FeatureCache
from messctl.learning.features import Encoder, Features, WordEncoder, concatenate
from messctl.policies import Rounds
from messctl.trace import Batch, TraceFile
from messctl.trace.sound import sound_batches
from messctl.zoo import Zoo, costliest

AHEAD = 2
"""So many batches are worked on at once."""


class Source(Protocol):
    """What results are told of: a recording, or the survey of a trace that is streamed."""

    @property
    def path(self) -> Path:
        """Where the trace is."""

    @property
    def cost_unit(self) -> str:
        """The unit of all costs."""

    @property
    def zoo(self) -> Zoo:
        """The models."""

    @property
    def requests(self) -> int:
        """How many requests there are to play."""

    @property
    def left_out(self) -> int:
        """How many rows lacked what was needed."""

    @property
    def lacking(self) -> tuple[int, ...]:
        """In how many rows each model's outcome or cost is missing."""

    @property
    def partial(self) -> bool:
        """Whether only what was queried live is known."""

    @property
    def mean_cost(self) -> npt.NDArray[np.float64]:
        """Each model's mean cost, (models,)."""

    @property
    def mean_satisfied(self) -> npt.NDArray[np.float64]:
        """Each model's mean satisfaction, (models,)."""

    @property
    def reach(self) -> float:
        """What could be attained by knowing all outcomes."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What was read of a trace: `left_out` rows lacked what was needed, `lacking` of which model.

    A `partial` recording is a live log: it holds the models that were queried, NaN for the others, and only the
    policy `logged` can be played on it.
    """

    path: Path
    cost_unit: str
    rounds: Rounds
    left_out: int
    partial: bool = False
    lacking: tuple[int, ...] = ()

    @property
    def zoo(self) -> Zoo:
        """The models."""
        return self.rounds.zoo

    @property
    def requests(self) -> int:
        """How many requests there are to play."""
        return len(self.rounds)

    @property
    def reach(self) -> float:
        """What could be attained by knowing all outcomes."""
        return float(self.rounds.satisfied.max(axis=1).mean())

    @property
    def mean_cost(self) -> npt.NDArray[np.float64]:
        """Each model's mean observed cost, (models,); NaN for one never observed."""
        return _mean(self.rounds.cost)

    @property
    def mean_satisfied(self) -> npt.NDArray[np.float64]:
        """Each model's mean observed satisfaction, (models,); NaN for one never observed."""
        return _mean(self.rounds.satisfied)


@dataclass(frozen=True, slots=True)
class Holdout:
    """Which requests are held out: a `share` (0..1, both excluded), the last to arrive, or by a hash of their id.

    Raises UsageError for anything else.
    """

    share: float = 0.3
    by: str = "time"

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:
            raise UsageError(f"holdout is {self.share:g}; it must lie between 0 and 1")
        if self.by not in ("time", "hash"):
            raise UnknownNameError("way to hold out", self.by, ("time", "hash"))

    def varies(self, shuffle: bool) -> bool:
        """Return whether every seed holds out other requests."""
        return shuffle and self.by == "time"

    def arriving(self, mask: npt.NDArray[np.bool_], order: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which of the requests that arrive in `order` are held out, given what `held_out` returned."""
        return mask if self.by == "time" else mask[order]


def load(
    path: Path,
    reference: str | None = None,
    *,
    partial: bool = False,
    cache: bool = True,
    encoder: Encoder | None = None,
    prompt_costs: bool = False,
) -> Recording:
    """Read a trace; its models' `reference` is by default the one with the highest mean cost.

    Prompts are seen as the `encoder` does, by default by their words.
    Rows in which some model was not observed are left out, so that all policies face the same requests; of a
    `partial` recording the served model's cost is enough. With a `cache`, the features of a large trace are kept
    beside it, see `feature_cache`. With `prompt_costs`, what reading each prompt will cost is told beforehand, by the
    prompt's tokens and the prices that fit the trace. Where every row says when it arrived, the requests come in that
    order, those of one time as they stand; else as the rows stand. Raises TraceError where nothing is left, a value is
    wrong or tokens are wanted and missing, UnknownNameError for the reference.
    """
    trace = TraceFile(path)
    if len(trace.models) < 2 and not partial:
        raise TraceError(f"{path}: has one model only, {trace.models[0]!r}; routing needs at least two")
    if not trace.rows:
        raise TraceError(f"{path}: has no rows")
    encoder = encoder or WordEncoder()
    kept_features = FeatureCache.of(path, encoder) if cache and trace.rows >= encoder.kept_from else None
    known = kept_features.read(trace.rows) if kept_features else None
    sound_parts = sound_batches(trace, prompts=known is None, tokens=prompt_costs)
    parts = list(_ahead(lambda batch: _part(batch, partial, encoder), sound_parts))
    features = known or concatenate([part.features for part in parts])
    if kept_features and not known:
        kept_features.write(features)
    usable = np.concatenate([part.usable for part in parts])
    costs_seen = np.any([part.costs_seen for part in parts], axis=0)
    outcomes_seen = np.any([part.outcomes_seen for part in parts], axis=0)
    if not partial:
        check_outcomes(trace, outcomes_seen)
    if not (costs_seen.any() if partial else costs_seen.all()):
        model = trace.models[int(costs_seen.argmin())]
        raise TraceError(f"{path}: has no costs for {model!r}; import it again with --cost '{model}=VALUE'")
    kept = [part for part in parts if len(part.cost)]
    if not kept:
        if partial:
            raise TraceError(f"{path}: in no row was it said what was served; nothing to replay")
        raise no_outcomes(path)
    cost = np.concatenate([part.cost for part in kept])
    rounds = Rounds(
        zoo=Zoo.of(trace.models, reference or costliest(dict(zip(trace.models, _mean(cost), strict=True)))),
        request_ids=pa.concat_arrays([part.ids for part in kept]).to_pylist(),
        features=features if usable.all() else features.rows(np.flatnonzero(usable)),
        satisfied=np.concatenate([part.satisfied for part in kept]),
        cost=cost,
        order=np.arange(len(cost)),
        has_feedback=np.ones(len(cost), dtype=np.bool_),
        served=np.concatenate([part.served for part in kept]),
        judged=np.concatenate([part.judged for part in kept]),
        alpha=np.concatenate([part.alpha for part in kept]),
        explored=np.concatenate([part.explored for part in kept]),
        prompt_cost=_prompt_costs(trace, kept) if prompt_costs else None,
    )
    if trace.timed:
        rounds = _by_arrival(rounds, np.concatenate([part.arrived_at for part in kept]))
    lacking = np.sum([part.lacking for part in parts], axis=0).tolist()
    return Recording(path, trace.metadata.cost_unit, rounds, trace.rows - len(cost), partial, tuple(lacking))


def check_outcomes(trace: TraceFile, seen: npt.NDArray[np.bool_]) -> None:
    """Raise TraceError for the first model, (models,), of which no outcome was seen."""
    if not seen.all():
        raise no_outcomes(trace.path, trace.models[int(seen.argmin())])


def no_outcomes(path: Path, model: str | None = None) -> TraceError:
    """Return the error for a trace without a row to play, for want of one `model` where that is so."""
    why = "" if model is None else f", and in none at all one of {model!r}; make the trace without that model"
    return TraceError(
        f"{path}: in no row is there an outcome of every model{why}; nothing to replay; "
        "for a live log: add --policy logged, or use `messctl evaluate`"
    )


def scarcest(source: Source) -> str | None:
    """Return the model for want of which alone more than half of the rows are left out; None where there is none."""
    most = max(source.lacking, default=0)
    if source.partial or 2 * most <= source.requests + source.left_out:
        return None
    return source.zoo.models[source.lacking.index(most)]


def _by_arrival(rounds: Rounds, arrived_at: npt.NDArray[np.datetime64]) -> Rounds:
    if (arrived_at[1:] >= arrived_at[:-1]).all():
        return rounds
    return rounds.rows(np.argsort(arrived_at, kind="stable"))


def held_out(recording: Recording, holdout: Holdout) -> npt.NDArray[np.bool_]:
    """Return which rows are held out, (n,), where they arrive as they stand.

    Raises UsageError where it would be all of them, or none.
    """
    n = len(recording.rounds)
    if holdout.by == "time":
        mask = np.arange(n) >= n - round(holdout.share * n)
    else:
        limit = holdout.share * 2.0**64
        mask = np.array([_hashed(request_id) < limit for request_id in recording.rounds.request_ids])
    if mask.all() or not mask.any():
        raise UsageError(
            f"{recording.path}: a hold-out of {holdout.share:g} by {holdout.by} holds out {mask.sum()} of {n} "
            "requests; it must hold out some and leave some"
        )
    return mask


def _hashed(request_id: str) -> int:
    return int.from_bytes(blake2b(request_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class _Part:
    """What is kept of one batch, the `usable` of its rows.

    Of the whole are `features`, `usable`, and by model `costs_seen`, `outcomes_seen` and in how many rows either is
    `lacking`.
    """

    usable: npt.NDArray[np.bool_]
    features: Features
    ids: pa.Array
    satisfied: npt.NDArray[np.float64]
    cost: npt.NDArray[np.float64]
    served: npt.NDArray[np.int64]
    judged: npt.NDArray[np.float64]
    alpha: npt.NDArray[np.float64]
    explored: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.float64]
    arrived_at: npt.NDArray[np.datetime64]
    costs_seen: npt.NDArray[np.bool_]
    outcomes_seen: npt.NDArray[np.bool_]
    lacking: npt.NDArray[np.int64]


def _prompt_costs(trace: TraceFile, parts: Sequence[_Part]) -> npt.NDArray[np.float64]:
    """Return what reading each prompt costs, (n, models), by the straight line that fits each model's costs."""
    cost, tokens = (np.concatenate([getattr(part, name) for part in parts]) for name in ("cost", "tokens"))
    told = np.zeros(cost.shape)
    for index, model in enumerate(trace.models):
        counted, paid = tokens[:, index], cost[:, index] > 0.0
        if not (counted >= 0.0).all():
            raise TraceError(
                f"{trace.path}: not every row has tokens_in and tokens_out of model {model!r}; leave out --prompt-costs"
            )
        if paid.any():
            line = Line.fitted(counted[paid], cost[paid, index])
            told[:, index] = line.fixed + line.prompt * counted[:, 0]
    return told


def rounds_by_batch(trace: TraceFile, zoo: Zoo, encoder: Encoder) -> Iterator[Rounds]:
    """Yield the usable rows of a trace as rounds, batch by batch, without their ids. Raises TraceError."""
    for part in _ahead(lambda batch: _part(batch, False, encoder), sound_batches(trace, unique_ids=False)):
        rows = len(part.cost)
        if rows:
            has_feedback = np.ones(rows, dtype=np.bool_)
            features = part.features if part.usable.all() else part.features.rows(np.flatnonzero(part.usable))
            yield Rounds(zoo, (), features, part.satisfied, part.cost, np.arange(rows), has_feedback)


def _ahead(work: Callable[[Batch], _Part], batches: Iterable[Batch]) -> Iterator[_Part]:
    """Yield `work(batch)` of every batch, in order; some are worked on, in threads, while the caller is busy."""
    waiting: deque[Future[_Part]] = deque()
    with ThreadPoolExecutor(AHEAD) as pool:
        for batch in batches:
            waiting.append(pool.submit(work, batch))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _part(batch: Batch, partial: bool, encoder: Encoder) -> _Part:
    rows = len(batch.cost)
    served = np.full(rows, -1) if batch.served is None else batch.served
    judged = np.full(rows, np.nan) if batch.judged is None else batch.judged
    alpha = np.full(rows, np.nan) if batch.alpha is None else batch.alpha
    explored = np.full(rows, np.nan) if batch.explored is None else batch.explored
    arrived_at = np.full(rows, np.datetime64("NaT", "us")) if batch.arrived_at is None else batch.arrived_at
    known = (served >= 0) & ~np.isnan(batch.cost[np.arange(rows), served])
    usable = np.asarray(known if partial else ~batch.lacking.any(axis=1))
    return _Part(
        usable=usable,
        features=encoder.column(batch.prompts),
        ids=batch.request_ids if usable.all() else batch.request_ids.filter(pa.array(usable)),
        satisfied=batch.satisfied[usable],
        cost=batch.cost[usable],
        served=served[usable],
        judged=judged[usable],
        alpha=alpha[usable],
        explored=explored[usable],
        tokens=_tokens(batch)[usable],
        arrived_at=arrived_at[usable],
        costs_seen=np.asarray((~np.isnan(batch.cost)).any(axis=0)),
        outcomes_seen=np.asarray((~np.isnan(batch.satisfied)).any(axis=0)),
        lacking=batch.lacking.sum(axis=0),
    )


def _tokens(batch: Batch) -> npt.NDArray[np.float64]:
    """Return the tokens in and out, (rows, models, 2); no models where they were not wanted."""
    if batch.tokens_in is None or batch.tokens_out is None:
        return np.empty((len(batch.cost), 0, 2))
    return np.stack([batch.tokens_in, batch.tokens_out], axis=2)


def _mean(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    observed = ~np.isnan(table)
    return np.where(observed, table, 0.0).sum(axis=0) / np.where(observed.any(axis=0), observed.sum(axis=0), np.nan)

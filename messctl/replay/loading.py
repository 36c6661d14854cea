"""Loading: a trace is read into memory, ready to be played; a larger one is read as rounds, batch by batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from messctl.costs.cost_line import Line
from messctl.errors import TraceError
from messctl.graders.equality import Form, groups
from messctl.learning.feature_cache import FeatureCache
from messctl.learning.features import Encoder, Features, WordEncoder, concatenate
from messctl.policies import Rounds
from messctl.policies.base import Answers
from messctl.replay.facts import TraceFacts, observed_mean
from messctl.trace import Batch, TraceFile
from messctl.trace.format import ANSWERS, LATENCY
from messctl.trace.sound import sound_batches
from messctl.zoo import Zoo, costliest

AHEAD = 2
"""The number of batches that are read ahead, each in a thread."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A trace in memory: its facts, and the rounds to play.

    The recording of a live log is partial: it holds the models that were queried, NaN for the others, and only the
    policy `logged` can be played on it.
    """

    facts: TraceFacts
    rounds: Rounds

    @classmethod
    def of(
        cls,
        path: Path,
        cost_unit: str,
        rounds: Rounds,
        *,
        left_out: int = 0,
        lacking: tuple[int, ...] = (),
        partial: bool = False,
    ) -> Recording:
        """Return the recording of these rounds; see `TraceFacts` for the rest."""
        return cls(TraceFacts.of(path, cost_unit, rounds, left_out, lacking, partial), rounds)

    def only(self, rows: npt.NDArray[np.int64]) -> Recording:
        """Return the recording of these rows alone."""
        facts = self.facts
        return Recording.of(
            facts.path,
            facts.cost_unit,
            self.rounds.rows(rows),
            left_out=facts.left_out,
            lacking=facts.lacking,
            partial=facts.partial,
        )


def load(
    path: Path,
    reference: str | None = None,
    *,
    partial: bool = False,
    cache: bool = True,
    encoder: Encoder | None = None,
    prompt_costs: bool = False,
    equal: Form | None = None,
) -> Recording:
    """Read a trace into memory.

    The `reference` is by default the model with the highest mean cost. The `encoder` makes features of the prompts, by
    default of their words; with `cache`, the features of a large trace are stored beside it, see `feature_cache`. Rows
    that lack a model's outcome or cost are left out, so that all policies face the same requests; a `partial` recording
    needs only the cost of the model served. With `prompt_costs`, policies know the cost of reading each prompt in
    advance, from its tokens and the prices that fit the trace. With `equal`, the form by which answers are equal, the
    rounds hold what a second look sees, if the trace has answers or log-probabilities.

    If every row has an arrival time, the requests come in that order, and requests of one time as the rows are; else
    all come as the rows are. Raises TraceError if nothing is left, a value is wrong, or tokens are needed and missing;
    UnknownNameError for the reference.
    """
    trace = TraceFile(path)
    check_playable(trace, least_models=1 if partial else 2)
    parts, features = _read(
        trace, encoder or WordEncoder(), partial=partial, cache=cache, tokens=prompt_costs, equal=equal
    )
    if not partial:
        check_outcomes(trace, np.any([part.outcomes_seen for part in parts], axis=0))
    check_costs(trace, np.any([part.costs_seen for part in parts], axis=0), partial=partial)
    filled = [part for part in parts if len(part.cost)]
    if not filled:
        if partial:
            raise TraceError(f"{path}: no row names the model served and its cost; write the log with `messctl export`")
        raise no_outcomes(path)
    usable = np.concatenate([part.usable for part in parts])
    rounds = _rounds(
        trace, filled, features if usable.all() else features.rows(np.flatnonzero(usable)), reference=reference
    )
    if prompt_costs:
        rounds = replace(rounds, prompt_cost=_prompt_costs(trace, filled))
    if equal and any(trace.has(field, model) for field in ANSWERS for model in trace.models):
        group, logprob = (np.concatenate([getattr(part, name) for part in filled]) for name in ("group", "logprob"))
        rounds = replace(rounds, answers=Answers(group, logprob))
    if all(trace.has(LATENCY, model) for model in trace.models):
        rounds = replace(rounds, latency_s=np.concatenate([part.latency_s for part in filled]))
    if trace.timed:
        rounds = _by_arrival(rounds, np.concatenate([part.arrived_at for part in filled]))
    return Recording.of(
        path,
        trace.metadata.cost_unit,
        rounds,
        left_out=trace.rows - len(rounds),
        lacking=tuple(np.sum([part.lacking for part in parts], axis=0).tolist()),
        partial=partial,
    )


def _read(
    trace: TraceFile, encoder: Encoder, *, partial: bool, cache: bool, tokens: bool, equal: Form | None
) -> tuple[list[_Part], Features]:
    """Read all batches; return them, and the features of all rows, which come from the cache if they are there."""
    stored = FeatureCache.of(trace.path, encoder) if cache and trace.rows >= encoder.kept_from else None
    known = stored.read(trace.rows) if stored else None
    batches = sound_batches(trace, prompts=known is None, tokens=tokens, answers=equal is not None)
    parts = list(_ahead(lambda batch: _part(batch, partial, encoder, equal), batches))
    features = known or concatenate([part.features for part in parts])
    if stored and not known:
        stored.write(features)
    return parts, features


def _rounds(trace: TraceFile, parts: Sequence[_Part], features: Features, *, reference: str | None) -> Rounds:
    cost = np.concatenate([part.cost for part in parts])
    return Rounds(
        zoo=Zoo.of(trace.models, reference or costliest(dict(zip(trace.models, observed_mean(cost), strict=True)))),
        request_ids=pa.concat_arrays([part.ids for part in parts]).to_pylist(),
        features=features,
        satisfied=np.concatenate([part.satisfied for part in parts]),
        cost=cost,
        order=np.arange(len(cost)),
        has_feedback=np.ones(len(cost), dtype=np.bool_),
        served=np.concatenate([part.served for part in parts]),
        judged=np.concatenate([part.judged for part in parts]),
        alpha=np.concatenate([part.alpha for part in parts]),
        explored=np.concatenate([part.explored for part in parts]),
    )


def check_playable(trace: TraceFile, *, least_models: int = 2) -> None:
    """Raise TraceError for a trace without rows, or with fewer models than `least_models`."""
    if len(trace.models) < least_models:
        raise TraceError(f"{trace.path}: has one model only, {trace.models[0]!r}; routing needs at least two")
    if not trace.rows:
        raise TraceError(f"{trace.path}: has no rows; there is nothing to replay")


def check_outcomes(trace: TraceFile, seen: npt.NDArray[np.bool_]) -> None:
    """Raise TraceError for the first model without any outcome; `seen` tells which models have one, (models,)."""
    if not seen.all():
        raise no_outcomes(trace.path, trace.models[int(seen.argmin())])


def check_costs(trace: TraceFile, seen: npt.NDArray[np.bool_], *, partial: bool = False) -> None:
    """Raise TraceError for the first model without any cost; `seen` tells which models have one, (models,).

    A partial recording needs the costs of one model only.
    """
    if not (seen.any() if partial else seen.all()):
        model = trace.models[int(seen.argmin())]
        raise TraceError(f"{trace.path}: has no costs for {model!r}; import it again with --cost '{model}=VALUE'")


def no_outcomes(path: Path, model: str | None = None) -> TraceError:
    """Return the error for a trace in which no row is complete, because of one `model` if that is so."""
    if model is None:
        what = "no row has an outcome and a cost of every model, and a replay needs such rows"
    else:
        what = f"no row has an outcome of {model!r}; make the trace without that model"
    return TraceError(f"{path}: {what}; for a live log, add --policy logged, or use `messctl evaluate`")


def _by_arrival(rounds: Rounds, arrived_at: npt.NDArray[np.datetime64]) -> Rounds:
    if (arrived_at[1:] >= arrived_at[:-1]).all():
        return rounds
    return rounds.rows(np.argsort(arrived_at, kind="stable"))


@dataclass(frozen=True, slots=True)
class _Part:
    """One batch, reduced to its `usable` rows.

    These are of all rows: `features`, `usable`, and by model `costs_seen`, `outcomes_seen` and `lacking`, the number of
    rows without the model's outcome or cost.
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
    group: npt.NDArray[np.int64]
    logprob: npt.NDArray[np.float64]
    latency_s: npt.NDArray[np.float64]
    arrived_at: npt.NDArray[np.datetime64]
    costs_seen: npt.NDArray[np.bool_]
    outcomes_seen: npt.NDArray[np.bool_]
    lacking: npt.NDArray[np.int64]


def _prompt_costs(trace: TraceFile, parts: Sequence[_Part]) -> npt.NDArray[np.float64]:
    """Return the cost of reading each prompt, (n, models), by the straight line that fits each model's costs."""
    cost, tokens = (np.concatenate([getattr(part, name) for part in parts]) for name in ("cost", "tokens"))
    prompt_cost = np.zeros(cost.shape)
    for index, model in enumerate(trace.models):
        counts, has_cost = tokens[:, index], cost[:, index] > 0.0
        if not (counts >= 0.0).all():
            raise TraceError(
                f"{trace.path}: not every row has tokens_in and tokens_out of model {model!r}; leave out --prompt-costs"
            )
        if has_cost.any():
            line = Line.fitted(counts[has_cost], cost[has_cost, index])
            prompt_cost[:, index] = line.fixed + line.prompt * counts[:, 0]
    return prompt_cost


def rounds_by_batch(trace: TraceFile, zoo: Zoo, encoder: Encoder) -> Iterator[Rounds]:
    """Yield the usable rows of a trace as rounds, batch by batch, without their ids. Raises TraceError."""
    for part in _ahead(lambda batch: _part(batch, False, encoder), sound_batches(trace, unique_ids=False)):
        rows = len(part.cost)
        if rows:
            has_feedback = np.ones(rows, dtype=np.bool_)
            features = part.features if part.usable.all() else part.features.rows(np.flatnonzero(part.usable))
            yield Rounds(zoo, (), features, part.satisfied, part.cost, np.arange(rows), has_feedback)


def _ahead(work: Callable[[Batch], _Part], batches: Iterable[Batch]) -> Iterator[_Part]:
    """Yield `work(batch)` of every batch, in order; threads work on the next ones while the caller is busy."""
    waiting: deque[Future[_Part]] = deque()
    with ThreadPoolExecutor(AHEAD) as pool:
        for batch in batches:
            waiting.append(pool.submit(work, batch))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _part(batch: Batch, partial: bool, encoder: Encoder, equal: Form | None = None) -> _Part:
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
        group=_groups(batch, equal)[usable],
        latency_s=batch.latency_s[usable],
        logprob=np.empty((rows, 0))[usable] if batch.logprob is None else batch.logprob[usable],
        arrived_at=arrived_at[usable],
        costs_seen=np.asarray((~np.isnan(batch.cost)).any(axis=0)),
        outcomes_seen=np.asarray((~np.isnan(batch.satisfied)).any(axis=0)),
        lacking=batch.lacking.sum(axis=0),
    )


def _tokens(batch: Batch) -> npt.NDArray[np.float64]:
    """Return the tokens in and out, (rows, models, 2), or (rows, 0, 2) if they were not read."""
    if batch.tokens_in is None or batch.tokens_out is None:
        return np.empty((len(batch.cost), 0, 2))
    return np.stack([batch.tokens_in, batch.tokens_out], axis=2)


def _groups(batch: Batch, equal: Form | None) -> npt.NDArray[np.int64]:
    """Return numbers that equal answers of a row share, (rows, models), or (rows, 0) if they were not read."""
    if batch.answers is None or equal is None:
        return np.empty((len(batch.cost), 0), dtype=np.int64)
    texts = zip(*(answers.to_pylist() for answers in batch.answers), strict=True)
    return np.array([groups(row, equal) for row in texts], dtype=np.int64).reshape(len(batch.cost), len(batch.answers))

"""Warm starts: what a policy learns from a trace, for a live router to start from.

The policy plays the trace in its order, one request at a time, and gets the outcomes of the models it queried. Rows of
an exported live log lack most outcomes: there the policy gets the outcome of the model that was served, as if the user
had chosen it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from messctl.errors import TraceError, UsageError
from messctl.learning.features import Encoder
from messctl.learning.snapshot import Snapshot, cost_source
from messctl.policies import LivePolicy, live_build
from messctl.policies.base import Floats
from messctl.records import Feedback, Request
from messctl.trace import Batch, TraceFile
from messctl.trace.sound import sound_batches
from messctl.zoo import Settings, Zoo, costliest


@dataclass(frozen=True, slots=True)
class WarmStart:
    """What a policy learned from a trace about the `models` that the trace shares with the zoo.

    It learned from `requests` rows; `left_out` rows had no outcome to learn from.
    """

    snapshot: Snapshot
    requests: int
    left_out: int
    models: tuple[str, ...]


def learn_from(
    trace: TraceFile,
    zoo: Zoo,
    settings: Settings,
    progress: Callable[[int], None] = lambda _: None,
    encoder: Encoder | None = None,
) -> WarmStart:
    """Play a trace through the policy of the settings, and return what it has learned, without any debt.

    Models are matched by name. `progress` gets the number of rows read so far. Raises UsageError if the trace has none
    of the zoo's models, TraceError if it is invalid or has no row to learn from.
    """
    models = tuple(model for model in zoo.models if model in trace.models)
    if not models:
        raise UsageError(
            f"{trace.path}: has none of the zoo's models; it has {', '.join(trace.models)}, "
            f"the zoo {', '.join(zoo.models)}"
        )
    reference = zoo.reference if zoo.reference in models else _costliest(trace, models)
    policy = live_build(settings.policy)(Zoo.of(models, reference), settings, Snapshot(), encoder)
    requests = 0
    for batch in sound_batches(trace):
        requests += _teach(policy, batch, trace.models, models)
        progress(batch.first_row + len(batch.cost) - 1)
    if not requests:
        raise TraceError(
            f"{trace.path}: no row has an outcome of every model, and none says what was served; "
            "give a complete trace, or a log that `messctl export` wrote"
        )
    without_debt = replace(policy.snapshot(), decided=0, queue=0.0, balance=0.0)
    learned = live_build(settings.policy)(Zoo.of(models, reference), settings, without_debt, encoder).snapshot()
    # `ask` knows what reading a prompt costs, a trace does not: only the mean costs are taken over.
    learned = replace(learned, models={name: replace(each, cost_arrays={}) for name, each in learned.models.items()})
    source = cost_source(trace.metadata.cost_unit, trace.metadata.meter)
    return WarmStart(learned.with_source(source), requests, trace.rows - requests, models)


def _teach(policy: LivePolicy, batch: Batch, columns: Sequence[str], models: Sequence[str]) -> int:
    """Play a batch, and return how many of its rows had something to learn from."""
    taught = 0
    at = {model: columns.index(model) for model in models}
    missing = np.isnan(batch.cost) | np.isnan(batch.satisfied)
    lacking = np.asarray(missing[:, list(at.values())].any(axis=1))
    ids, prompts = batch.request_ids.to_pylist(), batch.prompts.to_pylist()
    for row, incomplete in enumerate(lacking):
        served = _served(batch, row, columns) if incomplete else None
        if incomplete and served not in at:
            continue
        decision = policy.decide(Request(ids[row], prompts[row], gradable=not incomplete))
        if served is not None:
            decision = replace(decision, served=served, queried=(served,))
        policy.learn(decision, Feedback(costs=_observed(batch.cost[row], decision.queried, at)))
        policy.learn(decision, Feedback(satisfied=_observed(batch.satisfied[row], decision.queried, at)))
        taught += 1
    return taught


def _served(batch: Batch, row: int, columns: Sequence[str]) -> str | None:
    """Return the model that a row says was served, None if it does not say so or lacks the cost."""
    index = -1 if batch.served is None else int(batch.served[row])
    return None if index < 0 or np.isnan(batch.cost[row, index]) else columns[index]


def _observed(values: Floats, models: Sequence[str], at: Mapping[str, int]) -> dict[str, float]:
    return {model: float(values[at[model]]) for model in models if not np.isnan(values[at[model]])}


def _costliest(trace: TraceFile, models: Sequence[str]) -> str:
    """Return the model with the highest mean cost."""
    columns = [trace.models.index(model) for model in models]
    total, count = np.zeros(len(models)), np.zeros(len(models))
    for batch in sound_batches(trace):
        cost = batch.cost[:, columns]
        total += np.nansum(cost, axis=0)
        count += (~np.isnan(cost)).sum(axis=0)
    means = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return costliest(dict(zip(models, means.tolist(), strict=True)))

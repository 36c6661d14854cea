"""Streaming: a trace larger than memory is played batch by batch, and the memory needed does not grow with it.

The first pass reads outcomes and costs, for the models' means. The second pass reads the prompts, and every policy goes
on from where the batch before left it. Anything that needs the whole trace at once is left out: shuffling, late
feedback, the yardsticks `hindsight` and `clairvoyant`, the steps of each request, rows out of the order of their
arrival, and the check that no request id appears twice (`messctl trace validate` does that).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from messctl.errors import TraceError, UsageError
from messctl.learning.features import Encoder, Features, WordEncoder, width
from messctl.learning.random_streams import stream
from messctl.policies import Rounds, Streamed, build, default_names, kind_of
from messctl.replay.facts import TraceFacts
from messctl.replay.loading import check_costs, check_outcomes, check_playable, no_outcomes, rounds_by_batch
from messctl.replay.play import with_queue_at
from messctl.replay.result import Conditions, Replay, Sums, check_reachable, result_of
from messctl.trace import TraceFile
from messctl.trace.sound import sound_batches
from messctl.zoo import Settings, Zoo, costliest

Times = npt.NDArray[np.datetime64]


def survey(path: Path, reference: str | None = None) -> TraceFacts:
    """Read a trace's outcomes and costs once. The `reference` is by default the model with the highest mean cost.

    Raises TraceError if nothing can be played, a value is wrong, or the rows are out of the order of their arrival
    times; UnknownNameError for the reference.
    """
    trace = TraceFile(path)
    check_playable(trace)
    models = len(trace.models)
    cost, satisfied, lacking = np.zeros(models), np.zeros(models), np.zeros(models, dtype=np.int64)
    costs_seen, outcomes_seen = np.zeros(models, dtype=np.bool_), np.zeros(models, dtype=np.bool_)
    best, requests = 0.0, 0
    latest: Times = np.empty(0, "datetime64[us]")
    for batch in sound_batches(trace, ids=False, prompts=False, unique_ids=False):
        usable = ~batch.lacking.any(axis=1)
        lacking += batch.lacking.sum(axis=0)
        outcomes_seen |= (~np.isnan(batch.satisfied)).any(axis=0)
        costs_seen |= (~np.isnan(batch.cost)).any(axis=0)
        cost += batch.cost[usable].sum(axis=0)
        satisfied += batch.satisfied[usable].sum(axis=0)
        best += float(batch.satisfied[usable].max(axis=1).sum())
        requests += int(usable.sum())
        if trace.timed and batch.arrived_at is not None:
            latest = _checked_times(path, batch.first_row + np.flatnonzero(usable), batch.arrived_at[usable], latest)
    check_outcomes(trace, outcomes_seen)
    check_costs(trace, costs_seen)
    if not requests:
        raise no_outcomes(path)
    return TraceFacts(
        path=path,
        cost_unit=trace.metadata.cost_unit,
        zoo=Zoo.of(trace.models, reference or costliest(dict(zip(trace.models, cost, strict=True)))),
        requests=requests,
        left_out=trace.rows - requests,
        lacking=tuple(lacking.tolist()),
        partial=False,
        mean_cost=cost / requests,
        mean_satisfied=satisfied / requests,
        reach=best / requests,
    )


def _checked_times(path: Path, rows: npt.NDArray[np.int64], arrived_at: Times, latest: Times) -> Times:
    """Return the last of these times, (1,); `latest` is that of the rows before.

    Raises TraceError if time goes back.
    """
    times = np.concatenate([latest, arrived_at])
    early = np.flatnonzero(times[1:] < times[:-1])
    if len(early):
        row = rows[len(rows) - len(times) + 1 + early[0]]
        raise TraceError(
            f"{path}: row {row} arrived before a row above it, and a streamed replay plays the rows in their order; "
            "add --no-stream, or sort the file by arrived_at"
        )
    return times[-1:]


def needs_whole_trace(policies: Sequence[str], conditions: Conditions) -> str | None:
    """Return the first option or policy of these that needs the whole trace at once; None if none does."""
    if conditions.shuffle:
        return "--shuffle"
    if conditions.feedback_delay:
        return "--feedback-delay"
    if conditions.replicas > 1:
        return "--replicas"
    return next((f"--policy {name}" for name in policies if not kind_of(name).streams), None)


def default_streamed(models: Sequence[str]) -> list[str]:
    """Return the names of all policies that a streamed replay of these models shows, in order."""
    return [name for name in default_names(models) if kind_of(name).streams]


def replay_streamed(
    facts: TraceFacts,
    policies: Sequence[str],
    settings: Settings,
    conditions: Conditions,
    progress: Callable[[int], None] = lambda _: None,
    encoder: Encoder | None = None,
) -> Replay:
    """Play every policy under every seed, all in one pass. `facts` are from `survey`.

    `progress` gets the number of requests done. Raises UsageError for a condition or policy that needs the whole trace
    at once, or if no policy can reach α; TraceError.
    """
    needed = needs_whole_trace([*policies], conditions)
    if needed:
        raise UsageError(f"{needed} needs the whole trace at once; leave it out, or add --no-stream")
    kind_of(settings.policy)
    check_reachable(facts, settings.alpha)
    names = list(dict.fromkeys(policies))
    means = _means(facts)
    seeds = {name: conditions.seeds if kind_of(name).learns else 1 for name in names}
    playing = {
        (name, k): cast(Streamed, build(name, means, replace(settings, seed=settings.seed + k)))
        for name in names
        for k in range(seeds[name])
    }
    coins = [stream(settings.seed + k, "feedback") for k in range(conditions.seeds)]
    sums: dict[tuple[str, int], Sums] = {}
    done = 0
    for rounds in rounds_by_batch(TraceFile(facts.path), facts.zoo, encoder or WordEncoder()):
        has_feedback = [coin.random(len(rounds)) < conditions.feedback_rate for coin in coins]
        for (name, k), policy in playing.items():
            before = sums.get((name, k))
            played = policy.play_on(replace(rounds, has_feedback=has_feedback[k]))
            part = Sums.of(with_queue_at(played, settings.alpha, start=before.queue if before else 0.0))
            sums[name, k] = before.then(part) if before else part
        done += len(rounds)
        progress(done)
    results = [result_of(name, facts, [sums[name, k] for k in range(seeds[name])], settings) for name in names]
    return Replay(facts, settings, conditions, tuple(results), {})


def _means(facts: TraceFacts) -> Rounds:
    """Return one round in place of all: every model's mean satisfaction and cost."""
    nothing = Features(np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), width())
    satisfied, cost = facts.mean_satisfied[None], facts.mean_cost[None]
    return Rounds(facts.zoo, (), nothing, satisfied, cost, np.zeros(1, np.int64), np.ones(1, dtype=np.bool_))

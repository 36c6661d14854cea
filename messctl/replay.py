"""Replay: plays the recorded requests of a trace through policies, and measures cost and attainment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pyarrow as pa

from messctl.errors import TraceError, UsageError
from messctl.features import concatenate, encode
from messctl.frontier import cheapest_mixture
from messctl.policies import Played, Policy, Rounds, build, kind_of
from messctl.records import Decision, Feedback, Request
from messctl.trace import TraceFile, check
from messctl.trace.check import repeated_ids
from messctl.zoo import Settings, Zoo

MET = 1e-9
"""Attainment may fall short of α by this much, the rounding of a mean, and still meet it."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A trace read into memory, ready to be played: `left_out` rows lacked an outcome of some model."""

    path: Path
    cost_unit: str
    rounds: Rounds
    left_out: int


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the requests arrive and are judged.

    Feedback comes for a share `feedback_rate` (0..1) of the requests, after `feedback_delay` further ones.
    Seeds are `seed`, `seed` + 1, …. Raises UsageError for anything impossible.
    """

    seeds: int = 1
    shuffle: bool = False
    feedback_rate: float = 1.0
    feedback_delay: int = 0

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UsageError(f"seeds is {self.seeds}; it must be at least 1")
        if not 0.0 <= self.feedback_rate <= 1.0:
            raise UsageError(f"feedback-rate is {self.feedback_rate:g}; it must lie in 0..1")
        if self.feedback_delay < 0:
            raise UsageError(f"feedback-delay is {self.feedback_delay}; it must not be negative")


@dataclass(frozen=True, slots=True)
class Result:
    """What one policy attained and cost; means over the seeds.

    `attained`, and the `certificate` that bounds it from below, are over the answers that got feedback;
    `attained_all` is over all. Costs are in the trace's unit and None where the divisor is zero.
    `*_spread` is the standard deviation over seeds, None for one seed.
    """

    policy: str
    v: float | None
    c: float | None
    requests: int
    attained: float | None
    sla_met: bool
    certificate: float | None
    mean_cost: float
    total_cost: float
    cost_vs_costliest: float | None
    cost_vs_static_mix: float | None
    explored: float
    queue_final: float
    model_share: Mapping[str, float]
    attained_all: float
    attained_spread: float | None
    mean_cost_spread: float | None
    v_per_cost_unit: float | None


@dataclass(frozen=True, slots=True)
class Replay:
    """All results of one replay, with what was asked, and the first seed's `played` by policy."""

    recording: Recording
    settings: Settings
    conditions: Conditions
    results: tuple[Result, ...]
    played: Mapping[str, Played]

    @property
    def judged(self) -> Result:
        """The result that `--require-sla` is about: the first policy that learns, or else the first one."""
        return next((result for result in self.results if kind_of(result.policy).learns), self.results[0])


def load(path: Path, reference: str | None = None) -> Recording:
    """Read a trace; its models' `reference` is by default the one with the highest mean cost.

    Rows in which some model was not observed are left out, so that all policies face the same requests.
    Raises TraceError where nothing is left or a value is wrong, UnknownNameError for the reference.
    """
    trace = TraceFile(path)
    if len(trace.models) < 2:
        raise TraceError(f"{path}: has one model only, {trace.models[0]!r}; routing needs at least two")
    ids, features, satisfied, cost = [], [], [], []
    seen: list[pa.Array] = []
    costs_seen = np.zeros(len(trace.models), dtype=np.bool_)
    for batch in trace.batches():
        for problem in check(trace, batch):
            raise TraceError(f"{path}: {problem}; `messctl trace validate` lists all that is wrong")
        complete = ~(np.isnan(batch.satisfied) | np.isnan(batch.cost)).any(axis=1)
        costs_seen |= ~np.isnan(batch.cost).all(axis=0)
        seen.append(batch.request_ids)
        if complete.any():
            kept = pa.array(complete)
            ids.append(batch.request_ids.filter(kept))
            features.append(encode(batch.prompts.filter(kept)))
            satisfied.append(batch.satisfied[complete])
            cost.append(batch.cost[complete])
    if not trace.rows:
        raise TraceError(f"{path}: has no rows")
    for problem in repeated_ids(pa.chunked_array(seen, pa.large_string())):
        raise TraceError(f"{path}: {problem}; request ids must be unique")
    if not costs_seen.all():
        model = trace.models[int(costs_seen.argmin())]
        raise TraceError(f"{path}: has no costs for {model!r}; import it again with --cost '{model}=VALUE'")
    if not ids:
        raise TraceError(f"{path}: no row has an outcome of every model; nothing to compare policies on")
    costs = np.concatenate(cost)
    zoo = Zoo.of(trace.models, reference or trace.models[int(costs.mean(axis=0).argmax())])
    rounds = Rounds(
        zoo=zoo,
        request_ids=pa.concat_arrays(ids).to_pylist(),
        features=concatenate(features),
        satisfied=np.concatenate(satisfied),
        cost=costs,
        order=np.arange(len(costs)),
        heard=np.ones(len(costs), dtype=np.bool_),
    )
    return Recording(path, trace.metadata.cost_unit, rounds, trace.rows - len(costs))


def replay(
    recording: Recording,
    policies: Sequence[str],
    settings: Settings,
    conditions: Conditions,
    progress: Callable[[str], None] = lambda _: None,
) -> Replay:
    """Play every policy under every seed. `progress` hears what is being played.

    Raises UnknownNameError for a policy, UsageError where no policy could reach α.
    """
    for name in policies:
        kind_of(name)
    _check_reachable(recording, settings.alpha)
    arranged = [
        recording.rounds.arranged(
            seed=settings.seed + k,
            shuffle=conditions.shuffle,
            feedback_rate=conditions.feedback_rate,
            feedback_delay=conditions.feedback_delay,
        )
        for k in range(conditions.seeds)
    ]
    results, first = [], {}
    for name in dict.fromkeys(policies):
        progress(name)
        plays = list(_plays(name, recording.rounds, arranged, settings))
        results.append(_result(name, recording.rounds, plays, settings))
        first[name] = plays[0]
    return Replay(recording, settings, conditions, tuple(results), first)


def drive(policy: Policy, rounds: Rounds, prompts: Sequence[str]) -> Iterator[tuple[Decision, float | None]]:
    """Play rounds through a policy's two verbs, one request at a time, as live use does.

    `prompts` is in the trace's order. Yields each decision with its answer's satisfaction where it got feedback.
    It is the plain path against which every compiled one is checked.
    """
    models = rounds.zoo.models
    waiting: list[tuple[Decision, Feedback]] = []
    for t, row in enumerate(rounds.order):
        decision = policy.decide(Request(rounds.request_ids[row], prompts[row]))
        costs = {model: float(rounds.cost[row, models.index(model)]) for model in decision.queried}
        policy.learn(decision, Feedback(costs=costs))
        heard = {model: float(rounds.satisfied[row, models.index(model)]) for model in decision.queried}
        waiting.append((decision, Feedback(satisfied=heard if rounds.heard[t] else {})))
        yield decision, heard[decision.served] if rounds.heard[t] else None
        if len(waiting) > rounds.delay:
            policy.learn(*waiting.pop(0))
    for decision, feedback in waiting:
        policy.learn(decision, feedback)


def _plays(name: str, rounds: Rounds, arranged: Sequence[Rounds], settings: Settings) -> Iterator[Played]:
    policy = build(name, rounds, settings)
    for k, one in enumerate(arranged):
        if kind_of(name).learns:
            policy = build(name, rounds, replace(settings, seed=settings.seed + k))
        yield policy.play(one)


def _result(name: str, rounds: Rounds, plays: Sequence[Played], settings: Settings) -> Result:
    attained = [play.attained for play in plays if play.attained is not None]
    certificates = [play.certificate for play in plays if play.certificate is not None]
    mean_cost = [float(play.cost.mean()) for play in plays]
    model_cost, model_satisfied = (table.mean(axis=0, keepdims=True) for table in (rounds.cost, rounds.satisfied))
    mix = float((cheapest_mixture(model_cost, model_satisfied, settings.alpha) * model_cost).sum())
    share = np.mean([play.share for play in plays], axis=0)
    scale = plays[0].cost_scale
    several = len(plays) > 1
    mean_attained = fmean(attained) if attained else None
    cost = fmean(mean_cost)
    return Result(
        policy=name,
        v=settings.v if scale else None,
        c=settings.c if scale else None,
        requests=len(rounds),
        attained=mean_attained,
        sla_met=mean_attained is not None and mean_attained >= settings.alpha - MET,
        certificate=fmean(certificates) if certificates else None,
        mean_cost=cost,
        total_cost=cost * len(rounds),
        cost_vs_costliest=_ratio(cost, float(model_cost.max())),
        cost_vs_static_mix=_ratio(cost, mix),
        explored=fmean(0.0 if play.explored is None else float(play.explored.mean()) for play in plays),
        queue_final=fmean(play.queue_final for play in plays),
        model_share=dict(zip(rounds.zoo.models, share.tolist(), strict=True)),
        attained_all=fmean(float(play.satisfied_all.mean()) for play in plays),
        attained_spread=stdev(attained) if several and len(attained) > 1 else None,
        mean_cost_spread=stdev(mean_cost) if several else None,
        v_per_cost_unit=settings.v / scale if scale else None,
    )


def _ratio(value: float, divisor: float) -> float | None:
    return value / divisor if divisor > 0 else None


def _check_reachable(recording: Recording, alpha: float) -> None:
    rounds = recording.rounds
    reach = float(rounds.satisfied.max(axis=1).mean())
    if alpha > reach + MET:
        means = rounds.satisfied.mean(axis=0)
        best = int(means.argmax())
        raise UsageError(
            f"alpha {alpha:g} is beyond every policy on {recording.path}: even knowing all outcomes, "
            f"{reach:.4f} can be attained; the closest model, {rounds.zoo.models[best]!r}, attains {means[best]:.4f}"
        )

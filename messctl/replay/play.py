"""Replay: plays the recorded requests of a trace through policies, and measures cost and attainment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from statistics import fmean, stdev

import numpy as np

from messctl.errors import UsageError
from messctl.learning.frontier import cheapest_mixture
from messctl.learning.virtual_queue import certificate, path
from messctl.policies import Played, Policy, Rounds, build, kind_of
from messctl.policies.base import Floats
from messctl.records import Decision, Feedback, Request
from messctl.replay.loading import Holdout, Recording, Source, held_out
from messctl.zoo import Settings

ADDED = ("requests", "answers", "good", "good_all", "paid", "explored", "served")
"""The fields of Sums that add up from one part of a play to the next."""

MET = 1e-9
"""Attainment may fall short of α by this much, the rounding of a mean, and still meet it."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the requests arrive and are judged.

    Feedback comes for a share `feedback_rate` (0..1) of the requests, after `feedback_delay` further ones.
    Seeds are `seed`, `seed` + 1, …. Requests go in turn to `replicas` of the router, which share nothing. Raises
    UsageError for anything impossible.
    """

    seeds: int = 1
    shuffle: bool = False
    feedback_rate: float = 1.0
    feedback_delay: int = 0
    replicas: int = 1

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UsageError(f"seeds is {self.seeds}; it must be at least 1")
        if self.replicas < 1:
            raise UsageError(f"replicas is {self.replicas}; it must be at least 1")
        if not 0.0 <= self.feedback_rate <= 1.0:
            raise UsageError(f"feedback-rate is {self.feedback_rate:g}; it must lie in 0..1")
        if self.feedback_delay < 0:
            raise UsageError(f"feedback-delay is {self.feedback_delay}; it must not be negative")


@dataclass(frozen=True, slots=True)
class Result:
    """What one policy attained and cost; means over the seeds.

    `attained`, and the `certificate` that bounds it from below, are over the answers that got feedback;
    `attained_all` is over all, None where not all are known. `queue_final` is the debt against α, also of a policy that
    aims above it. Costs are in the trace's unit; ratios are None where the divisor is zero. `requests` is how many were
    counted. `v` and `c` are None for a policy that goes by none, as the bandit does by default. `sla_met` is None where
    nothing was judged. `*_spread` is the standard deviation over seeds, None for one seed.
    """

    policy: str
    v: float | None
    c: float | None
    requests: int
    attained: float | None
    sla_met: bool | None
    certificate: float | None
    mean_cost: float
    total_cost: float
    cost_vs_costliest: float | None
    cost_vs_static_mix: float | None
    explored: float
    queue_final: float
    model_share: Mapping[str, float]
    attained_all: float | None
    attained_spread: float | None
    mean_cost_spread: float | None
    v_per_cost_unit: float | None


@dataclass(frozen=True, slots=True)
class Replay:
    """All results of one replay, with what was asked, and the first seed's `played` by policy, as it kept its books.

    Under a `holdout` the results, and `recording` where it is always the same ones, are of the requests held out, but
    for those of yardsticks where every seed's are others; `played` is of all. A streamed replay has none.
    """

    recording: Source
    settings: Settings
    conditions: Conditions
    results: tuple[Result, ...]
    played: Mapping[str, Played]
    holdout: Holdout | None = None

    @property
    def streamed(self) -> bool:
        """Whether it was played batch by batch."""
        return not self.played

    @property
    def prompt_costs(self) -> bool:
        """Whether the policies were told beforehand what reading each prompt would cost."""
        return isinstance(self.recording, Recording) and self.recording.rounds.prompt_cost is not None

    @property
    def judged(self) -> Result:
        """The result that `--require-sla` is about; see `judged_of`."""
        policies = [result.policy for result in self.results]
        return self.results[policies.index(judged_of(policies, self.settings))]


def judged_of(policies: Sequence[str], settings: Settings) -> str:
    """Return which policy a promise is judged by: that of the settings where it is there, else the first that learns.

    Where only yardsticks are there, the first of them.
    """
    routers = [name for name in policies if kind_of(name).learns]
    return settings.policy if settings.policy in policies else [*routers, *policies][0]


def replay(
    recording: Recording,
    policies: Sequence[str],
    settings: Settings,
    conditions: Conditions,
    progress: Callable[[str], None] = lambda _: None,
    holdout: Holdout | None = None,
) -> Replay:
    """Play every policy under every seed. `progress` hears what is being played.

    With a `holdout`, a policy that learns plays all requests, as it would live, but the results are of those held
    out; a yardstick knows and plays these alone, or all where every seed holds out others. Raises UnknownNameError for
    a policy, UsageError where no policy could reach α.
    """
    for name in (*policies, settings.policy):
        kind_of(name)
    if recording.partial and set(policies) != {"logged"}:
        raise UsageError("a partial recording holds only what was served; it replays the policy 'logged' alone")
    whole, counted = recording, None
    if holdout:
        counted = held_out(whole, holdout)
        if not holdout.varies(conditions.shuffle):
            recording = replace(whole, rounds=whole.rounds.rows(np.flatnonzero(counted)))
    check_reachable(recording, settings.alpha)
    arranged = [
        whole.rounds.arranged(
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
        if kind_of(name).learns:
            plays = [list(_plays(name, one, k, settings, conditions)) for k, one in enumerate(arranged)]
            first[name] = plays[0][0]
            plays = [[promised(play, settings.alpha) for play in seed] for seed in plays]
            if holdout and counted is not None:
                masks = [holdout.arriving(counted, one.order) for one in arranged]
                plays = [
                    [play.only(mask[replica :: conditions.replicas]) for replica, play in enumerate(seed)]
                    for mask, seed in zip(masks, plays, strict=True)
                ]
        else:
            # It has no luck, and once is enough.
            rounds = recording.rounds if holdout else arranged[0]
            first[name] = build(name, recording.rounds, settings).play(rounds)
            plays = [[first[name]]]
        sums = [reduce(Sums.beside, map(Sums.of, seed)) for seed in plays]
        result = result_of(name, recording, sums, settings)
        # The certificate bounds what all of the requests attained.
        results.append(replace(result, certificate=None) if holdout else result)
    return Replay(recording, settings, conditions, tuple(results), first, holdout)


def drive(policy: Policy, rounds: Rounds, prompts: Sequence[str]) -> Iterator[tuple[Decision, float | None]]:
    """Play rounds through a policy's two verbs, one request at a time, as live use does.

    `prompts` is in the trace's order. Yields each decision with its answer's satisfaction where it got feedback.
    It is the plain path against which every compiled one is checked.
    """
    models = rounds.zoo.models
    waiting: list[tuple[Decision, Feedback]] = []
    for t, row in enumerate(rounds.order):
        told = {} if rounds.prompt_cost is None else dict(zip(models, rounds.prompt_cost[row].tolist(), strict=True))
        decision = policy.decide(Request(rounds.request_ids[row], prompts[row], prompt_cost=told))
        costs = {model: float(rounds.cost[row, models.index(model)]) for model in decision.queried}
        policy.learn(decision, Feedback(costs=costs))
        has_feedback = {model: float(rounds.satisfied[row, models.index(model)]) for model in decision.queried}
        waiting.append((decision, Feedback(satisfied=has_feedback if rounds.has_feedback[t] else {})))
        yield decision, has_feedback[decision.served] if rounds.has_feedback[t] else None
        if len(waiting) > rounds.delay:
            policy.learn(*waiting.pop(0))
    for decision, feedback in waiting:
        policy.learn(decision, feedback)


def _plays(name: str, rounds: Rounds, k: int, settings: Settings, conditions: Conditions) -> Iterator[Played]:
    """Play a policy under the k-th seed, every replica on its share of the requests and with coins of its own."""
    replicas = conditions.replicas
    for replica in range(replicas):
        share = slice(replica, None, replicas)
        if not len(rounds.order[share]):
            continue
        part = replace(
            rounds,
            order=rounds.order[share],
            has_feedback=rounds.has_feedback[share],
            delay=-(-rounds.delay // replicas),
        )
        seed = settings.seed + k + replica * conditions.seeds
        yield build(name, rounds, replace(settings, seed=seed)).play(part)


def promised(played: Played, alpha: float, *, delay: int = 0, start: float = 0.0) -> Played:
    """Return a play with its debt against α, whatever the policy aimed at: Q ← max(0, Q + α − s) from `start` on.

    Feedback comes after `delay` further requests, or where the play ends.
    """
    if played.alpha == alpha:
        return played
    n, has_feedback = len(played.satisfied), ~np.isnan(played.satisfied)
    queue = path(np.where(has_feedback, played.satisfied, 0.0), np.where(has_feedback, alpha, 0.0), start)
    settled = np.append(np.maximum(0, np.arange(n) - delay), n)  # so many answers are judged before each request
    return replace(played, alpha=alpha, queue_before=queue[settled[:-1]], queue_after=queue[settled[1:]])


@dataclass(frozen=True, slots=True)
class Sums:
    """What one play comes to, or a part of it: sums over its requests, and where it stands at the end.

    `answers` got feedback, and `good` is the sum of their satisfaction; `good_all` is over all requests, `served` by
    model (models,). `alpha` is what was promised, on average where that changed on the way.
    """

    requests: int
    answers: int
    good: float
    good_all: float
    paid: float
    explored: int
    served: Floats
    alpha: float
    queue: float
    cost_scale: float | None

    @classmethod
    def of(cls, played: Played) -> Sums:
        """Sum over everything played."""
        has_feedback = ~np.isnan(played.satisfied)
        return cls(
            requests=len(played.order),
            answers=int(has_feedback.sum()),
            good=float(played.satisfied[has_feedback].sum()),
            good_all=float(played.satisfied_all.sum()),
            paid=float(played.cost.sum()),
            explored=0 if played.explored is None else int(played.explored.sum()),
            served=played.share * len(played.order),
            alpha=played.alpha,
            queue=played.queue_final,
            cost_scale=played.cost_scale,
        )

    def then(self, later: Sums) -> Sums:
        """Return the sums of this part and the one that follows."""
        sums = {name: getattr(self, name) + getattr(later, name) for name in ADDED}
        return replace(later, **sums)

    def beside(self, other: Sums) -> Sums:
        """Return the sums of two routers that share nothing: their debts add up too."""
        return replace(self.then(other), queue=self.queue + other.queue)


def result_of(name: str, source: Source, plays: Sequence[Sums], settings: Settings) -> Result:
    """Return what a policy attained and cost, from its plays under several seeds."""
    attained = [play.good / play.answers for play in plays if play.answers]
    certificates = [certificate(play.alpha, play.queue, play.answers) for play in plays]
    known = [value for value in certificates if value is not None]
    mean_cost = [play.paid / play.requests for play in plays]
    model_cost, model_satisfied = source.mean_cost[None], source.mean_satisfied[None]
    mix = 0.0
    if not source.partial:
        mix = float((cheapest_mixture(model_cost, model_satisfied, settings.alpha) * model_cost).sum())
    share = np.mean([play.served / play.requests for play in plays], axis=0)
    scale = plays[0].cost_scale
    several = len(plays) > 1
    mean_attained = fmean(attained) if attained else None
    cost = fmean(mean_cost)
    requests = plays[0].requests
    return Result(
        policy=name,
        v=settings.weight if scale else settings.v if kind_of(name).learns else None,
        c=settings.c if scale else None,
        requests=requests,
        attained=mean_attained,
        sla_met=None if mean_attained is None else mean_attained >= settings.alpha - MET,
        certificate=fmean(known) if known else None,
        mean_cost=cost,
        total_cost=cost * requests,
        cost_vs_costliest=_ratio(cost, float(np.nanmax(model_cost))),
        cost_vs_static_mix=_ratio(cost, mix),
        explored=fmean(play.explored / play.requests for play in plays),
        queue_final=fmean(play.queue for play in plays),
        model_share=dict(zip(source.zoo.models, share.tolist(), strict=True)),
        attained_all=None if source.partial else fmean(play.good_all / play.requests for play in plays),
        attained_spread=stdev(attained) if several and len(attained) > 1 else None,
        mean_cost_spread=stdev(mean_cost) if several else None,
        v_per_cost_unit=_ratio(settings.weight, scale) if scale else None,
    )


def _ratio(value: float, divisor: float) -> float | None:
    ratio = value / divisor if divisor > 0 else np.inf
    return ratio if np.isfinite(ratio) else None


def check_reachable(source: Source, alpha: float) -> None:
    """Raise UsageError where not even knowing all outcomes would attain α."""
    if not source.partial and alpha > source.reach + MET:
        means = source.mean_satisfied
        best = int(means.argmax())
        raise UsageError(
            f"alpha {alpha:g} is beyond every policy on {source.path}: even knowing all outcomes, "
            f"{source.reach:.4f} can be attained; the closest model, {source.zoo.models[best]!r}, "
            f"attains {means[best]:.4f}"
        )

"""Results of a replay: what every policy attained and cost, and under which conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

import numpy as np

from messctl.errors import UsageError
from messctl.learning.certificate import certificate
from messctl.learning.frontier import cheapest_mixture
from messctl.policies import Played, Rounds, kind_of
from messctl.policies.base import Floats
from messctl.replay.facts import TraceFacts
from messctl.replay.holdout import Holdout
from messctl.zoo import Settings

ADDED = ("requests", "answers", "satisfied", "satisfied_all", "cost", "explored", "served", "asks", "latency_s")
"""The fields of Sums that add up from one part of a play to the next."""

MET = 1e-9
"""Attainment may be below α by this much, the rounding error of a mean, and still meet it."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the requests arrive, and which get feedback.

    A share `feedback_rate` (0..1) of the requests gets feedback, after `feedback_delay` further requests. The seeds are
    `seed`, `seed` + 1, …, `seeds` of them. `shuffle` gives each seed an order of its own. With `replicas` > 1 the
    requests go in turn to this many routers, which share nothing. Raises UsageError for an impossible value.
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
    """What one policy attained and cost: means over the seeds.

    `requests` is the number of requests counted. `attained` (0..1) is over the answers with feedback, and the
    `certificate` bounds it from below; both are None without feedback, and so are `sla_met`, of that mean, and
    `met_share`, the share of the seeds that ended at or above α. `attained_all` is over all answers; None if not all
    outcomes are known. `queue_final` is the debt against α, even for a policy that aims above
    α. Costs are in the trace's unit; a ratio is None if its divisor is 0. `v` and `c` are None for a policy that does
    not use them, such as the bandit by default. `*_spread` is the standard deviation over seeds, None for one seed.
    `asks` ≥ 1 is the mean number of models asked per request, and `latency_s` the mean time until the answer was shown,
    None if the trace does not tell it.
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
    met_share: float | None
    asks: float
    latency_s: float | None


@dataclass(frozen=True, slots=True)
class Replay:
    """All results of one replay, its settings and conditions, and each policy's play under the first seed.

    `played` holds these plays by policy, and `rounds` the requests of the trace; both are empty if the replay was
    streamed. With a `holdout`, the results, `facts` and `rounds` are of the requests held out, and `played` is of all
    requests. If every seed holds out other requests, `facts`, `rounds` and the results of yardsticks are of all.
    """

    facts: TraceFacts
    settings: Settings
    conditions: Conditions
    results: tuple[Result, ...]
    played: Mapping[str, Played]
    rounds: Rounds | None = None
    holdout: Holdout | None = None

    @property
    def streamed(self) -> bool:
        """Whether it was played batch by batch."""
        return self.rounds is None

    @property
    def prompt_costs(self) -> bool:
        """Whether the policies knew the cost of reading each prompt in advance."""
        return self.rounds is not None and self.rounds.prompt_cost is not None

    @property
    def judged(self) -> Result:
        """The result that `--require-sla` checks; see `judged_of`."""
        policies = [result.policy for result in self.results]
        return self.results[policies.index(judged_of(policies, self.settings))]


def judged_of(policies: Sequence[str], settings: Settings) -> str:
    """Return the policy whose promise is checked.

    It is the settings' policy if that is among them, else the first router (a policy that learns), else the first.
    """
    routers = [name for name in policies if kind_of(name).learns]
    return settings.policy if settings.policy in policies else [*routers, *policies][0]


def check_reachable(facts: TraceFacts, alpha: float) -> None:
    """Raise UsageError if not even a policy that knows all outcomes attains α."""
    if not facts.partial and alpha > facts.reach + MET:
        means = facts.mean_satisfied
        best = int(means.argmax())
        raise UsageError(
            f"alpha {alpha:g} is beyond every policy on {facts.path}: with all outcomes known, "
            f"{facts.reach:.4f} can be attained; the best model, {facts.zoo.models[best]!r}, "
            f"attains {means[best]:.4f}; choose a lower alpha"
        )


@dataclass(frozen=True, slots=True)
class Sums:
    """What one play, or a part of it, adds up to.

    `answers` is the number of answers with feedback, and `satisfied` the sum of their satisfaction; `satisfied_all` is
    the sum over all requests. `cost` is in the trace's unit, `explored` the number of requests explored, and `served`
    the number of requests per model, (models,). `asks` is the number of answers, and `latency_s` the sum of the times
    until an answer was shown, NaN if it is unknown. `alpha`, `queue` and `cost_scale` are those at the end.
    """

    requests: int
    answers: int
    satisfied: float
    satisfied_all: float
    cost: float
    explored: int
    served: Floats
    asks: float
    latency_s: float
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
            satisfied=float(played.satisfied[has_feedback].sum()),
            satisfied_all=float(played.satisfied_all.sum()),
            cost=float(played.cost.sum()),
            explored=0 if played.explored is None else int(played.explored.sum()),
            served=played.share * len(played.order),
            asks=_asks(played),
            latency_s=np.nan if played.latency_s is None else float(played.latency_s.sum()),
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


def result_of(name: str, facts: TraceFacts, plays: Sequence[Sums], settings: Settings) -> Result:
    """Return what the policy `name` attained and cost, from one play per seed."""
    attained = [play.satisfied / play.answers for play in plays if play.answers]
    certificates = [certificate(play.alpha, play.queue, play.answers) for play in plays]
    known = [value for value in certificates if value is not None]
    mean_cost = [play.cost / play.requests for play in plays]
    model_cost, model_satisfied = facts.mean_cost[None], facts.mean_satisfied[None]
    mix = 0.0
    if not facts.partial:
        mix = float((cheapest_mixture(model_cost, model_satisfied, settings.alpha) * model_cost).sum())
    share = np.mean([play.served / play.requests for play in plays], axis=0)
    scale = plays[0].cost_scale
    several = len(plays) > 1
    mean_attained = fmean(attained) if attained else None
    cost = fmean(mean_cost)
    requests = plays[0].requests
    latency = fmean(play.latency_s / play.requests for play in plays)
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
        model_share=dict(zip(facts.zoo.models, share.tolist(), strict=True)),
        attained_all=None if facts.partial else fmean(play.satisfied_all / play.requests for play in plays),
        attained_spread=stdev(attained) if several and len(attained) > 1 else None,
        mean_cost_spread=stdev(mean_cost) if several else None,
        v_per_cost_unit=_ratio(settings.weight, scale) if scale else None,
        met_share=fmean(value >= settings.alpha - MET for value in attained) if attained else None,
        asks=fmean(play.asks / play.requests for play in plays),
        latency_s=latency if np.isfinite(latency) else None,
    )


def _asks(played: Played) -> float:
    """Return the number of answers: one per request, all models' if it was explored, or what a second look took."""
    if played.asks is not None:
        return float(played.asks.sum())
    explored = 0 if played.explored is None else int(played.explored.sum())
    return float(len(played.order) + explored * (len(played.zoo.models) - 1))


def _ratio(value: float, divisor: float) -> float | None:
    ratio = value / divisor if divisor > 0 else np.inf
    return ratio if np.isfinite(ratio) else None

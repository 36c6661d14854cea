"""Dominated models: another one satisfies at least as often for less, so a router may never need to ask them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from messctl.display.text import plain
from messctl.errors import UsageError
from messctl.policies import Rounds
from messctl.policies.base import Answers
from messctl.replay.loading import Recording
from messctl.replay.play import replay
from messctl.replay.result import MET
from messctl.tune.choice import Choice, Trial
from messctl.tune.search import Search
from messctl.tune.space import SINGLE
from messctl.zoo import Zoo, costliest


@dataclass(frozen=True, slots=True)
class Dominated:
    """The models of one trace that are never worth asking, each with the one that dominates it.

    Without them the chosen router still keeps α, and costs `saved` less per request, as a share of its cost, > 0.
    """

    models: Mapping[str, str]
    saved: float

    @property
    def words(self) -> str:
        """What there is to say, in one line."""
        pairs = ", ".join(
            f"{plain(model)} ({plain(better)} is as good for less)" for model, better in self.models.items()
        )
        return f"never worth asking: {pairs}; the router costs {self.saved:.1%} less without"


def never_worth_asking(found: Search, choice: Choice) -> tuple[Dominated | None, ...]:
    """Return, by trace, the models that the chosen router is better off without; None if there are none.

    The router is played again without all dominated models, under every seed. A model that is worse and more expensive
    on average may still be the best on some prompts: then dropping it saves nothing, and it is not named.
    """
    trial = choice.chosen
    if trial is None or found.interrupted:
        return (None,) * len(found.traces)
    return tuple(_better_without(found, choice.alpha, trial, at) for at in range(len(found.traces)))


def _better_without(found: Search, alpha: float, trial: Trial, at: int) -> Dominated | None:
    trace, cost = found.traces[at], trial.whole[at].cost
    models = dominated(trace)
    if not models or not cost or trial.settings.policy.startswith(f"{SINGLE}:"):
        return None
    less = Recording.of(trace.facts.path, trace.facts.cost_unit, without(trace.rounds, models))
    try:
        played = replay(less, [trial.settings.policy], trial.settings, found.conditions).judged
    except UsageError:  # no policy can reach α without them
        return None
    saved = 1.0 - played.mean_cost / cost
    return Dominated(models, saved) if saved > 0.0 and (played.attained or 0.0) >= alpha - MET else None


def dominated(trace: Recording) -> dict[str, str]:
    """Return the dominated models of a trace, each with the cheapest model that satisfies at least as often for less.

    Of two models that are equal in both, neither is dominated. At least two models are left.
    """
    facts = trace.facts
    means, costs, models = facts.mean_satisfied, facts.mean_cost, facts.zoo.models
    worse: dict[str, str] = {}
    for index, model in enumerate(models):
        better = (means >= means[index]) & (costs <= costs[index]) & ((means > means[index]) | (costs < costs[index]))
        if better.any():
            worse[model] = models[min(np.flatnonzero(better), key=lambda other: costs[other])]
    return worse if len(models) - len(worse) >= 2 else {}


def without(rounds: Rounds, models: Mapping[str, str]) -> Rounds:
    """Return the same requests for a zoo without these models; if the reference is one, the costliest left is it."""
    zoo, seen = rounds.zoo, rounds.answers
    left = [index for index, model in enumerate(zoo.models) if model not in models]
    names = [zoo.models[index] for index in left]
    costs = dict(zip(names, rounds.cost[:, left].mean(axis=0).tolist(), strict=True))
    reference = zoo.reference if zoo.reference in names else costliest(costs)
    return replace(
        rounds,
        zoo=Zoo.of(names, reference),
        satisfied=np.ascontiguousarray(rounds.satisfied[:, left]),
        cost=np.ascontiguousarray(rounds.cost[:, left]),
        answers=None if seen is None else Answers(seen.group[:, left], seen.logprob[:, left]),
        latency_s=None if rounds.latency_s is None else rounds.latency_s[:, left],
        prompt_cost=None if rounds.prompt_cost is None else np.ascontiguousarray(rounds.prompt_cost[:, left]),
    )
